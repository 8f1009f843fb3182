// Who waits for whom, for how long and in which order, with the embedded model. Times are compared
// with each other, as machines differ.

import { describe, expect, it } from 'vitest'
import { loadModel } from '../js/index.js'
import type { NodeMlxError } from '../js/errors.js'
import type { GenerationResult, LoadModelOptions, Model } from '../js/types.js'

type Timings = GenerationResult['timings']

// Few enough to be made without a reader, so that it does not matter when this thread reads.
const LENGTH = 250
const LONG = { temperature: 0, minTokens: LENGTH, maxTokens: LENGTH }
const LOAD = { device: 'cpu', prefixCache: false } as const

async function withModel(
  options: LoadModelOptions,
  use: (model: Model) => Promise<void>,
): Promise<void> {
  const model = await loadModel('demo', { ...LOAD, ...options })
  try {
    // The first step of a model touches its memory for the first time.
    await model.generate('Hi', { maxTokens: 2 })
    await use(model)
  } finally {
    await model.dispose()
  }
}

/** What the caches of a long answer may take, by the error of a model that may take nothing. */
async function bytesOfOne(): Promise<number> {
  let bytes = 0
  await withoutRoom(async (model) => {
    const error = await model.generate('Once', LONG).then(
      () => undefined,
      (error: unknown) => error as NodeMlxError,
    )
    expect(error?.code).toBe('INSUFFICIENT_MEMORY')
    bytes = Number(/may take (\d+) bytes/.exec(error?.message ?? '')?.[1])
  })
  expect(bytes).toBeGreaterThan(LENGTH)
  return bytes
}

async function withoutRoom(use: (model: Model) => Promise<void>): Promise<void> {
  const model = await loadModel('demo', { ...LOAD, memoryBytes: 1 })
  await use(model)
  await model.dispose()
}

/** Two at once, of which one has to wait until the other one is done. */
async function expectWaiting(model: Model): Promise<void> {
  const [first, second] = await timingsOfTwo(model)
  // While its prompt is prepared it does not wait for others.
  expect(second.queueMs + second.prepareMs).toBeGreaterThan(0.8 * first.totalMs)
  expect(second.queueMs).toBeLessThan(second.totalMs)
  expect(first.queueMs).toBeLessThan(0.5 * second.queueMs)
}

/** What two at once take, that which ends first in front: memory goes to who is prepared first. */
async function timingsOfTwo(model: Model): Promise<[Timings, Timings]> {
  const both = ['Once', 'When'].map((prompt) => model.generate(prompt, LONG).result)
  const timings = (await Promise.all(both)).map((result) => result.timings)
  const [first, second] = timings.sort((a, b) => a.totalMs - b.totalMs)
  if (first === undefined || second === undefined) throw new Error('there are two')
  return [first, second]
}

// Shares of time: something else may have the processors for a part of it.
describe('queueMs', { retry: 2 }, () => {
  it('is how long one waits for its place', () => withModel({ maxSequences: 1 }, expectWaiting))

  it('is how long one waits for memory', async () => {
    await withModel({ memoryBytes: Math.floor(1.5 * (await bytesOfOne())) }, expectWaiting)
  })

  it('is nothing where there is room for both', () =>
    withModel({ maxSequences: 2 }, async (model) => {
      const [first, second] = await timingsOfTwo(model)
      // One that waited for the other one would wait for all of this time.
      for (const { queueMs } of [first, second]) expect(queueMs).toBeLessThan(0.5 * first.totalMs)
    }))
})

describe('priorities', () => {
  it('order the queue, and let nobody wait for ever', () =>
    withModel({ maxSequences: 1 }, async (model) => {
      // By the engine's clock, as this thread may hear of several ends at once. Each takes longer
      // than the call does in which it is asked for.
      const options = { minTokens: 100, maxTokens: 100 }
      const ask = async (name: string, priority: number) => {
        const asked = performance.now()
        const { timings } = await model.generate({ tokens: [300] }, { ...options, priority })
        return { name, begun: asked + timings.queueMs + timings.prepareMs }
      }
      // It has its place for as long as it reads its prompt, whatever this thread does meanwhile.
      let begun = (): void => undefined
      const beginning = new Promise<void>((resolve) => (begun = resolve))
      const tokens = Array.from({ length: 4000 }, (_, place) => 300 + (place % 1000))
      const onPrefill = (): void => {
        begun()
      }
      const running = model.generate({ tokens }, { maxTokens: 50, onPrefill })
      const ended = running.result
      await beginning
      const low = ask('low', -5)
      const usual = ask('usual', 0)
      const high = Array.from({ length: 40 }, (_, place) => ask(`high ${place}`, 7))
      running.abort()
      await ended
      const all = await Promise.all([low, usual, ...high])
      const order = all.sort((a, b) => a.begun - b.begun).map(({ name }) => name)
      const highs = high.map((_, place) => `high ${place}`)
      // The two that were asked for first are next after 15 others each.
      const expected = [...highs.slice(0, 15), 'low', ...highs.slice(15, 30), 'usual']
      expect(order).toEqual([...expected, ...highs.slice(30)])
    }))
})
