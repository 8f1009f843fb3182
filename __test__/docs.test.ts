// The programs and snippets of the README and of the documentation's pages: the types of all are
// checked, and those that need nobody else's packages are run, with a hub of the tests' own.

import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { convertModel } from '../js/index.js'
import { adapterFiles, writeFiles } from './support/adapters.js'
import { installTools } from './support/app.js'
import { ROOT, runProgram } from './support/child.js'
import { CLIENTS } from './support/clients.js'
import { writeBert } from './support/embedder.js'
import { HubServer } from './support/hub-server.js'
import { givenNames, imports, pages, snippets, type Snippet } from './support/programs.js'

const GIVEN = join(ROOT, '__test__', 'docs', 'given.mjs')
const NAMES = [
  ...readFileSync(GIVEN, 'utf8').matchAll(/^export (?:const (\w+)|\{ (.*?) \})/gm),
].flatMap(([, name, list = '']) => name ?? list.split(', '))

/** Packages of others whose types the snippets need. */
const HOME = join(ROOT, '.build', 'docs')

/** Inside the project, so that the package is found by its own name. */
let folder: string
let hub: HubServer

const fileOf = ({ page, line, code }: Snippet): string =>
  `${page.replaceAll(/\W+/g, '-')}-${line}.${/\brequire\(/.test(code) ? 'cjs' : 'mjs'}`

/** The snippet with what it takes for given, on a line before its first one. */
function complete({ code }: Snippet): string {
  const given = givenNames(code, NAMES)
  return `${given.length === 0 ? '' : `import { ${given.join(', ')} } from './given.mjs'`}\n${code}`
}

/** Whether it needs nothing but the package; programs of the AI SDK's page run in its own test. */
function runsAlone({ page, code }: Snippet): boolean {
  const isTest = /^vi\./m.test(code)
  const isBesideNode = code.includes('createRequire(process.execPath)')
  const isAlone = imports(code).every((name) => /^(node:|zod$|nodemlx\b)/.test(name))
  return page !== 'docs/ai-sdk.md' && isAlone && !isTest && !isBesideNode
}

/** The files of a folder, by their names. */
function filesOf(path: string): Record<string, Buffer> {
  const entries = readdirSync(path, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  return Object.fromEntries(
    files.map(({ parentPath, name }) => {
      const file = join(parentPath, name)
      return [file.slice(path.length + 1), readFileSync(file)]
    }),
  )
}

/** The repositories that the pages name: all of them tiny. */
async function fillHub(): Promise<void> {
  const demo = filesOf(join(ROOT, 'models', 'demo'))
  for (const name of ['Qwen3-0.6B-4bit', 'Qwen3-4B-4bit', 'Qwen3-8B-4bit'])
    hub.add(`mlx-community/${name}`, demo)
  hub.add('Qwen/Qwen3.5-9B', demo)
  hub.add('someone/qwen3-4b-lawyer-lora', adapterFiles(2, 0.01))
  hub.add('Qwen/Qwen3-Embedding-0.6B', filesOf(writeBert(join(folder, 'bert'), 'embeds')))
  await convertModel('demo', join(folder, 'dense'), { dequantize: true })
  hub.add('Qwen/Qwen3-4B', filesOf(join(folder, 'dense')))
}

beforeAll(async () => {
  installTools(HOME, CLIENTS)
  folder = mkdtempSync(join(ROOT, '__test__', 'tmp-docs-'))
  cpSync(GIVEN, join(folder, 'given.mjs'))
  symlinkSync(join(HOME, 'node_modules'), join(folder, 'node_modules'))
  for (const snippet of pages().flatMap(snippets))
    writeFileSync(join(folder, fileOf(snippet)), complete(snippet))
  hub = await HubServer.start()
  await fillHub()
}, 300_000)

afterAll(async () => {
  rmSync(folder, { recursive: true })
  await hub.stop()
})

describe.each(pages().filter((page) => snippets(page).some(runsAlone)))(
  'the programs of %s',
  (page) => {
    const rows = snippets(page)
      .filter(runsAlone)
      .map((snippet) => [snippet.line, snippet] as const)
    it.each(rows)('run: that of line %i', async (_, snippet) => {
      const cwd = join(folder, page.replaceAll(/\W+/g, '-'))
      mkdirSync(cwd, { recursive: true })
      if (!readdirSync(cwd).includes('pirate'))
        writeFiles(join(cwd, 'pirate'), adapterFiles(1, 0.01))
      writeFileSync(join(cwd, 'texts.txt'), 'Paris is the capital of France. '.repeat(3))
      const {
        code: status,
        stdout,
        stderr,
      } = await runProgram(process.execPath, [join(folder, fileOf(snippet))], {
        cwd,
        environment: {
          HF_ENDPOINT: hub.endpoint,
          HF_HOME: join(cwd, 'hub'),
          HF_HUB_CACHE: undefined,
        },
      })
      expect(status, stdout + stderr).toBe(0)
      if (!/stderr|console\.error/.test(snippet.code)) expect(stderr).toBe('')
    })
  },
)

describe('the snippets of the documentation', () => {
  it('have the types that the package has', async () => {
    writeFileSync(
      join(folder, 'electron.d.ts'),
      `declare module 'electron' {
         import type { Port } from 'nodemlx/client'
         export const utilityProcess: { fork(file: string, args: string[], options: object): Port }
       }`,
    )
    const config = {
      compilerOptions: {
        allowJs: true,
        checkJs: true,
        lib: ['es2023', 'dom', 'dom.iterable', 'dom.asynciterable'],
        module: 'node20',
        noEmit: true,
        // JavaScript says nothing of the types of a function's parameters.
        noImplicitAny: false,
        skipLibCheck: true,
        strict: true,
        target: 'es2022',
        types: ['node', 'vitest/globals'],
        useUnknownInCatchVariables: false,
      },
      include: ['*.mjs', '*.cjs', '*.d.ts'],
    }
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
    const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
    const { stdout } = await runProgram(process.execPath, [compiler, '-p', folder])
    expect(stdout).toBe('')
  })
})
