import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it, vi } from 'vitest'
import { NodeMlxError } from '../js/errors.js'
import { PulledGeneration } from '../js/generation.js'
import type { GenerationChunk } from '../js/types.js'
import { FakeGeneration, nativeError, result, words } from './support/fake-native.js'
import { textOf } from './support/chunks.js'

const token = (text: string, id: number) => ({ text, tokens: Uint32Array.of(id) })

function start(
  events: ConstructorParameters<typeof FakeGeneration>[1],
  hooks?: ConstructorParameters<typeof PulledGeneration>[1],
) {
  const source = new FakeGeneration({ prompt: { text: 'x' } }, events)
  return { source, generation: new PulledGeneration(source, hooks) }
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

/** Reads one piece and leaves. */
async function first<T>(items: AsyncIterable<T>): Promise<T | undefined> {
  for await (const item of items) return item
  return undefined
}

describe('taking an answer', () => {
  it('gives the whole result when awaited', async () => {
    const { generation } = start(words('Hello', ' world'))
    expect(await generation).toEqual({
      text: 'Hello world',
      reasoning: '',
      toolCalls: [],
      invalidToolCalls: [],
      rawText: 'Hello world',
      tokens: [10, 11],
      finishReason: 'stop',
      usage: {
        promptTokens: 5,
        completionTokens: 2,
        totalTokens: 7,
        cachedTokens: 0,
        reasoningTokens: 0,
      },
      timings: result('stop', 2).timings,
      peakMemoryBytes: 1_000_000,
    })
  })

  it('gives pieces when iterated, and the result afterwards', async () => {
    const { source, generation } = start(words('Hello', ' world'))
    expect(await collect(generation)).toEqual([
      { type: 'text', text: 'Hello', tokens: [10] },
      { type: 'text', text: ' world', tokens: [11] },
    ])
    expect((await generation).text).toBe('Hello world')
    expect(source.pulls).toBe(4)
  })

  it('gives every reader all of it, from the beginning, whenever they come', async () => {
    const { source, generation } = start(words('a', 'b', 'c'))
    const first = generation[Symbol.asyncIterator]()
    await first.next()
    const [rest, all, whole] = await Promise.all([
      collect({ [Symbol.asyncIterator]: () => first }),
      collect(generation.textStream),
      generation,
    ])
    expect(rest.map(textOf)).toEqual(['b', 'c'])
    expect(all).toEqual(['a', 'b', 'c'])
    expect(whole.text).toBe('abc')
    expect((await collect(generation)).length).toBe(3)
    expect(source.pulls).toBe(5)
  })

  it('gives different pieces to calls of next that do not wait for each other', async () => {
    const iterator = start(words('a', 'b')).generation[Symbol.asyncIterator]()
    const steps = await Promise.all([iterator.next(), iterator.next(), iterator.next()])
    expect(steps.map(({ value }) => textOf(value))).toEqual(['a', 'b', undefined])
  })

  it('gives the same result to everyone who awaits', async () => {
    const { generation } = start(words('a'))
    const [first, second] = await Promise.all([generation, generation.then((it) => it)])
    expect(second).toBe(first)
  })

  it('is a result where an async function returns it', async () => {
    const { generation } = start(words('a'))
    const ask = async () => generation
    expect((await ask()).text).toBe('a')
  })

  it('can be held without being awaited', async () => {
    const { source, generation } = start(words('a', 'b'))
    const hold = async () => {
      await turn()
      return { generation }
    }
    const held = await hold()
    expect(source.pulls).toBe(0)
    expect(held.generation.result).toBe(held.generation.result)
    expect(await held.generation.result).toMatchObject({ text: 'ab', usage: { totalTokens: 7 } })
    expect(await generation).toBe(await held.generation.result)
  })

  it('goes on where a loop is left while the result is wanted', async () => {
    const { source, generation } = start(words('a', 'b'))
    const { result: whole } = generation
    await first(generation)
    expect((await whole).text).toBe('ab')
    expect(source.aborts).toBe(0)
  })

  it('leaves batches without tokens and text out', async () => {
    const { generation } = start([
      token('a', 1),
      {},
      token('', 2),
      { text: 'b' },
      { done: result('length', 2) },
    ])
    expect(await collect(generation)).toEqual([
      { type: 'text', text: 'a', tokens: [1] },
      { type: 'text', text: '', tokens: [2] },
      { type: 'text', text: 'b', tokens: [] },
    ])
    expect(await collect(generation.textStream)).toEqual(['a', 'b'])
    expect((await generation).finishReason).toBe('length')
  })

  it('hands log-probabilities and the stop string on', async () => {
    const logprobs = [
      { token: 1, logprob: -0.5, text: 'a', top: [{ token: 1, logprob: -0.5, text: 'a' }] },
    ]
    const { generation } = start([
      { ...token('a', 1), logprobs },
      { done: { ...result('stop', 1), matched: { kind: 'string', text: 'END' } } },
    ])
    expect((await collect(generation))[0]?.logprobs).toEqual(logprobs)
    expect(await generation).toMatchObject({ logprobs, stopString: 'END' })
  })

  it('pulls nothing before someone reads, and nothing ahead of the reader', async () => {
    const { source, generation } = start(words('a', 'b', 'c'))
    const stream = generation.stream.getReader()
    await turn()
    expect(source.pulls).toBe(0)
    await stream.read()
    await turn()
    expect(source.pulls).toBe(2)
  })

  it('reports how the prompt is read', async () => {
    const onPrefill = vi.fn()
    const { generation } = start(
      [
        { prefill: { processed: 2, total: 4, cached: 1 } },
        { prefill: { processed: 4, total: 4, cached: 1 } },
        ...words('a').slice(1),
      ],
      { onPrefill },
    )
    await generation
    expect(onPrefill.mock.calls).toEqual([
      [{ processed: 2, total: 4, cached: 1 }],
      [{ processed: 4, total: 4, cached: 1 }],
    ])
  })
})

describe('streams of the platform', () => {
  it('are the same ones each time', () => {
    const { generation } = start(words('a'))
    expect(generation.stream).toBe(generation.stream)
    expect(generation.textStream).toBe(generation.textStream)
  })

  it('can be piped', async () => {
    const { generation } = start(words('Hello', ' world'))
    const response = new Response(generation.textStream.pipeThrough(new TextEncoderStream()))
    expect(await response.text()).toBe('Hello world')
  })

  it('end with the error of the generation', async () => {
    const { generation } = start([token('a', 1), nativeError('MLX_ERROR', 'broken')])
    const reader = generation.stream.getReader()
    expect((await reader.read()).value).toEqual({ type: 'text', text: 'a', tokens: [1] })
    await expect(reader.read()).rejects.toMatchObject({ code: 'MLX_ERROR' })
  })

  it('abort when they are cancelled, read or not', async () => {
    const read = start([token('a', 1)])
    const reader = read.generation.stream.getReader()
    await reader.read()
    await reader.cancel()
    expect(read.source.aborts).toBe(1)

    const unread = start([token('a', 1)])
    await unread.generation.textStream.cancel()
    expect(unread.source.aborts).toBe(1)
  })
})

describe('aborting', () => {
  it('ends loops, and the result has what was read until then', async () => {
    const { generation } = start([token('a', 1), token('b', 2)])
    const seen: GenerationChunk[] = []
    for await (const chunk of generation) {
      seen.push(chunk)
      if (textOf(chunk) === 'b') generation.abort('enough')
    }
    expect(seen.length).toBe(2)
    expect(await generation).toMatchObject({
      text: 'ab',
      tokens: [1, 2],
      finishReason: 'abort',
      abortReason: 'enough',
      usage: { completionTokens: 2, totalTokens: 7 },
    })
  })

  it('leaves out what had been generated but read by nobody', async () => {
    const { source, generation } = start([token('a', 1)])
    const iterator = generation[Symbol.asyncIterator]()
    await iterator.next()
    vi.spyOn(source, 'next').mockResolvedValue({
      text: ' never seen',
      tokens: Uint32Array.of(2, 3),
      done: result('stop', 3),
    })
    generation.abort()
    expect(await iterator.next()).toEqual({ done: true, value: undefined })
    expect(await generation).toMatchObject({
      text: 'a',
      finishReason: 'abort',
      usage: { completionTokens: 1 },
    })
  })

  it('wakes who is waiting for the next piece', async () => {
    const { generation } = start([])
    const whole = generation.then()
    setTimeout(() => {
      generation.abort()
    }, 5)
    expect(await whole).toMatchObject({ text: '', finishReason: 'abort' })
  })

  it('keeps the first reason, and reaches the engine once', async () => {
    const { source, generation } = start([])
    generation.abort('first')
    generation.abort('second')
    expect(source.aborts).toBe(1)
    expect((await generation).abortReason).toBe('first')
  })

  it('does nothing after the end', async () => {
    const { source, generation } = start(words('a'))
    await generation
    generation.abort()
    expect(source.aborts).toBe(0)
    expect((await generation).finishReason).toBe('stop')
  })

  it('follows a signal, and forgets it at the end', async () => {
    const controller = new AbortController()
    const remove = vi.spyOn(controller.signal, 'removeEventListener')
    const { generation } = start([token('a', 1)], { signal: controller.signal })
    const reason = new Error('closed')
    setTimeout(() => {
      controller.abort(reason)
    }, 5)
    expect(await generation).toMatchObject({ finishReason: 'abort', abortReason: reason })

    const finished = start(words('a'), { signal: controller.signal })
    await finished.generation
    expect(remove).toHaveBeenCalled()
  })

  it('happens at once with a signal that is aborted already', async () => {
    const { source, generation } = start([token('a', 1)], { signal: AbortSignal.abort('early') })
    expect(source.aborts).toBe(1)
    expect(await generation).toMatchObject({
      text: '',
      finishReason: 'abort',
      abortReason: 'early',
    })
  })

  it('happens when the only reader leaves', async () => {
    const { source, generation } = start([token('a', 1), token('b', 2)])
    for await (const chunk of generation) if (textOf(chunk) === 'a') break
    expect(source.aborts).toBe(1)
    expect(await generation).toMatchObject({ text: 'a', finishReason: 'abort' })
  })

  it('happens when the reader throws', async () => {
    const { source, generation } = start([token('a', 1), token('b', 2)])
    const loop = async () => {
      for await (const chunk of generation) throw new Error(`of the user, at ${textOf(chunk)}`)
    }
    await expect(loop()).rejects.toThrow('of the user')
    expect(source.aborts).toBe(1)
  })

  it('does not happen when another one still reads or awaits', async () => {
    const awaited = start(words('a', 'b'))
    const whole = awaited.generation.then()
    await first(awaited.generation)
    expect((await whole).text).toBe('ab')

    const read = start(words('a', 'b'))
    const other = read.generation[Symbol.asyncIterator]()
    await other.next()
    await first(read.generation)
    expect(read.source.aborts).toBe(0)
    expect(textOf((await other.next()).value)).toBe('b')
  })
})

describe('errors', () => {
  it('have their code, and come to everyone who reads or awaits', async () => {
    const { generation } = start([token('a', 1), nativeError('CONTEXT_OVERFLOW', 'too long')])
    const failed = { name: 'NodeMlxError', code: 'CONTEXT_OVERFLOW', message: 'too long' }
    await expect(collect(generation)).rejects.toMatchObject(failed)
    await expect(collect(generation)).rejects.toBeInstanceOf(NodeMlxError)
    await expect(generation.finally(() => undefined)).rejects.toMatchObject(failed)
    expect(await generation.catch((error: unknown) => (error as Error).message)).toBe('too long')
  })

  it('name the option where the engine refuses one', async () => {
    const { generation } = start([
      nativeError('INVALID_ARGUMENT', 'must be above 0', { option: 'topP' }),
    ])
    await expect(generation.result).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      option: 'topP',
    })
  })

  it('take nothing from their text', async () => {
    const { generation } = start([nativeError('INVALID_ARGUMENT', 'topP: must be above 0')])
    const error: unknown = await generation.result.catch((error: unknown) => error)
    expect(error).not.toHaveProperty('option')
  })

  it('name the file that is broken', async () => {
    const { generation } = start([nativeError('INVALID_WEIGHTS', 'broken', { path: '/a/b' })])
    await expect(generation.result).rejects.toMatchObject({ path: '/a/b' })
  })

  it('without a code of ours are internal ones', async () => {
    const { generation } = start([nativeError('NumberExpected', 'not a number')])
    await expect(generation.result).rejects.toMatchObject({ code: 'INTERNAL_ERROR' })
  })

  it('without a code are kept as the cause of an internal one', async () => {
    const cause = new TypeError('odd')
    await expect(start([cause]).generation.then()).rejects.toMatchObject({
      code: 'INTERNAL_ERROR',
      cause,
    })
  })

  it('of a callback come out as they are, and stop the engine', async () => {
    const mine = new Error('mine')
    const { source, generation } = start(words('a'), {
      onPrefill: () => {
        throw mine
      },
    })
    await expect(generation.then()).rejects.toBe(mine)
    expect(source.aborts).toBe(1)
  })

  it('of an asynchronous callback come out, too', async () => {
    const mine = new Error('mine')
    const rejects: () => unknown = () => Promise.reject(mine)
    const prefill = { prefill: { processed: 1, total: 2, cached: 0 } }
    const { source, generation } = start([prefill, ...words('a', 'b', 'c')], {
      onPrefill: rejects,
    })
    await expect(generation.then()).rejects.toBe(mine)
    expect(source.aborts).toBe(1)
  })

  it('are thrown at nobody where nobody reads or awaits', async () => {
    const unhandled = vi.fn()
    process.on('unhandledRejection', unhandled)
    try {
      const { generation } = start([nativeError('MLX_ERROR', 'broken')])
      const iterator = generation[Symbol.asyncIterator]()
      await expect(iterator.next()).rejects.toThrow('broken')
      expect(generation.stream.locked).toBe(false)
      start([nativeError('MLX_ERROR', 'broken')])
      await turn()
      await turn()
      expect(unhandled).not.toHaveBeenCalled()
    } finally {
      process.off('unhandledRejection', unhandled)
    }
  })
})
