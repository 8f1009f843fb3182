import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

// `scripts/setup.mjs` on machines that lack something, which stand-ins for the tools play.

const root = resolve(__dirname, '..')

/** A checkout that was never set up, apart from its npm packages. */
let checkout: string
/** The only folder on the PATH. */
let tools: string

beforeEach(() => {
  checkout = mkdtempSync(join(tmpdir(), 'nodemlx-setup-'))
  tools = join(checkout, 'tools')
  mkdirSync(tools)
  for (const name of ['Cargo.toml', 'Cargo.lock', 'package.json', 'package-lock.json']) {
    cpSync(join(root, name), join(checkout, name))
  }
  for (const name of ['scripts', 'native']) {
    cpSync(join(root, name), join(checkout, name), { recursive: true })
  }
  symlinkSync(join(root, 'node_modules'), join(checkout, 'node_modules'))
})

afterEach(() => {
  rmSync(checkout, { recursive: true, force: true })
})

/** A tool that prints a line and succeeds, whatever it is asked. */
function tool(name: string, prints: string): void {
  const path = join(tools, name)
  writeFileSync(path, `#!/bin/sh\necho '${prints}'\n`)
  chmodSync(path, 0o755)
}

function setUp(): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(checkout, 'scripts', 'setup.mjs')],
    { env: { PATH: tools, HOME: checkout }, encoding: 'utf8' },
  )
  return { status, output: stdout + stderr }
}

describe('set-up says what to type', () => {
  test('where there is no Rust', () => {
    const { status, output } = setUp()
    expect(status).toBe(1)
    expect(output).toContain('Rust 1.')
    expect(output).toContain('https://sh.rustup.rs')
  })

  test('where Rust is too old', () => {
    tool('cargo', 'cargo 1.70.0')
    tool('rustc', 'rustc 1.70.0 (90c541806 2023-05-31)')
    const { status, output } = setUp()
    expect(status).toBe(1)
    expect(output).toContain('this is 1.70.0')
    expect(output).toContain('rustup update stable')
  })
})

describe.runIf(process.platform === 'linux')('on Linux, set-up', () => {
  beforeEach(() => {
    tool('cargo', 'cargo 1.999.0')
    tool('rustc', 'rustc 1.999.0 (000000000 2099-01-01)')
    tool('getconf', 'glibc 2.36')
  })

  test('names the compiler that is missing', () => {
    const { status, output } = setUp()
    expect(status).toBe(1)
    expect(output).toContain('A C++ compiler is needed, and there is no g++.')
  })

  test('refuses a compiler that is too old', () => {
    tool('g++', '9.4.0')
    const { status, output } = setUp()
    expect(status).toBe(1)
    expect(output).toContain('g++ 12 or later is needed; this is 9.4.0.')
  })

  test('refuses a C library that MLX does not run with', () => {
    tool('getconf', 'glibc 2.31')
    const { status, output } = setUp()
    expect(status).toBe(1)
    expect(output).toContain('this system has glibc 2.31')
  })

  test('names Python where it has to download and there is none', () => {
    tool('g++', '12.2.0')
    const { status, output } = setUp()
    expect(status).toBe(1)
    expect(output).toContain('Python 3 is needed to download MLX')
  })

  test("leaves somebody's own cargo configuration alone", () => {
    tool('g++', '12.2.0')
    const config = join(checkout, '.cargo', 'config.toml')
    mkdirSync(join(checkout, '.cargo'))
    writeFileSync(config, '[net]\noffline = true\n')
    const { status, output } = setUp()
    expect(status).toBe(1)
    expect(output).toContain('config.toml is not ours')
    expect(readFileSync(config, 'utf8')).toBe('[net]\noffline = true\n')
  })
})

test('set-up has nothing to do the second time', () => {
  const again = (): string =>
    spawnSync(process.execPath, [join(root, 'scripts', 'setup.mjs')], { encoding: 'utf8' }).stderr
  again()
  expect(again()).toBe('Everything is set up.\n')
})
