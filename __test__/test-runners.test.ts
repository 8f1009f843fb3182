// `testModel` and `fakeModel` under the test runners that people have: a suite of files that run at
// the same time, in a program that has the package installed.

import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { installTools, makeApp, NEWER_NODE, newerNode } from './support/app.js'
import { ROOT, runProgram } from './support/child.js'

const HOME = join(ROOT, '.build', 'test-runners')
const APP = join(HOME, 'app')
const TOOLS = { ...NEWER_NODE, jest: '30.5.2' }

/** A test file's text, for a runner with such imports. */
const suite = (imports: string, number: number) => `
${imports}
describe('suite ${number}', () => {
  it('asks the demo model', async () => {
    const model = await testModel()
    const { text } = await model.generate('What is the capital of France?')
    assert.equal(text, 'The capital of France is Paris.')
    const draw = { temperature: 1, maxTokens: 4 }
    const [first, again] = [await model.generate('Hi', draw), await model.generate('Hi', draw)]
    assert.equal(first.text, again.text)
    await model.dispose()
    assert.equal(await testModel(), model)
    assert.equal(model.disposed, false)
  })
  it('asks a fake one', async () => {
    const model = fakeModel({ answers: { reasoning: 'Hm.', toolCalls: [{ name: 'f' }] } })
    const { reasoning, toolCalls } = await model.generate('Hi')
    assert.equal(reasoning, 'Hm.')
    assert.equal(toolCalls[0].name, 'f')
    try {
      model.generate('Hi', { temperature: 11 })
      assert.fail('it was accepted')
    } catch (error) {
      assert.ok(error instanceof NodeMlxError)
      assert.equal(error.option, 'temperature')
    }
  })
})
`
const MODULES = `
import assert from 'node:assert/strict'
import { NodeMlxError } from 'nodemlx'
import { fakeModel, testModel } from 'nodemlx/testing'
`
const COMMON = `
const assert = require('node:assert/strict')
const { NodeMlxError } = require('nodemlx')
const { fakeModel, testModel } = require('nodemlx/testing')
`

function writeSuites(folder: string, extension: string, imports: string): void {
  mkdirSync(join(APP, folder), { recursive: true })
  for (const number of [1, 2, 3])
    writeFileSync(join(APP, folder, `suite${number}.test.${extension}`), suite(imports, number))
}

beforeAll(() => {
  installTools(HOME, TOOLS)
  makeApp(APP)
  symlinkSync(join(ROOT, 'node_modules', 'vitest'), join(APP, 'node_modules', 'vitest'))
  writeSuites('node', 'mjs', `import { describe, it } from 'node:test'${MODULES}`)
  writeSuites('vitest', 'mjs', `import { describe, it } from 'vitest'${MODULES}`)
  // Without one it takes that of this repository.
  writeFileSync(join(APP, 'vitest', 'vitest.config.mjs'), 'export default {}\n')
  writeSuites('jest', 'cjs', COMMON)
  writeFileSync(join(APP, 'jest', 'package.json'), '{}')
}, 300_000)

afterAll(() => {
  rmSync(APP, { recursive: true, force: true })
})

/** A debug build of the addon takes its time. */
const PATIENT = ['--testTimeout', '60000']

/** Runs a runner's program in a folder of the app; what it printed, where all tests passed. */
async function run(
  program: string,
  args: string[],
  folder: string,
  node = process.execPath,
): Promise<string> {
  const { code, stdout, stderr } = await runProgram(node, [program, ...args], {
    cwd: join(APP, folder),
    environment: { CI: '1', NODE_ENV: 'test', VITEST: undefined, VITEST_WORKER_ID: undefined },
  })
  expect(code, stdout + stderr).toBe(0)
  return stdout + stderr
}

describe('the models for tests', () => {
  it('run under node:test', async () => {
    const printed = await run('--test', ['--test-reporter=spec'], 'node')
    expect(printed).toMatch(/pass 6/)
  })

  it.each(['threads', 'forks', 'vmThreads', 'vmForks'])(
    'run under vitest, with %s',
    async (pool) => {
      const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs')
      const root = join(APP, 'vitest')
      const printed = await run(
        vitest,
        ['run', '--root', root, '--pool', pool, ...PATIENT],
        'vitest',
      )
      expect(printed).toMatch(/6 passed/)
    },
  )

  it.each([[[]], [['--runInBand']], [['--workerThreads']]])('run under jest %j', async (flags) => {
    const jest = join(HOME, 'node_modules', 'jest', 'bin', 'jest.js')
    const options = ['--testMatch', '**/*.test.cjs', '--rootDir', join(APP, 'jest'), ...PATIENT]
    expect(await run(jest, [...options, ...flags], 'jest')).toMatch(/6 passed/)
  })
})

// What is mapped into a process is looked at, which Linux alone tells.
describe.runIf(process.platform === 'linux')('a run with nodemlx/testing/setup', () => {
  const SHARED = `
    const { readFileSync } = require('node:fs')
    const maps = () => readFileSync('/proc/self/maps', 'utf8')
    const mapped = () => maps().split('\\n').filter((line) => line.endsWith('.safetensors')).length`
  /** What a file's tests say of the model that another file's have, too. */
  const tests = `
    it('asks the model', async () => {
      const model = await testModel()
      const { text } = await model.generate('What is the capital of France?')
      assert.equal(text, 'The capital of France is Paris.')
      assert.deepEqual(await model.tokenize('Hi!'), await model.tokenize('Hi!'))
      const [row] = await model.embed(['Paris'])
      assert.ok(row.length > 100)
      await assert.rejects(async () => model.generate({ tokens: [999999] }), { name: 'NodeMlxError' })
    })`
  let once: string

  beforeAll(async () => {
    const folder = join(APP, 'shared')
    mkdirSync(folder)
    writeFileSync(join(folder, 'package.json'), '{}')
    const ends = `module.exports = async () => console.log('mapped: ' + mapped())`
    writeFileSync(join(folder, 'end.cjs'), `${SHARED}\n${ends}`)
    writeFileSync(
      join(folder, 'end.mjs'),
      `import end from './end.cjs'\nexport const setup = () => undefined\nexport const teardown = end`,
    )
    writeFileSync(
      join(folder, 'vitest.config.mjs'),
      `export default { test: { include: ['*.test.mjs'], globalSetup: ['nodemlx/testing/setup', './end.mjs'] } }`,
    )
    // The program that docs/testing.md has for node:test, and what is mapped at the end.
    writeFileSync(
      join(folder, 'setup.mjs'),
      `export { globalSetup } from 'nodemlx/testing/setup'
       export { default as globalTeardown } from './end.cjs'`,
    )
    for (const number of [1, 2]) {
      writeFileSync(
        join(folder, `node${number}.mjs`),
        `import { it } from 'node:test'${MODULES}${tests}`,
      )
      writeFileSync(join(folder, `file${number}.test.cjs`), COMMON + tests)
      const imports = `import { it } from 'vitest'${MODULES}`
      writeFileSync(join(folder, `file${number}.test.mjs`), imports + tests)
    }
    const program = `${SHARED}
      require('nodemlx').loadModel('demo').then(() => console.log('mapped: ' + mapped()))`
    const { stdout } = await runProgram(process.execPath, ['--eval', program], { cwd: folder })
    once = stdout.trim()
    expect(once).toMatch(/^mapped: [1-9]/)
  })

  it.each(['threads', 'forks', 'vmThreads', 'vmForks'])(
    'loads a model once for all of vitest’s %s',
    async (pool) => {
      const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs')
      const root = join(APP, 'shared')
      const args = ['run', '--root', root, '--pool', pool, '--maxWorkers', '2', ...PATIENT]
      const printed = await run(vitest, args, 'shared')
      expect(printed).toMatch(/2 passed/)
      expect(/mapped: \d+/.exec(printed)?.[0]).toBe(once)
    },
  )

  it('loads a model once for all files of node:test', async () => {
    const printed = await run(
      '--test',
      ['--test-reporter=spec', '--test-global-setup=./setup.mjs', 'node1.mjs', 'node2.mjs'],
      'shared',
      newerNode(HOME),
    )
    expect(printed).toMatch(/pass 2/)
    expect(/mapped: \d+/.exec(printed)?.[0]).toBe(once)
  })

  it.each([[['--maxWorkers=2']], [['--runInBand']], [['--workerThreads', '--maxWorkers=2']]])(
    'loads a model once for all of jest’s workers: %j',
    async (flags) => {
      const jest = join(HOME, 'node_modules', 'jest', 'bin', 'jest.js')
      const root = join(APP, 'shared')
      const options = ['--testMatch', '**/*.test.cjs', '--rootDir', root, ...PATIENT]
      const setup = ['--globalSetup', 'nodemlx/testing/setup', '--globalTeardown', './end.cjs']
      const printed = await run(jest, [...options, ...setup, ...flags], 'shared')
      expect(printed).toMatch(/2 passed/)
      expect(/mapped: \d+/.exec(printed)?.[0]).toBe(once)
    },
  )
})
