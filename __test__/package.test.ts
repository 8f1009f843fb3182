import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve, sep } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { VERSION } from '../js/index.js'

// What people install: both tarballs in a folder elsewhere, with install scripts blocked and
// without a network.

const root = resolve(__dirname, '..')
const platform = `${process.platform}-${process.arch}`
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }

const BLOCKED = ['--ignore-scripts', '--offline', '--no-audit', '--no-fund']

/** A program's folder; its name has a space, as many a person's has. */
let app: string
let tarballs: { main: string; platform: string }

/** Nothing of this process's environment that could help to find libraries or models. */
function environment(): NodeJS.ProcessEnv {
  return {
    PATH: process.env['PATH'],
    HOME: app,
    npm_config_cache: join(app, 'npm-cache'),
    npm_config_update_notifier: 'false',
  }
}

function npm(folder: string, ...args: string[]): string {
  return execFileSync('npm', args, {
    cwd: folder,
    env: environment(),
    encoding: 'utf8',
    stdio: 'pipe',
  })
}

/**
 * A command in front of Node under which the checkout is an empty folder, so that nothing in it can
 * help. Where mounting is not allowed the loaded libraries are all that is checked.
 */
const hiding = ['-rm', 'sh', '-c', 'mount -t tmpfs none "$0" && exec "$@"', root]
const canHide =
  spawnSync('unshare', [...hiding, 'test', '!', '-e', join(root, 'package.json')]).status === 0

/** Runs a program in the app's folder, and gives back the JSON that it printed. */
function runNode(file: string, folder = app): unknown {
  const node = [process.execPath, file]
  const [command, ...args] = canHide ? ['unshare', ...hiding, ...node] : node
  const { status, stdout, stderr } = spawnSync(command ?? '', args, {
    cwd: folder,
    env: environment(),
    encoding: 'utf8',
  })
  expect(stderr).toBe('')
  expect(status).toBe(0)
  return JSON.parse(stdout)
}

beforeAll(() => {
  app = realpathSync(mkdtempSync(join(tmpdir(), 'nodemlx app ')))
  const pack = join(root, 'scripts', 'pack.mjs')
  const printed = execFileSync(process.execPath, [pack, '--any-profile', '--out', app], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [main = '', native = ''] = printed.split('\n').map((line) => line.split('  ')[0] ?? '')
  tarballs = { main, platform: native }
  writeFileSync(join(app, 'package.json'), '{ "private": true }\n')
  npm(app, 'install', ...BLOCKED, main, native)
}, 1_800_000)

afterAll(() => {
  rmSync(app, { recursive: true, force: true })
})

const ANSWER = `
  const { text } = await generate('demo', 'What is the capital of France?', { maxTokens: 32, temperature: 0 })
  const libraries = process.report.getReport().sharedObjects
  report({ text, libraries })
`

/**
 * Checks an answer, and that each library of ours that was loaded is one of the installed package.
 */
function expectAnswer(result: unknown): void {
  const { text, libraries } = result as { text: string; libraries: string[] }
  expect(text).toContain('Paris')
  const installed = join(app, 'node_modules', '@nodemlx', platform) + sep
  const ours = libraries.filter((path) => /nodemlx|mlx|blas|lapack|gfortran/.test(path))
  expect(ours.length).toBeGreaterThan(0)
  for (const path of ours) expect(path.startsWith(installed), path).toBe(true)
}

describe('the packed packages, installed elsewhere', () => {
  test('generate text from an ES module', () => {
    writeFileSync(
      join(app, 'main.mjs'),
      `import { generate } from 'nodemlx'
       const report = (result) => console.log(JSON.stringify(result))
       ${ANSWER}`,
    )
    expectAnswer(runNode('main.mjs'))
  })

  test('generate text from CommonJS', () => {
    writeFileSync(
      join(app, 'main.cjs'),
      `const { generate } = require('nodemlx')
       const report = (result) => console.log(JSON.stringify(result))
       async function main() { ${ANSWER} }
       main()`,
    )
    expectAnswer(runNode('main.cjs'))
  })

  test('generate text in a worker thread', () => {
    writeFileSync(
      join(app, 'worker.mjs'),
      `import { parentPort } from 'node:worker_threads'
       import { generate } from 'nodemlx'
       const report = (result) => parentPort.postMessage(result)
       ${ANSWER}`,
    )
    writeFileSync(
      join(app, 'with-worker.mjs'),
      `import { Worker } from 'node:worker_threads'
       const worker = new Worker(new URL('worker.mjs', import.meta.url))
       worker.on('message', (result) => console.log(JSON.stringify(result)))`,
    )
    expectAnswer(runNode('with-worker.mjs'))
  })

  test.each(['mjs', 'cjs'])('serve requests and the chat page: .%s', (form) => {
    const file = `server.${form}`
    writeFileSync(
      join(app, file),
      `${form === 'mjs' ? "import { createHandler } from 'nodemlx/server'" : "const { createHandler } = require('nodemlx/server')"}
       async function main() {
         const handler = createHandler({ models: ['demo'] })
         const page = await handler(new Request('http://localhost/'))
         const body = { model: 'demo', prompt: 'Paris is', max_tokens: 2 }
         const answer = await handler(new Request('http://localhost/v1/completions', {
           method: 'POST',
           headers: { 'content-type': 'application/json' },
           body: JSON.stringify(body),
         }))
         const { usage } = await answer.json()
         await handler.close()
         console.log(JSON.stringify({ page: page.status, tokens: usage.completion_tokens }))
       }
       main()`,
    )
    expect(runNode(file)).toEqual({ page: 200, tokens: 2 })
  })

  test('bring a command', () => {
    const command = join(app, 'node_modules', '.bin', 'nodemlx')
    const printed = execFileSync(command, ['--version'], { env: environment(), encoding: 'utf8' })
    expect(printed).toContain(manifest.version)
  })

  test('run nothing when they are installed', () => {
    const lock = readFileSync(join(app, 'package-lock.json'), 'utf8')
    expect(lock).toContain('node_modules/nodemlx')
    expect(lock).not.toContain('hasInstallScript')
  })

  test('carry the licences of what they contain, and no sources', () => {
    const native = npm(app, 'pack', '--dry-run', '--json', tarballs.platform)
    const main = npm(app, 'pack', '--dry-run', '--json', tarballs.main)
    const files = (json: string): string[] =>
      (JSON.parse(json) as { files: { path: string }[] }[])[0]?.files.map(({ path }) => path) ?? []
    expect(files(native)).toEqual(
      expect.arrayContaining(['LICENSE', 'THIRD-PARTY-LICENSES', 'nodemlx.node']),
    )
    expect(files(main)).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'dist/index.js']))
    expect(files(main).filter((path) => !/^(dist|docs|models)\/|^[^/]+$/.test(path))).toEqual([])
  })

  test.runIf(process.platform === 'linux')('carry no symbols that nothing needs', () => {
    const installed = join(app, 'node_modules', '@nodemlx', platform)
    for (const name of ['nodemlx.node', join('mlx', 'lib', 'libmlx.so')])
      expect(readFileSync(join(installed, name)).includes('.symtab'), name).toBe(false)
  })

  test('can be published', () => {
    for (const tarball of [tarballs.platform, tarballs.main]) {
      const flags = ['--dry-run', '--json', '--access', 'public', '--ignore-scripts', '--offline']
      const printed = npm(app, 'publish', tarball, ...flags)
      // Some versions of npm have the report under the package's name.
      const said = JSON.parse(printed) as Record<string, unknown>
      const [report] = 'id' in said ? [said] : Object.values(said)
      const { id, unpackedSize } = report as { id: string; unpackedSize: number }
      expect(id).toMatch(new RegExp(`^(@nodemlx/${platform}|nodemlx)@${manifest.version}$`))
      expect(unpackedSize).toBeGreaterThan(0)
    }
  })

  test('have the page of an error', () => {
    writeFileSync(
      join(app, 'page.mjs'),
      `import { readFileSync } from 'node:fs'
       import { loadModel } from 'nodemlx'
       const { url } = await loadModel('/no/model').catch((error) => error)
       console.log(JSON.stringify(readFileSync(new URL(url), 'utf8')))`,
    )
    expect(runNode('page.mjs')).toMatch(/^# MODEL_NOT_FOUND/)
  })

  test('say which package is missing where the platform package is', () => {
    // Beside the app and not in it: Node looks in the folders above too.
    const alone = realpathSync(mkdtempSync(join(tmpdir(), 'nodemlx-alone-')))
    writeFileSync(join(alone, 'package.json'), '{ "private": true }\n')
    npm(alone, 'install', '--omit=optional', ...BLOCKED, tarballs.main)
    writeFileSync(
      join(alone, 'main.mjs'),
      `import { isSupported, loadModel } from 'nodemlx'
       const error = await loadModel('demo').catch((error) => error)
       console.log(JSON.stringify({ supported: isSupported(), code: error.code, message: error.message }))`,
    )
    const result = runNode('main.mjs', alone) as Record<string, unknown>
    rmSync(alone, { recursive: true })
    expect(result['supported']).toBe(false)
    expect(result['code']).toBe('ADDON_UNAVAILABLE')
    expect(result['message']).toContain(platform)
    expect(result['message']).toContain(`npm install @nodemlx/${platform}`)
  })
})

test('the crate and the package have the same version', () => {
  const crate = readFileSync(join(root, 'Cargo.toml'), 'utf8')
  expect(/^version = "(.+)"$/m.exec(crate)?.[1]).toBe(manifest.version)
  expect(VERSION).toBe(manifest.version)
})

test('every platform that the main package asks for has a package', () => {
  for (const name of ['darwin-arm64', 'linux-arm64', 'linux-x64', 'linux-x64-cuda13']) {
    const path = join(root, 'npm', name, 'package.json')
    expect(existsSync(path), path).toBe(true)
    const described = JSON.parse(readFileSync(path, 'utf8')) as {
      name: string
      os: string[]
      cpu: string[]
    }
    expect(described.name).toBe(`@nodemlx/${name}`)
    expect(`${described.os.join()}-${described.cpu.join()}`).toBe(name.replace('-cuda13', ''))
  }
})

test('the changelog has the version', () => {
  const script = join(root, 'scripts', 'changelog.mjs')
  const notes = (version: string) =>
    spawnSync(process.execPath, [script, version], { encoding: 'utf8' })
  expect(notes(manifest.version).stdout).not.toBe('')
  expect(notes('0.0.1').stderr).toContain('no section "## 0.0.1"')
})
