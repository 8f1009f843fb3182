// Adapters of the embedded model, by the API and by the command line.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { convertModel, loadModel } from '../js/index.js'
import { getNative } from '../js/native.js'
import type { Adapter, GenerateOptions, Model } from '../js/types.js'
import { adapterFiles, writeFiles } from './support/adapters.js'
import { runCli } from './support/child.js'
import { HubFixture } from './support/hub-fixtures.js'

const QUESTION = 'What is the capital of France?'
const GREEDY = { temperature: 0, maxTokens: 6 }
let folder: string
let model: Model
const paths: string[] = []
const adapters: Adapter[] = []

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'nodemlx-adapters-'))
  model = await loadModel('demo')
  for (const seed of [1, 2]) {
    const path = writeFiles(join(folder, `adapter-${seed}`), adapterFiles(seed))
    paths.push(path)
    adapters.push(await model.loadAdapter(path))
  }
})
afterAll(async () => {
  await model.dispose()
  rmSync(folder, { recursive: true })
})

const ask = async (options: GenerateOptions = {}, of = model): Promise<number[]> =>
  (await of.generate(QUESTION, { ...GREEDY, ...options })).tokens

describe('an adapter', () => {
  it('says what it is', () => {
    expect(adapters[0]?.info).toEqual({
      kind: 'lora',
      rank: 2,
      modules: 24,
      parameters: 8 * 2 * (384 + 384 + 384 + 128 + 768 + 384),
      bytes: 8 * 2 * 4 * (384 + 384 + 384 + 128 + 768 + 384),
      path: paths[0],
    })
  })

  it('changes the generations that name it, and no others', async () => {
    const before = await ask()
    const [first, second] = [
      await ask({ adapter: adapters[0] }),
      await ask({ adapter: adapters[1] }),
    ]
    expect(first).not.toEqual(before)
    expect(second).not.toEqual(before)
    expect(second).not.toEqual(first)
    expect(await ask({ adapter: adapters[0] })).toEqual(first)
    expect(await ask({ adapter: null })).toEqual(before)
  })

  it('does not mix with others that run at the same time', async () => {
    const choices = [null, ...adapters, null]
    const alone = []
    for (const adapter of choices) alone.push(await ask({ adapter }))
    const together = await Promise.all(choices.map((adapter) => ask({ adapter })))
    expect(together).toEqual(alone)
  })

  it('has prompt caches of its own', async () => {
    const promptCache = model.createPromptCache()
    const cached = async (adapter: Adapter | null | undefined): Promise<[number, number[]]> => {
      const { tokens, usage } = await model.generate(QUESTION, { ...GREEDY, promptCache, adapter })
      return [usage.cachedTokens, tokens]
    }
    const fresh = await ask({ adapter: adapters[0] })
    expect(await cached(null)).toEqual([0, await ask()])
    // What was read without it is of no use with it.
    expect(await cached(adapters[0])).toEqual([0, fresh])
    const [reused, tokens] = await cached(adapters[0])
    expect(reused).toBeGreaterThan(0)
    expect(tokens).toEqual(fresh)
    const file = join(folder, 'cache.safetensors')
    await promptCache.save(file)
    const restored = await model.loadPromptCache(file)
    const again = await model.generate(QUESTION, {
      ...GREEDY,
      promptCache: restored,
      adapter: adapters[0],
    })
    expect(again.usage.cachedTokens).toBeGreaterThan(0)
    expect(again.tokens).toEqual(fresh)
    // Of a model that does not have the adapter.
    const other = await loadModel('demo')
    await expect(other.loadPromptCache(file)).rejects.toMatchObject({
      code: 'INVALID_PROMPT_CACHE',
    })
    await other.dispose()
    promptCache.dispose()
    restored.dispose()
  })

  it('can be that of all generations which name no other', async () => {
    const adapted = await loadModel('demo', { adapter: paths[0] })
    expect(await ask({}, adapted)).toEqual(await ask({ adapter: adapters[0] }))
    expect(await ask({ adapter: null }, adapted)).toEqual(await ask())
    await adapted.dispose()
  })

  it('goes when it is disposed of, and not in the middle of a generation', async () => {
    const path = writeFiles(join(folder, 'short-lived'), adapterFiles(3))
    const adapter = await model.loadAdapter(path)
    const expected = await ask({ adapter })
    const generation = model.generate(QUESTION, { ...GREEDY, adapter })
    const events = generation[Symbol.asyncIterator]()
    await events.next()
    adapter.dispose()
    adapter.dispose()
    expect((await generation.result).tokens).toEqual(expected)
    expect(() => model.generate(QUESTION, { adapter })).toThrow(
      expect.objectContaining({ code: 'DISPOSED' }) as Error,
    )
  })
})

describe('adapters in a batch', () => {
  const LONG = 24
  let shared: Model
  /** LoRA, DoRA, and none. */
  const kinds: (Adapter | null)[] = [null]

  beforeAll(async () => {
    shared = await loadModel('demo', { precision: 'exact', prefixCache: false })
    for (const kind of ['lora', 'dora'] as const) {
      const path = writeFiles(join(folder, `batch-${kind}`), adapterFiles(4, 0.5, kind))
      kinds.push(await shared.loadAdapter(path))
    }
    expect(kinds.map((adapter) => adapter?.info.kind)).toEqual([undefined, 'lora', 'dora'])
  })
  afterAll(() => shared.dispose())

  /** A greedy and a drawn answer of each, of unequal lengths. */
  const orders = (): GenerateOptions[] =>
    kinds.flatMap((adapter, place) => [
      { adapter, temperature: 0, minTokens: LONG, maxTokens: LONG },
      {
        adapter,
        temperature: 0.9,
        seed: place,
        minTokens: 6 + 4 * place,
        maxTokens: 6 + 4 * place,
      },
    ])
  const alone = async (options: GenerateOptions): Promise<number[]> =>
    (await shared.generate(QUESTION, options)).tokens

  /** Begins when the one before has written something. */
  async function staggered(
    all: GenerateOptions[],
    also?: () => Promise<void>,
  ): Promise<number[][]> {
    const running: Promise<number[]>[] = []
    for (const options of all) {
      const generation = shared.generate(QUESTION, options)
      const events = generation[Symbol.asyncIterator]()
      for (let next = await events.next(); !next.done; next = await events.next()) {
        if (next.value.tokens.length > 0) break
      }
      running.push(generation.result.then(({ tokens }) => tokens))
    }
    await also?.()
    return Promise.all(running)
  }

  it('give what each gives alone, joining and leaving', async () => {
    const expected: number[][] = []
    for (const options of orders()) expected.push(await alone(options))
    expect(new Set(expected.map((tokens) => tokens.slice(0, 6).join())).size).toBeGreaterThan(4)
    expect(await staggered(orders())).toEqual(expected)
    expect(await staggered(orders().reverse())).toEqual(expected.reverse())
  })

  it('go while they are in use, and come, and nobody beside notices', async () => {
    const { memoryStats } = getNative()
    const before = memoryStats().activeBytes
    const [short, other] = await Promise.all(
      [5, 6].map((seed) => {
        // Large beside what is kept of steps, which depends on how many ran at once.
        const files = adapterFiles(seed, 0.1, seed === 5 ? 'dora' : 'lora', 64)
        return shared.loadAdapter(writeFiles(join(folder, `hot-${seed}`), files))
      }),
    )
    const withAll = memoryStats().activeBytes
    const greedy = { temperature: 0, minTokens: LONG, maxTokens: LONG }
    const drawn = { ...greedy, temperature: 0.9, seed: 3 }
    const all = [
      { ...greedy, adapter: short },
      ...orders(),
      { ...drawn, adapter: short },
      { ...greedy, adapter: other },
    ]
    const expected: number[][] = []
    for (const options of all) expected.push(await alone(options))
    const together = await staggered(all, async () => {
      short?.dispose()
      other?.dispose()
      const path = writeFiles(join(folder, 'late'), adapterFiles(7))
      const late = await shared.loadAdapter(path)
      expect((await alone({ ...greedy, adapter: late })).length).toBe(LONG)
      late.dispose()
    })
    expect(together).toEqual(expected)
    expect(() => shared.generate(QUESTION, { adapter: short })).toThrow(/disposed/)
    // The engine's thread forgets them before it begins what comes next.
    await alone({ maxTokens: 1 })
    const left = memoryStats().activeBytes - before
    expect(left).toBeLessThan((withAll - before) / 2)
  })
})

describe('what is no adapter of the model', () => {
  it('is refused', async () => {
    const files = adapterFiles(1)
    const wrong = writeFiles(join(folder, 'wrong'), files)
    writeFileSync(join(wrong, 'adapters.safetensors'), 'nothing')
    await expect(model.loadAdapter(wrong)).rejects.toMatchObject({
      code: 'INVALID_ADAPTER',
      path: join(wrong, 'adapters.safetensors'),
    })
    await expect(model.loadAdapter(folder)).rejects.toMatchObject({ code: 'INVALID_ADAPTER' })
    await expect(model.loadAdapter(join(folder, 'nowhere'))).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
      message: expect.stringContaining('There is no adapter') as string,
    })
    await expect(loadModel('demo', { adapter: wrong })).rejects.toMatchObject({
      code: 'INVALID_ADAPTER',
    })
    const lookalike = { ...adapters[0] } as Adapter
    expect(() => model.generate(QUESTION, { adapter: lookalike })).toThrow(/model\.loadAdapter/)
    const other = await loadModel('demo')
    await expect(other.generate(QUESTION, { adapter: adapters[0] }).result).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      option: 'adapter',
    })
    await other.dispose()
  })
})

describe('an adapter on the hub', () => {
  const hub = new HubFixture()

  it('is downloaded, and found again without the network', async () => {
    hub.server.add('owner/adapter', { ...adapterFiles(1), 'README.md': 'An adapter.' })
    const adapter = await model.loadAdapter('owner/adapter', hub.options)
    expect(await ask({ adapter })).toEqual(await ask({ adapter: adapters[0] }))
    hub.server.requests.length = 0
    const again = await model.loadAdapter('owner/adapter', { ...hub.options, offline: true })
    expect(again.info.path).toBe(adapter.info.path)
    expect(hub.server.requests).toEqual([])
    hub.server.add('owner/model', { 'config.json': '{}' })
    await expect(model.loadAdapter('owner/model', hub.options)).rejects.toMatchObject({
      code: 'INVALID_ADAPTER',
    })
    await expect(
      model.loadAdapter('owner/other', { ...hub.options, offline: true }),
    ).rejects.toMatchObject({ code: 'OFFLINE' })
  })
})

describe('the command line', () => {
  it('answers with an adapter', async () => {
    const line = ['--json', '-t', '0', '-n', '8', QUESTION]
    const plain = await runCli(line)
    const adapted = await runCli(['--adapter', paths[0] ?? '', ...line])
    expect(adapted.code).toBe(0)
    const text = ({ stdout }: { stdout: string }): unknown =>
      (JSON.parse(stdout) as { text: unknown }).text
    expect(text(adapted)).not.toEqual(text(plain))
  })

  it('fuses an adapter into the model', async () => {
    const target = join(folder, 'fused')
    const line = ['fuse', '-m', 'demo', '--adapter', paths[0] ?? '', '-o', target, '--dequantize']
    const { code, stdout } = await runCli(line)
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${target}\n` })
    const fused = await loadModel(target)
    const tokens = await ask({ maxTokens: 4 }, fused)
    expect(tokens).toEqual(await ask({ maxTokens: 4, adapter: adapters[0] }))
    await fused.dispose()
    const missing = await runCli(['fuse', '-m', 'demo', '-o', join(folder, 'no')])
    expect(missing.code).toBe(2)
    expect(missing.stderr).toContain('--adapter')
  })

  it('packs again what was packed', async () => {
    const target = join(folder, 'packed')
    const report = await convertModel('demo', target, { adapter: paths[1] })
    expect(report.layers).toHaveLength(24)
    const fused = await loadModel(target)
    expect(fused.info.quantization).toMatchObject({ bits: 4 })
    await fused.dispose()
  })
})
