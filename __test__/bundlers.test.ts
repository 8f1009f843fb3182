// The package in programs that a bundler has put together, or whose files a tool has traced and
// copied: with the tools themselves, which are installed into .build/ when they are first needed.

import { execFileSync } from 'node:child_process'
import { cpSync, linkSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { build as vite, type SSROptions } from 'vite'
import { installTools, makeApp, PLATFORM } from './support/app.js'
import { ROOT, runProgram } from './support/child.js'

const TOOLS = {
  '@rollup/plugin-commonjs': '29.0.3',
  '@rollup/plugin-node-resolve': '16.0.3',
  '@vercel/nft': '1.11.5',
  esbuild: '0.28.2',
  rollup: '4.68.8',
  webpack: '5.113.0',
}

/** Outside of what git knows, and on the same disk as the addon. */
const HOME = join(ROOT, '.build', 'bundlers')
const APP = join(HOME, 'app')
const requireTool = createRequire(join(HOME, 'package.json'))

const PROGRAM = `
const report = (value) => console.log(JSON.stringify(value))
async function main() {
  const supported = isSupported()
  const answer = await generate('demo', 'What is the capital of France?', { temperature: 0 }).catch(
    ({ code, message }) => ({ code, text: message }),
  )
  // What comes with the other entries does without the addon.
  const handler = createHandler({ models: { fake: fakeModel({ answers: 'Hello!' }) } })
  const messages = [{ role: 'user', content: 'Hi!' }]
  const asked = await handler(
    new Request('http://localhost/v1/chat/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'fake', messages }),
    }),
  )
  const { choices } = await asked.json()
  const page = await handler(new Request('http://localhost/'))
  await handler.close()
  const { specificationVersion } = createNodeMlx().languageModel('demo')
  const { port1, port2 } = new MessageChannel()
  serve(port2, { load: async () => fakeModel({ answers: '' }) })
  const loaded = await connect(port1).loadModel('any').then(({ info }) => info.path, String)
  const entries = [choices[0].message.content, page.status, specificationVersion, loaded]
  port1.close()
  report({ version: VERSION, supported, code: answer.code, text: answer.text, entries })
}
main()
`
const ENTRIES: readonly (readonly [string, string])[] = [
  ['generate, isSupported, VERSION', 'nodemlx'],
  ['createNodeMlx', 'nodemlx/ai-sdk'],
  ['connect, serve', 'nodemlx/client'],
  ['createHandler', 'nodemlx/server'],
  ['fakeModel', 'nodemlx/testing'],
]
const IMPORTS = ENTRIES.map(([names, entry]) => `import { ${names} } from '${entry}'\n`).join('')
const REQUIRES = ENTRIES.map(([names, entry]) => `const { ${names} } = require('${entry}')\n`).join(
  '',
)

/** What the program's handler, page, provider and client gave. */
const ENTRIES_WORK = ['Hello!', 200, 'v4', expect.any(String)]

beforeAll(() => {
  installTools(HOME, TOOLS)
  makeApp(APP)
  writeFileSync(join(APP, 'main.mjs'), IMPORTS + PROGRAM)
}, 300_000)

afterAll(() => {
  rmSync(APP, { recursive: true, force: true })
})

interface Report {
  version: string
  supported: boolean
  code?: string
  text: string
  entries: unknown[]
}

async function report(file: string): Promise<Report> {
  const { code, stdout, stderr } = await runProgram(process.execPath, [file], {
    cwd: dirname(file),
  })
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout) as Report
}

type Bundler = (file: string) => Promise<unknown[]>

/** Each makes a bundle of main.mjs, and gives what it complained about. */
const BUNDLERS: Record<string, Bundler> = {
  'esbuild, a module': (file) => esbuild(file, 'esm'),
  'esbuild, CommonJS': (file) => esbuild(file, 'cjs'),
  'webpack, CommonJS': (file) => webpack(file, {}),
  'webpack, a module': (file) =>
    webpack(file, {
      output: { module: true, chunkFormat: 'module', library: { type: 'module' } },
      experiments: { outputModule: true },
    }),
  'rollup, a module': (file) => rollup(file, 'es'),
  'rollup, CommonJS': (file) => rollup(file, 'cjs'),
  'vite, a module': (file) => bundleByVite(file, { noExternal: true }),
}

/** The settings of the page on bundlers, which leave the package where it is installed. */
const EXTERNAL: Record<string, Bundler> = {
  esbuild: (file) => esbuild(file, 'esm', ['nodemlx']),
  rollup: (file) => rollup(file, 'es', [/^nodemlx\b/]),
  vite: (file) => bundleByVite(file, { external: ['nodemlx'] }),
  webpack: (file) => webpack(file, { externalsType: 'node-commonjs', externals: [/^nodemlx\b/] }),
}

async function bundleByVite(file: string, ssr: SSROptions): Promise<unknown[]> {
  await vite({
    root: APP,
    configFile: false,
    logLevel: 'silent',
    ssr,
    build: {
      ssr: 'main.mjs',
      outDir: dirname(file),
      emptyOutDir: false,
      rolldownOptions: { output: { entryFileNames: basename(file) } },
    },
  })
  return []
}

async function esbuild(
  outfile: string,
  format: 'cjs' | 'esm',
  external: string[] = [],
): Promise<unknown[]> {
  const { build } = requireTool('esbuild') as {
    build: (options: object) => Promise<{ warnings: unknown[] }>
  }
  const { warnings } = await build({
    absWorkingDir: APP,
    entryPoints: ['main.mjs'],
    bundle: true,
    platform: 'node',
    format,
    external,
    outfile,
    logLevel: 'silent',
  })
  return warnings
}

async function rollup(
  file: string,
  format: 'cjs' | 'es',
  external: RegExp[] = [],
): Promise<unknown[]> {
  interface Bundle {
    write: (options: object) => Promise<unknown>
    close: () => Promise<void>
  }
  const { rollup: bundle } = requireTool('rollup') as {
    rollup: (options: object) => Promise<Bundle>
  }
  const { nodeResolve } = requireTool('@rollup/plugin-node-resolve') as {
    nodeResolve: (options: object) => object
  }
  const commonjs = requireTool('@rollup/plugin-commonjs') as (options?: object) => object
  const warnings: unknown[] = []
  const made = await bundle({
    input: join(APP, 'main.mjs'),
    external,
    plugins: [nodeResolve({ exportConditions: ['node'], preferBuiltins: true }), commonjs()],
    onwarn: (warning: { message: string }) => warnings.push(warning.message),
  })
  await made.write({ file, format, inlineDynamicImports: true })
  await made.close()
  return warnings
}

function webpack(
  file: string,
  options: {
    output?: object
    experiments?: object
    externalsType?: string
    externals?: RegExp[]
  },
): Promise<unknown[]> {
  interface Stats {
    toJson: () => { errors: unknown[]; warnings: unknown[] }
  }
  const run = requireTool('webpack') as (
    options: object,
    done: (error: Error | null, stats: Stats) => void,
  ) => void
  const settings = {
    mode: 'production',
    target: 'node20',
    context: APP,
    entry: './main.mjs',
    ...options,
    output: {
      path: dirname(file),
      filename: basename(file),
      ...options.output,
    },
  }
  return new Promise((resolve, reject) => {
    run(settings, (error, stats) => {
      if (error) reject(error)
      else resolve([...stats.toJson().errors, ...stats.toJson().warnings])
    })
  })
}

describe.each(Object.entries(BUNDLERS))('a bundle of %s', (name, bundle) => {
  const extension = name.endsWith('CommonJS') ? 'cjs' : 'mjs'
  const file = join(APP, 'out', `${name.replaceAll(/\W+/g, '-')}.${extension}`)

  it('finds the addon and the demo model where the packages are installed', async () => {
    expect(await bundle(file)).toEqual([])
    expect(await report(file)).toMatchObject({
      supported: true,
      text: expect.stringContaining('Paris') as string,
      entries: ENTRIES_WORK,
    })
  })

  it('can be imported where they are not, and says what to do', async () => {
    const alone = join(HOME, 'alone')
    rmSync(alone, { recursive: true, force: true })
    mkdirSync(alone)
    writeFileSync(join(alone, 'package.json'), '{}')
    // Without the place of the sources, which some bundlers write down.
    const hidden = join(HOME, 'hidden')
    cpSync(file, join(alone, `main.${extension}`))
    execFileSync('mv', [join(APP, 'node_modules'), hidden])
    try {
      const { supported, code, text } = await report(join(alone, `main.${extension}`))
      expect({ supported, code }).toEqual({ supported: false, code: 'ADDON_UNAVAILABLE' })
      expect(text).toContain("external: ['nodemlx']")
      expect(text).toContain("serverExternalPackages: ['nodemlx']")
    } finally {
      execFileSync('mv', [hidden, join(APP, 'node_modules')])
    }
  })
})

describe('a bundle without the package', () => {
  it.each(Object.entries(EXTERNAL))(
    'of %s finds it where it is installed',
    async (name, bundle) => {
      const file = join(APP, 'out', `${name}-external.${name === 'webpack' ? 'cjs' : 'mjs'}`)
      expect(await bundle(file)).toEqual([])
      expect(statSync(file).size).toBeLessThan(8000)
      expect(await report(file)).toMatchObject({ supported: true, entries: ENTRIES_WORK })
    },
  )
})

describe('a program whose files @vercel/nft has traced', () => {
  async function trace(file: string): Promise<string[]> {
    const { nodeFileTrace } = requireTool('@vercel/nft') as {
      nodeFileTrace: (files: string[], options: object) => Promise<{ fileList: Set<string> }>
    }
    return [...(await nodeFileTrace([file], { base: APP })).fileList]
  }

  it.each(['import', 'require'])('by %s runs elsewhere', async (form) => {
    const main = form === 'import' ? 'main.mjs' : 'main.cjs'
    writeFileSync(join(APP, 'main.cjs'), REQUIRES + PROGRAM)
    const files = await trace(join(APP, main))
    const copy = join(HOME, 'copy')
    rmSync(copy, { recursive: true, force: true })
    for (const path of files) {
      mkdirSync(dirname(join(copy, path)), { recursive: true })
      linkSync(join(APP, path), join(copy, path))
    }
    expect(await report(join(copy, main))).toMatchObject({
      supported: true,
      text: expect.stringContaining('Paris') as string,
      entries: ENTRIES_WORK,
    })
  })

  it('has the addon and its libraries also where it was bundled from its modules', async () => {
    const entry = join(APP, 'traced.mjs')
    writeFileSync(entry, `import './node_modules/nodemlx/dist/esm/index.js'\n`)
    const files = await trace(entry)
    const addon = join('node_modules', '@nodemlx', PLATFORM)
    expect(files).toContain(join(addon, 'nodemlx.node'))
    expect(files.some((path) => /[/\\]libmlx\./.test(path))).toBe(true)
    expect(files).toContain(join('node_modules', 'nodemlx', 'models', 'demo', 'config.json'))
  })
})
