// Many prompts at once, with the real engine and the embedded model.

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { loadModel } from '../js/index.js'
import { runBatch } from '../js/batch.js'
import type { NodeMlxError } from '../js/errors.js'
import type {
  BatchItem,
  GenerateBatchOptions,
  Generation,
  GenerationResult,
  Model,
  Prompt,
} from '../js/types.js'

let model: Model

beforeAll(async () => {
  model = await loadModel('demo', { precision: 'exact', maxSequences: 4 })
})

afterAll(async () => {
  await model.dispose()
})

const OPTIONS = { temperature: 0.8, seed: 11, maxTokens: 8 } as const

const PROMPTS: Prompt[] = [
  'Tell me a story.',
  'What is the capital of France?',
  { tokens: [300, 301, 302, 303, 304, 305, 306, 307, 308, 309] },
  [{ role: 'user', content: 'Name three animals.' }],
  { text: 'Once upon a time' },
  'Who are you?',
  'Count to ten.',
]

async function all(
  prompts: Iterable<Prompt> | AsyncIterable<Prompt>,
  options: GenerateBatchOptions = {},
): Promise<BatchItem[]> {
  const items: BatchItem[] = []
  for await (const item of model.generateBatch(prompts, { ...OPTIONS, ...options })) {
    items.push(item)
  }
  return items
}

/** An answer without an end. */
const endless = () => ({
  maxTokens: 1000,
  logitBias: Object.fromEntries(model.info.eosTokens.map((token) => [token, -100])),
})

describe('a batch', () => {
  it('gives what single generations give', async () => {
    expect(model.info.maxSequences).toBe(4)
    const single: string[] = []
    for (const prompt of PROMPTS) single.push((await model.generate(prompt, OPTIONS)).text)
    const items = await all(PROMPTS, { ordered: true })
    expect(items.map(({ index }) => index)).toEqual(PROMPTS.map((_, index) => index))
    expect(items.map(({ result }) => result?.text)).toEqual(single)
    const timings = items.map(({ result }) => result?.timings.queueMs ?? -1)
    expect(timings.every((queueMs) => queueMs >= 0)).toBe(true)
  })

  it('gives several answers to each prompt, which is read once', async () => {
    const long = 'You are a helpful assistant who answers in one short sentence. '.repeat(4)
    const prompts = [`${long}Tell me a story about a fox.`, `${long}Name three animals.`]
    await model.clearPrefixCache()
    const items = await all(prompts, { ordered: true, n: 3 })
    expect(items.map(({ index, answer }) => [index, answer])).toEqual(
      [0, 1].flatMap((index) => [0, 1, 2].map((answer) => [index, answer])),
    )
    for (const [index, prompt] of prompts.entries()) {
      const own = items.filter((item) => item.index === index)
      for (const { answer, result } of own) {
        const alone = await model.generate(prompt, { ...OPTIONS, seed: OPTIONS.seed + answer })
        expect(result?.text).toBe(alone.text)
      }
    }
    const readAnew = items.map(({ result }) => {
      const { promptTokens = 0, cachedTokens = 0 } = result?.usage ?? {}
      return promptTokens - cachedTokens
    })
    // Which of them reads the beginning is left open; nobody waits for the few tokens behind it.
    expect(readAnew.filter((tokens) => tokens > 32)).toHaveLength(1)
    const free = await all(prompts.slice(0, 1), { n: 4, seed: undefined, temperature: 1.5 })
    expect(new Set(free.map(({ result }) => result?.text)).size).toBeGreaterThan(1)
  })

  it('asks for no more prompts than it needs', async () => {
    let asked = 0
    function* prompts(): Generator<Prompt> {
      for (;;) yield { tokens: [300 + asked++] }
    }
    const options = { ...OPTIONS, maxTokens: 2, concurrency: 2 }
    const iterator = model.generateBatch(prompts(), options)
    for (let count = 0; count < 3; count++) await iterator.next()
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(asked).toBeLessThanOrEqual(3 + 4 * 2)
    await iterator.return?.()
    expect(await iterator.next()).toEqual({ done: true, value: undefined })
  })

  it('has errors of single prompts as items of their own', async () => {
    const prompts = [PROMPTS[0], { tokens: [-1] }, { tokens: [10 ** 6] }, PROMPTS[1]] as Prompt[]
    const items = await all(prompts, { ordered: true, maxTokens: 3 })
    expect(items.map(({ error }) => (error as NodeMlxError | undefined)?.code)).toEqual([
      undefined,
      'INVALID_ARGUMENT',
      'INVALID_ARGUMENT',
      undefined,
    ])
  })

  it('ends with a signal, and says what had begun', async () => {
    const controller = new AbortController()
    let returned = false
    function* prompts(): Generator<Prompt> {
      try {
        for (;;) yield 'Tell me a story.'
      } finally {
        returned = true
      }
    }
    const options = { ...OPTIONS, ...endless(), concurrency: 3, signal: controller.signal }
    setTimeout(() => {
      controller.abort(new Error('enough'))
    }, 100)
    const items: BatchItem[] = []
    for await (const item of model.generateBatch(prompts(), options)) items.push(item)
    expect(items.map(({ result }) => result?.finishReason)).toEqual(['abort', 'abort', 'abort'])
    expect(items[0]?.result?.abortReason).toEqual(new Error('enough'))
    expect(returned).toBe(true)
    const nothing: BatchItem[] = []
    for await (const item of model.generateBatch(prompts(), options)) nothing.push(item)
    expect(nothing).toEqual([])
  })

  it('leaves nothing running behind a loop that is left', async () => {
    const generate = vi.spyOn(model, 'generate')
    // The first one fails at once, beside others that have no end.
    const prompts = [{ tokens: [-1] }, ...PROMPTS]
    for await (const item of model.generateBatch(prompts, { ...OPTIONS, ...endless() })) {
      expect(item.error).toBeDefined()
      break
    }
    const begun = generate.mock.results.filter(({ type }) => type === 'return')
    generate.mockRestore()
    const results = await Promise.all(begun.map(({ value }) => (value as Generation).result))
    expect(results.map(({ finishReason }) => finishReason)).toEqual(Array(4).fill('abort'))
  })

  it('rejects with what its prompts throw', async () => {
    function* broken(): Generator<Prompt> {
      yield { tokens: [300] }
      throw new Error('no more prompts')
    }
    await expect(all(broken())).rejects.toThrow('no more prompts')
  })

  it('gives what had begun before its prompts throw', async () => {
    function* broken(): Generator<Prompt> {
      yield* PROMPTS.slice(0, 3)
      throw new Error('line 4')
    }
    const items: BatchItem[] = []
    const read = async (): Promise<void> => {
      for await (const item of model.generateBatch(broken(), { ...OPTIONS, maxTokens: 3 }))
        items.push(item)
    }
    await expect(read()).rejects.toThrow('line 4')
    expect(items).toHaveLength(3)
    for (const { result } of items) expect(result?.finishReason).toMatch(/^(length|stop)$/)
  })

  it('closes prompts that it waits for when its loop is left', async () => {
    let closed = false
    const source: AsyncIterableIterator<Prompt> = {
      next: vi
        .fn()
        .mockResolvedValueOnce({ done: false, value: PROMPTS[0] })
        .mockReturnValue(new Promise(() => undefined)),
      return: () => {
        closed = true
        return new Promise(() => undefined)
      },
      [Symbol.asyncIterator]: () => source,
    }
    for await (const item of model.generateBatch(source, { ...OPTIONS, maxTokens: 2 })) {
      expect(item.error).toBeUndefined()
      break
    }
    expect(closed).toBe(true)
  })

  it('refuses what is no list of prompts, and wrong options, at once', () => {
    const wrong = [
      [() => model.generateBatch('Hi' as never), /prompts/],
      [() => model.generateBatch(undefined as never), /prompts/],
      [() => model.generateBatch([], { concurrency: 0 }), /concurrency/],
      [() => model.generateBatch([], { temperature: 11 }), /temperature/],
      [() => model.generateBatch([], { maxConcurrency: 3 } as never), /did you mean concurrency/],
      [() => model.generateBatch([], { promptCache: 3 } as never), /promptCache/],
    ] as const
    for (const [call, says] of wrong) expect(call).toThrow(says)
  })

  it('ends with the model', async () => {
    const other = await loadModel('demo')
    const iterator = other.generateBatch(PROMPTS, { ...OPTIONS, ...endless(), maxTokens: 10_000 })
    const refused = expect(iterator.next()).rejects.toMatchObject({ code: 'DISPOSED' })
    await new Promise((resolve) => setTimeout(resolve, 50))
    await other.dispose()
    await refused
    expect(() => other.generateBatch([])).toThrow(/disposed/)
  })
})

describe('what waits for its turn', () => {
  it('has it in the order of the calls, however long its prompt takes to prepare', async () => {
    const one = await loadModel('demo', { maxSequences: 1 })
    const order: number[] = []
    const prompts = [{ text: 'word '.repeat(3000) }, 'x', { text: 'word '.repeat(1000) }, 'y', 'z']
    await Promise.all(
      prompts.map(async (prompt, at) => {
        await one.generate(prompt, { maxTokens: 1 })
        order.push(at)
      }),
    )
    expect(order).toEqual([0, 1, 2, 3, 4])
    await one.dispose()
  })
})

describe('what a caller throws', () => {
  it('ends its own generation, and leaves those beside it', async () => {
    const single: string[] = []
    for (const prompt of PROMPTS) single.push((await model.generate(prompt, OPTIONS)).text)
    const mine = new Error('mine')
    const fromCallback = model.generate('Tell me a story.', {
      ...endless(),
      onPrefill: () => {
        throw mine
      },
    })
    const fromLoop = async (): Promise<void> => {
      for await (const text of model.generate('Tell me a story.', endless()).textStream) {
        if (text !== '') throw mine
      }
    }
    const failures = [fromCallback.then(() => undefined), fromLoop()].map((failure) =>
      expect(failure).rejects.toBe(mine),
    )
    const beside = await Promise.all(PROMPTS.map((prompt) => model.generate(prompt, OPTIONS)))
    await Promise.all(failures)
    expect(beside.map(({ text }) => text)).toEqual(single)
  })
})

describe('an answer that nobody reads', () => {
  it('keeps no memory from others, and goes on as it was', async () => {
    const one = await loadModel('demo', {
      memoryBytes: 5e6,
      precision: 'exact',
      prefixCache: false,
    })
    const options = { temperature: 0, minTokens: 320, maxTokens: 320 }
    const alone = await one.generate('Once', options)
    const unread = one.generate('Once', options)
    const other = await one.generate('Two', { temperature: 0, maxTokens: 60 })
    expect(other.text).not.toBe('')
    expect((await unread).tokens).toEqual(alone.tokens)
    await one.dispose()
  })
})

describe('the order of results', () => {
  /** A batch whose answers end when the test says so. */
  function batch(ordered: boolean): {
    items: AsyncGenerator<BatchItem, undefined>
    begun: string[]
    end: (prompt: string) => void
  } {
    const begun: string[] = []
    const ends = new Map<string, () => void>()
    const generate = (prompt: Prompt): Generation => {
      begun.push(prompt as string)
      const result = new Promise<GenerationResult>((resolve) => {
        ends.set(prompt as string, () => {
          resolve({ text: prompt } as GenerationResult)
        })
      })
      return { result, abort: () => ends.get(prompt as string)?.() } as unknown as Generation
    }
    const prompts = ['a', 'b', 'c', 'd', 'e', 'f']
    const settings = { ordered, concurrency: 2, answers: 1, signal: undefined }
    return {
      items: runBatch(prompts[Symbol.iterator](), generate, settings),
      begun,
      end: (prompt) => ends.get(prompt)?.(),
    }
  }

  const index = ({ value }: IteratorResult<BatchItem, undefined>): number | undefined =>
    value?.index

  it('is that in which they come', async () => {
    const { items, begun, end } = batch(false)
    const first = items.next()
    expect(begun).toEqual(['a', 'b'])
    end('b')
    expect(index(await first)).toBe(1)
    expect(begun).toEqual(['a', 'b', 'c'])
    end('c')
    expect(index(await items.next())).toBe(2)
    end('a')
    expect(index(await items.next())).toBe(0)
    await items.return(undefined)
  })

  it('is that of the prompts where it is asked for', async () => {
    const { items, begun, end } = batch(true)
    const first = items.next()
    for (const prompt of ['b', 'c', 'd', 'e', 'f']) {
      end(prompt)
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(begun).toEqual(['a', 'b', 'c', 'd', 'e', 'f'])
    end('a')
    const seen = [index(await first)]
    for await (const item of items) seen.push(item.index)
    expect(seen).toEqual([0, 1, 2, 3, 4, 5])
  })
})

describe('a deterministic generation', () => {
  it('is the same beside others', async () => {
    const options = { ...OPTIONS, deterministic: true, logprobs: 2 }
    const alone = await model.generate('Tell me a story.', options)
    const others = [1, 2, 3].map((seed) =>
      model.generate('Tell me a story.', { ...endless(), seed, temperature: 1 }),
    )
    const waits = others.map((other) => other.then(() => undefined))
    const beside = await model.generate('Tell me a story.', options)
    for (const other of others) other.abort()
    await Promise.all(waits)
    expect(beside.tokens).toEqual(alone.tokens)
    expect(beside.logprobs).toEqual(alone.logprobs)
  })
})
