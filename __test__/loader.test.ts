// The package without its addon, and where the addon cannot be loaded: copies of dist/ in folders
// of their own.

import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ROOT, runProgram } from './support/child.js'

const PLATFORM = `${process.platform}-${process.arch}`

let home: string
let installed: string

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'nodemlx-'))
  // The folder of a program, whatever lies above it.
  writeFileSync(join(home, 'package.json'), '{}')
  installed = join(home, 'node_modules', 'nodemlx')
  mkdirSync(installed, { recursive: true })
  cpSync(join(ROOT, 'dist'), join(installed, 'dist'), { recursive: true })
  cpSync(join(ROOT, 'package.json'), join(installed, 'package.json'))
})

afterEach(() => {
  rmSync(home, { recursive: true })
})

/** Installs something that stands for the addon's package. */
function installAddon(files: Record<string, string>): void {
  const folder = join(home, 'node_modules', '@nodemlx', PLATFORM)
  mkdirSync(folder, { recursive: true })
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
}

/** What the package says of itself there, after \`before\` was run. */
async function report(
  before = '',
): Promise<{ supported: boolean; platform: boolean; code: string; message: string }> {
  const { code, stdout, stderr } = await runProgram(
    process.execPath,
    [
      '-e',
      `
    ${before}
    const { isSupported, isPlatformSupported, loadModel, NodeMlxError } = require('nodemlx')
    const [supported, platform] = [isSupported(), isPlatformSupported()]
    loadModel('demo').catch((error) => {
      if (!(error instanceof NodeMlxError)) throw error
      console.log(JSON.stringify({ supported, platform, code: error.code, message: error.message }))
    })
  `,
    ],
    { cwd: home },
  )
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout) as Awaited<ReturnType<typeof report>>
}

describe('the addon', () => {
  it('that is not installed is asked for by name', async () => {
    const { message, ...rest } = await report()
    expect(rest).toEqual({ supported: false, platform: true, code: 'ADDON_UNAVAILABLE' })
    expect(message).toContain(`The native addon for ${PLATFORM} is not installed`)
    expect(message).toContain(join(installed, 'npm', PLATFORM, 'nodemlx.node'))
    expect(message).toMatch(new RegExp(`npm install @nodemlx/${PLATFORM}@\\d+\\.\\d+\\.\\d+`))
  })

  it('that cannot be loaded is named with the reason', async () => {
    installAddon({ 'package.json': '{ "main": "nodemlx.node" }', 'nodemlx.node': 'no library' })
    const { message, ...rest } = await report()
    expect(rest).toEqual({ supported: false, platform: true, code: 'ADDON_UNAVAILABLE' })
    expect(message).toMatch(
      new RegExp(`could not be loaded:\n  @nodemlx/${PLATFORM}: .+nodemlx.node`),
    )
  })

  it('that lacks a file of its own is not taken for one that is not installed', async () => {
    installAddon({ 'package.json': '{ "main": "index.js" }', 'index.js': "require('./gone.js')" })
    expect((await report()).message).toMatch(/could not be loaded:\n.*gone\.js/)
  })

  it('is taken from the package of the platform', async () => {
    installAddon({
      'package.json': '{ "main": "index.js" }',
      'index.js': `exports.loadModel = () => { throw Object.assign(new Error('from the package'), { code: 'IO_ERROR' }) }`,
    })
    mkdirSync(join(installed, 'models', 'demo'), { recursive: true })
    expect(await report()).toMatchObject({
      supported: true,
      code: 'IO_ERROR',
      message: 'from the package',
    })
  })

  it('does not exist for every platform', async () => {
    const on = (platform: string, arch: string) =>
      report(
        `Object.defineProperties(process, { platform: { value: '${platform}' }, arch: { value: '${arch}' } })`,
      )
    expect(await on('win32', 'x64')).toEqual({
      supported: false,
      platform: false,
      code: 'UNSUPPORTED_PLATFORM',
      message:
        'There is no build of nodemlx for win32-x64; it runs on darwin-arm64, linux-x64, linux-arm64.',
    })
    expect(await on('darwin', 'x64')).toMatchObject({
      platform: false,
      code: 'UNSUPPORTED_PLATFORM',
    })
  })
})

describe('the demo model', () => {
  it('that is missing is said to be', async () => {
    installAddon({ 'package.json': '{ "main": "index.js" }', 'index.js': '' })
    expect(await report()).toMatchObject({
      code: 'MODEL_NOT_FOUND',
      message: expect.stringContaining(join(installed, 'models', 'demo')) as string,
    })
  })
})

describe('import and require', () => {
  it('give the same things, under the same names', async () => {
    const { code, stdout, stderr } = await runProgram(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `
      import * as imported from 'nodemlx'
      import { createRequire } from 'node:module'
      const required = createRequire(import.meta.url)('nodemlx')
      console.log(JSON.stringify(Object.keys(imported).sort()))
      console.log(JSON.stringify(Object.keys(required).sort()))
      console.log(Object.keys(imported).every((name) => imported[name] === required[name]))
    `,
      ],
      { cwd: home },
    )
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const [imported, required, same] = stdout.split('\n')
    expect(imported).toBe(required)
    expect(imported).toContain('loadModel')
    expect(same).toBe('true')
  })
})
