// What one process has read is on disk for the next one, however the first one ends and whatever
// has come of the files.

import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { loadModel, type Model } from '../js/index.js'
import { runModule, type ChildOptions, type Outcome } from './support/child.js'

const parent = mkdtempSync(join(tmpdir(), 'nodemlx-prefixes-'))
let directory: string
let count = 0

beforeEach(() => {
  directory = join(parent, String(count++))
})

afterAll(() => {
  rmSync(parent, { recursive: true })
})

const PRELUDE = `
import { loadModel } from 'nodemlx'
const directory = process.env.PREFIXES
const load = (more) => loadModel('demo', { prefixCache: { diskBytes: 2 ** 28, directory, ...more } })
const rule = 'You are a helpful assistant who answers in one short sentence, and never lies. '
const conversation = (question) => [
  { role: 'system', content: rule.repeat(6) },
  { role: 'user', content: question },
]
const ask = async (model, question = 'What is the capital of France?') => {
  const { text, usage } = await model.generate(conversation(question), { temperature: 0, maxTokens: 40 })
  console.log(JSON.stringify({ text, cached: usage.cachedTokens, prompt: usage.promptTokens }))
}
`

interface Answer {
  text: string
  cached: number
  prompt: number
}

const run = (source: string, options: ChildOptions = {}): Promise<Outcome> =>
  runModule(PRELUDE + source, {
    ...options,
    environment: { PREFIXES: directory, ...options.environment },
  })

/** The answers of a program that ends well. */
async function answers(source: string, options?: ChildOptions): Promise<Answer[]> {
  const { code, signal, stdout, stderr } = await run(source, options)
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' })
  const lines = stdout.split('\n').filter((line) => line !== '')
  return lines.map((line) => JSON.parse(line) as Answer)
}

async function answer(source: string, options?: ChildOptions): Promise<Answer> {
  const [first] = await answers(source, options)
  if (first === undefined) throw new Error('there is no answer')
  return first
}

const ASK = 'const model = await load(); await ask(model)'

/** Keeps a program from ending by itself. */
const STAY = 'setInterval(() => {}, 1000)'

/** All files of what was read. */
const files = (root = directory): string[] =>
  readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.safetensors'))
    .map((name) => join(root, name))

const mode = (path: string): number => statSync(path).mode & 0o777

describe('the prefix cache on disk', () => {
  it.each([
    ['has nothing more to do', ''],
    ['exits', '; process.exit(0)'],
    ['has disposed of its model', '; await model.dispose(); process.exit(0)'],
  ])('serves the next process when one %s', async (_, end) => {
    const first = await answer(ASK + end)
    expect(first.cached).toBe(0)
    const second = await answer(ASK + end)
    expect(second).toEqual({ ...first, cached: first.prompt - 1 })
    const [third] = await answers(`await ask(await load(), 'What is the capital of Japan?')`)
    expect(third?.cached).toBeGreaterThan(60)
    expect(files().map(mode)).toEqual(files().map(() => 0o600))
    expect(mode(directory)).toBe(0o700)
  })

  it('survives a process that is killed at any time', async () => {
    const first = await answer(ASK)
    const kills = [
      `const model = await load(); await ask(model, 'What is 2 + 2?'); ${STAY}`,
      `const model = await load(); await ask(model, 'What is 3 + 3?')
       await model.dispose(); ${STAY}`,
      // What leaves the memory at once is written all the time.
      `const model = await load({ memoryBytes: 0 })
       for (let number = 0; ; number++) await ask(model, 'What is ' + number + ' + 4?')`,
    ]
    for (const source of kills) {
      const { signal } = await run(source, {
        onOutput: (_, kill) => {
          kill('SIGKILL')
        },
      })
      expect(signal).toBe('SIGKILL')
      const next = await answer(ASK)
      expect(next).toEqual({ ...first, cached: first.prompt - 1 })
    }
  })

  it('serves several processes at once', async () => {
    const source = `
      const model = await load({ memoryBytes: 0 })
      for (const number of [1, 2, 3, 1, 2, 3]) await ask(model, 'What is ' + number + ' + 1?')`
    const [alone, ...others] = await Promise.all([
      answers(source, { environment: { PREFIXES: join(parent, 'alone') } }),
      answers(source),
      answers(source),
    ])
    const texts = (all: Answer[]): string[] => all.map(({ text }) => text)
    for (const other of others) expect(texts(other)).toEqual(texts(alone))
    expect((await answers(source)).every(({ cached }) => cached > 60)).toBe(true)
  })

  it('takes no broken file for what was read', async () => {
    const first = await answer(ASK)
    const damages: ((bytes: Buffer) => Buffer)[] = [
      (bytes) => bytes.subarray(0, bytes.length / 2),
      (bytes) => Buffer.from(bytes.map((byte, index) => (index % 1000 === 999 ? byte ^ 4 : byte))),
      (bytes) => Buffer.concat([bytes, bytes]),
      () => Buffer.from('not what it was'),
      () => Buffer.alloc(0),
    ]
    for (const damage of damages) {
      for (const file of files()) writeFileSync(file, damage(readFileSync(file)))
      expect(await answer(ASK)).toEqual(first)
      expect(await answer(ASK)).toEqual({ ...first, cached: first.prompt - 1 })
    }
  })

  it('is not shared across settings that change what is read', async () => {
    const first = await answer(ASK)
    const exact = await answer(
      `await ask(await loadModel('demo', { precision: 'exact', prefixCache: { diskBytes: 2 ** 28, directory } }))`,
    )
    expect([first.cached, exact.cached]).toEqual([0, 0])
  })

  it("is in the user's folder for caches, unless another one is named", async () => {
    const caches = join(parent, 'caches')
    await answer(`await ask(await load({ directory: undefined }))`, {
      environment: { XDG_CACHE_HOME: caches },
    })
    const prefixes = join(caches, 'nodemlx', 'prefixes')
    expect(files(prefixes)).toHaveLength(1)
    expect(mode(prefixes)).toBe(0o700)
  })

  it('is not there without diskBytes', async () => {
    await answer(`await ask(await load({ diskBytes: 0 }))`)
    expect(() => files()).toThrow('ENOENT')
  })

  it('is forgotten on demand', async () => {
    const prefixCache = { memoryBytes: 0, diskBytes: 2 ** 28, directory }
    const model = await loadModel('demo', { prefixCache })
    const prompt = 'A fox and a hound met at the river. '.repeat(20)
    const cached = async (): Promise<number> =>
      (await model.generate(prompt, { maxTokens: 2 })).usage.cachedTokens
    expect(await cached()).toBe(0)
    await expect.poll(() => files(), { timeout: 20_000 }).not.toEqual([])
    await model.clearPrefixCache()
    expect(files()).toEqual([])
    expect(await cached()).toBe(0)
    await model.dispose()
    expect(files()).not.toEqual([])
  })

  it('has options that are checked', async () => {
    const wrong = (prefixCache: object): Promise<Model> =>
      loadModel('demo', { prefixCache: prefixCache as never })
    for (const diskBytes of [-1, 0.5, Number.NaN, Infinity, '1 GB'])
      await expect(wrong({ diskBytes, directory })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        option: 'prefixCache.diskBytes',
      })
    const file = join(parent, 'file')
    writeFileSync(file, '')
    for (const options of [
      { directory },
      { diskBytes: 1, directory: '' },
      { diskBytes: 1, directory: 5 },
      { diskBytes: 1, directory: file },
      { diskBytes: 1, directory: join(file, 'below') },
    ])
      await expect(wrong(options)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        option: 'prefixCache.directory',
      })
  })
})
