// Who waits for whom, for how long and in which order, with the embedded model. Times are compared
// with each other, as machines differ.

import { describe, expect, it } from 'vitest'
import { loadModel } from '../js/index.js'
import type { NodeMlxError } from '../js/errors.js'
import type { LoadModelOptions, Model } from '../js/types.js'

const LENGTH = 150
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

/** Two at once, of which the second has to wait until the first is done. */
async function expectWaiting(model: Model): Promise<void> {
  const both = ['Once', 'When'].map((prompt) => model.generate(prompt, LONG).result)
  const [first, second] = (await Promise.all(both)).map(({ timings }) => timings)
  if (first === undefined || second === undefined) throw new Error('there are two')
  expect(first.queueMs).toBeLessThan(0.1 * first.totalMs)
  expect(second.queueMs / first.totalMs).toBeGreaterThan(0.8)
  expect(second.queueMs / first.totalMs).toBeLessThan(1.2)
  expect(second.totalMs).toBeGreaterThan(1.5 * first.totalMs)
}

// Shares of time: something else may have the processors for a part of it.
describe('queueMs', { retry: 2 }, () => {
  it('is how long one waits for its place', () => withModel({ maxSequences: 1 }, expectWaiting))

  it('is how long one waits for memory', async () => {
    await withModel({ memoryBytes: Math.floor(1.5 * (await bytesOfOne())) }, expectWaiting)
  })

  it('is nothing where there is room for both', () =>
    withModel({ maxSequences: 2 }, async (model) => {
      const both = ['Once', 'When'].map((prompt) => model.generate(prompt, LONG).result)
      for (const { timings } of await Promise.all(both)) {
        expect(timings.queueMs).toBeLessThan(0.1 * timings.totalMs)
      }
    }))
})

describe('priorities', () => {
  it('order the queue, and let nobody wait for ever', () =>
    withModel({ maxSequences: 1 }, async (model) => {
      const order: string[] = []
      const ask = async (name: string, priority: number): Promise<void> => {
        await model.generate({ tokens: [300, 301] }, { priority, maxTokens: 2 })
        order.push(name)
      }
      const running = model.generate('Once', { minTokens: 60, maxTokens: 60 })
      await running[Symbol.asyncIterator]().next()
      const low = ask('low', -5)
      const usual = ask('usual', 0)
      const high = Array.from({ length: 40 }, (_, place) => ask(`high ${place}`, 7))
      await Promise.all([running.result, low, usual, ...high])
      const highs = high.map((_, place) => `high ${place}`)
      // The two that were asked for first are next after 15 others each.
      const expected = [...highs.slice(0, 15), 'low', ...highs.slice(15, 30), 'usual']
      expect(order).toEqual([...expected, ...highs.slice(30)])
    }))
})
