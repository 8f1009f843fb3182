// The package under other runtimes than Node.js, in a program of one file, and in the layouts of
// other package managers; their tools are installed into .build/ when they are first needed.

import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { installTools, linkFolder, makeApp, PLATFORM } from './support/app.js'
import { ROOT, runProgram, type ChildOptions } from './support/child.js'

/** The packages with the programs of each platform, without the scripts that would fetch them. */
const PROGRAMS: Readonly<Record<string, Record<'bun' | 'deno' | 'pnpm', string>>> = {
  'linux-x64': {
    bun: '@oven/bun-linux-x64',
    deno: '@deno/linux-x64-glibc',
    pnpm: '@pnpm/exe.linux-x64',
  },
  'linux-arm64': {
    bun: '@oven/bun-linux-aarch64',
    deno: '@deno/linux-arm64-glibc',
    pnpm: '@pnpm/exe.linux-arm64',
  },
  'darwin-arm64': {
    bun: '@oven/bun-darwin-aarch64',
    deno: '@deno/darwin-arm64',
    pnpm: '@pnpm/exe.darwin-arm64',
  },
}
const NAMES = PROGRAMS[PLATFORM]
const HOME = join(ROOT, '.build', 'runtimes')
const APP = join(HOME, 'app')
const tool = (...path: string[]): string => join(HOME, 'node_modules', ...path)
const bun = tool(NAMES?.bun ?? '', 'bin', 'bun')
const deno = tool(NAMES?.deno ?? '', 'deno')
const pnpm = tool(NAMES?.pnpm ?? '', 'pnpm')

/** Asks the demo model by import, and again by require. */
const PROGRAM = `
import { createRequire } from 'node:module'
import { loadModel, NodeMlxError } from 'nodemlx'
const model = await loadModel('demo')
let text = ''
const options = { temperature: 0 }
const { textStream } = model.generate('What is the capital of France?', options)
for await (const piece of textStream) text += piece
await model.dispose()
const required = createRequire(import.meta.url)('nodemlx')
const { finishReason } = await required.generate('demo', 'Hi!', { maxTokens: 2 })
const codeOf = (error) => error instanceof NodeMlxError && error.code
const code = await loadModel('/no/model').catch(codeOf)
const same = required.NodeMlxError === NodeMlxError
console.log(JSON.stringify({ text, finishReason, code, same }))
`
const ANSWER = {
  text: expect.stringContaining('Paris') as string,
  finishReason: 'length',
  code: 'MODEL_NOT_FOUND',
  same: true,
}

async function run(command: string, args: string[], options: ChildOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await runProgram(command, args, { cwd: APP, ...options })
  expect(code, stdout + stderr).toBe(0)
  return stdout
}

const json = async (printed: Promise<string>): Promise<unknown> => JSON.parse(await printed)

beforeAll(() => {
  installTools(HOME, {
    [NAMES?.bun ?? '']: '1.4.5',
    [NAMES?.deno ?? '']: '2.9.6',
    [NAMES?.pnpm ?? '']: '12.21.0',
    '@yarnpkg/cli-dist': '4.18.1',
    postject: '1.0.0-alpha.6',
  })
  makeApp(APP)
  writeFileSync(join(APP, 'main.mjs'), PROGRAM)
}, 300_000)

afterAll(() => {
  rmSync(APP, { recursive: true, force: true })
})

describe('Node.js', () => {
  it('has one addon for modules and CommonJS', async () => {
    writeFileSync(
      join(APP, 'shared.mjs'),
      `${PROGRAM}
       const { sharedObjects } = process.report.getReport()
       console.log(sharedObjects.filter((path) => path.endsWith('nodemlx.node')).length)`,
    )
    const [answer = '', addons] = (await run(process.execPath, ['shared.mjs'])).split('\n')
    expect([JSON.parse(answer), addons]).toEqual([ANSWER, '1'])
  })

  it('makes a program of one file that finds the packages beside it', async () => {
    writeFileSync(
      join(APP, 'sea.cjs'),
      `const { createRequire } = require('node:module')
       const { generate } = createRequire(process.execPath)('nodemlx')
       generate('demo', 'What is the capital of France?', { temperature: 0 })
         .then(({ text }) => console.log(text))`,
    )
    const config = { main: 'sea.cjs', output: 'sea.blob', disableExperimentalSEAWarning: true }
    writeFileSync(join(APP, 'sea.json'), JSON.stringify(config))
    await run(process.execPath, ['--experimental-sea-config', 'sea.json'])
    copyFileSync(process.execPath, join(APP, 'program'))
    const isMac = process.platform === 'darwin'
    if (isMac) await run('codesign', ['--remove-signature', 'program'])
    // The mark of Node.js's own documentation, where the program is put in.
    const fuse = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2'
    const postject = tool('postject', 'dist', 'cli.js')
    const into = ['program', 'NODE_SEA_BLOB', 'sea.blob', '--sentinel-fuse', fuse]
    await run(process.execPath, [
      postject,
      ...into,
      ...(isMac ? ['--macho-segment-name', 'NODE_SEA'] : []),
    ])
    if (isMac) await run('codesign', ['--sign', '-', 'program'])
    expect(await run(join(APP, 'program'), [])).toContain('Paris')
  })
})

describe.each([
  ['Bun', bun, [], `Bun.serve({ port: 0, hostname: '127.0.0.1', fetch: handler }).port`],
  [
    'Deno',
    deno,
    ['run', '--allow-all', '--no-prompt'],
    `Deno.serve({ port: 0, hostname: '127.0.0.1', onListen() {} }, handler).addr.port`,
  ],
])('%s', (_, program, flags, serve) => {
  it('answers, by import and by require', async () => {
    expect(await json(run(program, [...flags, 'main.mjs']))).toEqual(ANSWER)
  })

  it('serves', async () => {
    writeFileSync(
      join(APP, 'server.mjs'),
      `import { createHandler } from 'nodemlx/server'
       const handler = createHandler({ models: ['demo'] })
       const port = ${serve}
       const response = await fetch('http://127.0.0.1:' + port + '/v1/completions', {
         method: 'POST',
         headers: { 'content-type': 'application/json' },
         body: JSON.stringify({ model: 'demo', prompt: 'Paris is', max_tokens: 2, stream: true }),
       })
       console.log((await response.text()).trim().split('\\n').at(-1))
       await handler.close()
       process.exit()`,
    )
    expect(await run(program, [...flags, 'server.mjs'])).toBe('data: [DONE]\n')
  })
})

describe('the layout of', () => {
  const SOURCES = join(HOME, 'packages')
  const folder = join(HOME, 'layout')
  const manifest = (path: string): Record<string, unknown> =>
    JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>

  beforeAll(() => {
    for (const path of [SOURCES, folder]) rmSync(path, { recursive: true, force: true })
    // As the package is published: with the addon's package as an optional dependency.
    cpSync(join(APP, 'node_modules', 'nodemlx'), join(SOURCES, 'nodemlx'), { recursive: true })
    const path = join(SOURCES, 'nodemlx', 'package.json')
    const { devDependencies, scripts, ...published } = manifest(path)
    expect([devDependencies, scripts]).not.toContain(undefined)
    const addon = { [`@nodemlx/${PLATFORM}`]: published['version'] }
    writeFileSync(path, JSON.stringify({ ...published, optionalDependencies: addon }))
    linkFolder(join(ROOT, 'npm', PLATFORM), join(SOURCES, 'addon'))
    mkdirSync(folder)
    copyFileSync(join(APP, 'main.mjs'), join(folder, 'main.mjs'))
  })
  afterAll(() => {
    for (const path of [SOURCES, folder]) rmSync(path, { recursive: true, force: true })
  })

  const write = (name: string, text: string): void => {
    writeFileSync(join(folder, name), text)
  }
  const dependencies = { nodemlx: 'file:../packages/nodemlx' }

  it('pnpm works', async () => {
    write('package.json', JSON.stringify({ private: true, dependencies }))
    write('pnpm-workspace.yaml', `overrides:\n  '@nodemlx/${PLATFORM}': file:../packages/addon\n`)
    const store = join(HOME, 'pnpm-store')
    const flags = ['install', '--offline', '--ignore-scripts', '--store-dir', store]
    await run(pnpm, flags, { cwd: folder })
    expect(await json(run(process.execPath, ['main.mjs'], { cwd: folder }))).toEqual(ANSWER)
    rmSync(join(folder, 'node_modules'), { recursive: true })
  })

  it('Yarn Plug’n’Play works', async () => {
    const resolutions = { [`@nodemlx/${PLATFORM}`]: 'portal:../packages/addon' }
    write('package.json', JSON.stringify({ private: true, dependencies, resolutions }))
    write('yarn.lock', '')
    write(
      '.yarnrc.yml',
      [
        'nodeLinker: pnp',
        'pnpEnableEsmLoader: true',
        'enableNetwork: false',
        'enableScripts: false',
        'enableTelemetry: false',
        'enableGlobalCache: false',
      ].join('\n'),
    )
    const yarn = tool('@yarnpkg', 'cli-dist', 'bin', 'yarn.js')
    // On CI Yarn would refuse to write its lock file.
    const options = { cwd: folder, environment: { CI: undefined, YARN_IGNORE_PATH: '1' } }
    await run(process.execPath, [yarn, 'install'], options)
    const printed = run(process.execPath, [yarn, 'node', 'main.mjs'], options)
    expect(await json(printed)).toEqual(ANSWER)
  })
})
