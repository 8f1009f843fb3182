import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, vi } from 'vitest'
import { NodeMlxError } from '../js/errors.js'
import { loadModel } from '../js/index.js'
import { getNative } from '../js/native.js'
import { OPTION_LIMITS } from '../js/option-limits.js'
import { checkOptionRanges } from '../js/option-ranges.js'
import { REASONING_FORMATS, TOOL_FORMATS } from '../js/testing/checks.js'
import { fakeModel, type FakeAnswer } from '../js/testing/index.js'
import type { GenerateOptions, GenerationChunk, Message, ToolDefinition } from '../js/types.js'

async function chunks(answer: FakeAnswer): Promise<GenerationChunk[]> {
  const all: GenerationChunk[] = []
  for await (const chunk of fakeModel({ answers: answer }).generate('Hi')) all.push(chunk)
  return all
}

/** What of chunks a test wants to see: all but their tokens. */
const shown = (all: GenerationChunk[]) =>
  all.map(({ tokens, ...chunk }) => {
    expect(Array.isArray(tokens)).toBe(true)
    return chunk
  })

describe('an answer that a model which keeps to the request does not give', () => {
  it.each<[FakeAnswer, GenerateOptions, RegExp]>([
    [{ text: 'As an AI, no.' }, { bannedStrings: ['As an AI'] }, /bannedStrings/],
    [{ text: 'Too short.' }, { minTokens: 10 }, /has 3 tokens, and minTokens asks for 10/],
    [{ text: 'maybe' }, { responseFormat: { type: 'choice', options: ['yes', 'no'] } }, /maybe/],
    [{ text: 'a1' }, { responseFormat: { type: 'regex', pattern: '[a-z]' } }, /responseFormat/],
    [{ text: '{"a": ' }, { responseFormat: { type: 'json' } }, /responseFormat/],
    [{ text: 'Hi' }, { tools: [{ name: 'f' }], toolChoice: 'required' }, /toolChoice/],
    [
      { toolCalls: [{ name: 'g' }] },
      { tools: [{ name: 'f' }, { name: 'g' }], toolChoice: { name: 'f' } },
      /does not call f/,
    ],
  ])('is an error: %j for %j', async (answers, options, message) => {
    await expect(fakeModel({ answers }).generate('Hi', options).result).rejects.toThrow(message)
  })

  it('may break off', async () => {
    const answers = { text: '{"a": ', finishReason: 'length' } as const
    const responseFormat = { type: 'json' } as const
    const { incomplete } = await fakeModel({ answers }).generate('Hi', { responseFormat })
    expect(incomplete).toMatchObject({ missing: expect.stringMatching(/}$/) as string })
  })

  it('is no number where more digits could have followed', async () => {
    const responseFormat = { type: 'json', schema: { type: 'integer' } } as const
    const cut = fakeModel({ answers: { text: '12', finishReason: 'length' } })
    const result = await cut.generate('Hi', { responseFormat })
    expect(result).toMatchObject({ text: '12', incomplete: { at: '', missing: '' } })
    expect(result).not.toHaveProperty('object')
    const whole = await fakeModel({ answers: '12' }).generate('Hi', { responseFormat })
    expect(whole.object).toBe(12)
    expect(whole).not.toHaveProperty('incomplete')
  })
})

describe('an answer', () => {
  it('ends with its first call where there may be one alone', async () => {
    const answers = { toolCalls: [{ name: 'f' }, { name: 'g' }] }
    const options = { tools: [{ name: 'f' }, { name: 'g' }], parallelToolCalls: false }
    const { toolCalls } = await fakeModel({ answers }).generate('Hi', options)
    expect(toolCalls.map(({ name }) => name)).toEqual(['f'])
  })

  it('has its reasoning in the text where that is not told apart', async () => {
    const answers = { reasoning: 'Hm.', text: 'Yes.' }
    const options = { reasoningFormat: 'none' } as const
    const { text, reasoning } = await fakeModel({ answers }).generate('Hi', options)
    expect([text, reasoning]).toEqual(['<think>Hm.</think>Yes.', ''])
  })

  it('ends within its time, however slow it is', async () => {
    const model = fakeModel({ answers: 'one two three four', tokenMs: 40 })
    const { text, matched } = await model.generate('Hi', { maxTimeMs: 100 })
    expect('one two three four'.startsWith(text) && text !== 'one two three four').toBe(true)
    expect(matched).toEqual({ type: 'time', value: 100 })
    const late = await fakeModel({ answers: 'Hi', promptMs: 1e6 }).generate('Hi', { maxTimeMs: 5 })
    expect(late).toMatchObject({ text: '', finishReason: 'length' })
  })

  it('comes word by word, or as it was cut', async () => {
    expect(shown(await chunks({ text: 'Hello, big world!' }))).toEqual(
      ['Hello', ',', ' big', ' world', '!'].map((text) => ({ type: 'text', text })),
    )
    expect(shown(await chunks({ text: ['Hello, big', ' world!'] }))).toEqual([
      { type: 'text', text: 'Hello, big' },
      { type: 'text', text: ' world!' },
    ])
  })

  it('has reasoning and calls of tools', async () => {
    const model = fakeModel({
      answers: {
        reasoning: 'Which city?',
        text: 'Let me look.',
        toolCalls: [
          { name: 'get_weather', arguments: { city: 'Paris', days: 2 } },
          { name: 'get_time', id: 'mine' },
        ],
      },
    })
    const generation = model.generate('Hi')
    const all: GenerationChunk[] = []
    for await (const chunk of generation) all.push(chunk)
    const starts = all.filter(({ type }) => type === 'tool-call-start')
    expect(shown(starts)).toEqual([
      { type: 'tool-call-start', index: 0, id: 'call00001', name: 'get_weather' },
      { type: 'tool-call-start', index: 1, id: 'mine', name: 'get_time' },
    ])
    const json = all.map((chunk) =>
      chunk.type === 'tool-call-delta' && chunk.index === 0 ? chunk.argumentsText : '',
    )
    expect(json.length).toBeGreaterThan(5)
    expect(json.join('')).toBe('{"city":"Paris","days":2}')
    const calls = [
      { id: 'call00001', name: 'get_weather', arguments: { city: 'Paris', days: 2 } },
      { id: 'mine', name: 'get_time', arguments: {} },
    ]
    const result = await generation
    expect(result).toMatchObject({
      reasoning: 'Which city?',
      text: 'Let me look.',
      toolCalls: calls,
      invalidToolCalls: [],
      finishReason: 'tool-calls',
    })
    expect(result.usage.reasoningTokens).toBeGreaterThan(3)
    expect(result.usage.reasoningTokens).toBeLessThan(result.usage.completionTokens)
    expect(result.rawText).toMatch(/^<think>Which city\?<\/think>Let me look\.<tool_call>/)
    const texts: string[] = []
    for await (const text of generation.textStream) texts.push(text)
    expect(texts.join('')).toBe('Let me look.')
  })

  it('can be an object', async () => {
    const object = { name: 'Ada', born: 1815 }
    const { text } = await fakeModel({ answers: { object } }).generate('Hi')
    expect(JSON.parse(text)).toEqual(object)
  })

  it('has calls that cannot be read', async () => {
    const bad = { raw: '<tool_call>{oops', error: 'no JSON' }
    const model = fakeModel({ answers: { parts: [{ text: 'Hm.' }, { invalidToolCall: bad }] } })
    const result = await model.generate('Hi')
    expect(result).toMatchObject({ text: 'Hm.', invalidToolCalls: [bad], finishReason: 'stop' })
  })

  it('is cut off within a call', async () => {
    const model = fakeModel({ answers: { toolCalls: [{ name: 'f', arguments: { a: 'b' } }] } })
    const result = await model.generate('Hi', { maxTokens: 6 })
    expect(result).toMatchObject({ toolCalls: [], finishReason: 'length' })
    expect(result.tokens).toHaveLength(6)
    expect(result.invalidToolCalls).toEqual([
      {
        raw: expect.stringMatching(/^<tool_call>f/) as string,
        error: expect.any(String) as string,
      },
    ])
  })

  it('fails with an error, after what came before', async () => {
    const model = fakeModel({
      answers: { text: 'Once', error: { code: 'MLX_ERROR', message: 'broken', path: '/a' } },
    })
    const seen: string[] = []
    const read = async () => {
      for await (const text of model.generate('Hi').textStream) seen.push(text)
    }
    await expect(read()).rejects.toMatchObject({
      name: 'NodeMlxError',
      code: 'MLX_ERROR',
      message: 'broken',
      path: '/a',
    })
    expect(seen).toEqual(['Once'])
    const other = fakeModel({ answers: { error: new TypeError('odd') } })
    await expect(other.generate('Hi')).rejects.toMatchObject({ code: 'INTERNAL_ERROR' })
  })

  it('is the next one of a list, as long as it goes', async () => {
    const model = fakeModel({ answers: ['one', { text: 'two' }] })
    expect((await model.generate('a')).text).toBe('one')
    expect((await model.generate('b')).text).toBe('two')
    await expect(model.generate('c')).rejects.toThrow(/no answer for generation 3: there are 2/)
  })

  it('is made of the request by a function', async () => {
    const tools: ToolDefinition[] = [{ type: 'function', function: { name: 'f', parameters: {} } }]
    const messages: Message[] = [{ role: 'user', content: 'Hi' }]
    const model = fakeModel({
      answers: async ({ messages: asked, index }) => {
        await sleep(1)
        return `${index}: ${asked?.[0]?.content as string}`
      },
    })
    expect((await model.generate(messages, { tools, stop: 'x', seed: 3 })).text).toBe('0: Hi')
    expect((await model.generate('Hello')).text).toBe('1: Hello')
    await model.generate({ text: 'raw' })
    expect(model.requests).toEqual([
      { index: 0, messages, tools, options: { stop: ['x'], seed: 3 } },
      { index: 1, messages: [{ role: 'user', content: 'Hello' }], options: {} },
      { index: 2, text: 'raw', options: {} },
    ])
  })

  it.each([
    [{}, /^answers: is missing/],
    [{ answers: 5 }, /^answers: expected an object, got 5/],
    [{ answers: { txt: 'a' } }, /^answers\.txt: is not an option; did you mean text/],
    [{ answers: ['a', { object: 1, text: 'a' }] }, /^answers\[1\]\.object/],
    [{ answers: { toolCalls: [{ arguments: {} }] } }, /^answers\.toolCalls\[0\]\.name: is missing/],
    [{ answers: { parts: [{ text: 'a', waitMs: 5 }] } }, /^answers\.parts\[0\]: expected exactly/],
    [{ answers: { parts: [], text: 'a' } }, /^answers\.text: cannot go together with parts/],
    [{ answers: { error: {} } }, /^answers\.error\.code: is missing/],
    [{ answers: 'a', tokenMs: -1 }, /^tokenMs: expected a number of milliseconds/],
    [{ answers: 'a', info: { layer: 1 } }, /^info\.layer: is not an option; did you mean layers/],
  ])('that makes no sense is refused: %o', (options, message) => {
    expect(() => fakeModel(options as never)).toThrow(message)
  })
})

describe('time', () => {
  it('passes for the prompt, for each token and in between', async () => {
    const model = fakeModel({
      answers: { parts: [{ text: 'a b' }, { waitMs: 60 }, { text: ' c' }] },
      promptMs: 50,
      tokenMs: 10,
    })
    const { timings } = await model.generate('Hi')
    expect(timings.prefillMs).toBeGreaterThanOrEqual(49)
    expect(timings.timeToFirstTokenMs).toBeGreaterThanOrEqual(59)
    expect(timings.totalMs).toBeGreaterThanOrEqual(138)
  })

  it('goes on while nobody reads, up to 256 tokens', async () => {
    vi.useFakeTimers()
    try {
      const answers = Array.from({ length: 2000 }, () => 'word').join(' ')
      const generation = fakeModel({ answers, tokenMs: 10 }).generate('Hi')
      const iterator = generation[Symbol.asyncIterator]()
      /** Whether a piece comes without time going by. */
      const comes = async (): Promise<boolean> => {
        const state = { came: false }
        void iterator.next().then(() => (state.came = true))
        for (let turns = 0; turns < 20 && !state.came; turns++) await turn()
        return state.came
      }
      expect(await comes()).toBe(false)
      await vi.advanceTimersByTimeAsync(60_000)
      let ahead = 0
      while (await comes()) ahead++
      expect(ahead).toBe(256)
      // One token is for the piece that did not come.
      await vi.advanceTimersByTimeAsync(20)
      expect(await comes()).toBe(true)
      generation.abort()
    } finally {
      vi.useRealTimers()
    }
  })

  it('does not pass for who aborts', async () => {
    const model = fakeModel({ answers: { parts: [{ text: 'a' }, { waitMs: 60_000 }] } })
    const generation = model.generate('Hi')
    for await (const { tokens } of generation) {
      expect(tokens).toHaveLength(1)
      generation.abort()
    }
    expect(await generation).toMatchObject({ text: 'a', finishReason: 'abort' })
  })
})

describe('a model without', () => {
  it('a tokenizer or a chat template says so', async () => {
    const bare = fakeModel({ answers: 'a', info: { hasTokenizer: false, hasChatTemplate: false } })
    await expect(bare.generate('Hi')).rejects.toMatchObject({ code: 'NO_TOKENIZER' })
    expect((await bare.generate({ tokens: [300] })).text).toBe('a')
    const plain = fakeModel({ answers: 'a', info: { hasChatTemplate: false } })
    expect((await plain.generate('Hi')).usage.promptTokens).toBe(1)
    await expect(plain.generate([{ role: 'user', content: 'Hi' }])).rejects.toMatchObject({
      code: 'NO_CHAT_TEMPLATE',
    })
  })
})

describe('the formats that can be named', () => {
  it.each([
    ['toolFormat', TOOL_FORMATS],
    ['reasoningFormat', [...REASONING_FORMATS, 'none']],
  ])('are those of the addon: %s', async (option, names) => {
    const model = await loadModel('demo', { device: 'cpu' })
    const generation = model.generate('Hi', { [option]: 'nope' })
    const { problem = '' } = await generation.result.then(
      () => new NodeMlxError('INTERNAL_ERROR', 'it was taken'),
      (error: unknown) => error as NodeMlxError,
    )
    await model.dispose()
    expect(problem.replace('is none of ', '').split(', ').sort()).toEqual([...names].sort())
  })
})

describe('the ranges of options', () => {
  const native = getNative()
  const check = (run: () => void): unknown => {
    try {
      run()
    } catch (error) {
      const { code, option, message } = error as Error & { code?: string; option?: string }
      return { code, option, message }
    }
    return undefined
  }
  const VALUES = [
    ...[-1e9, -100.5, -2.5, -2, -1, -0.1, 0, 0.4, 0.5, 0.6, 1, 1.5, 2, 4, 8, 10, 10.5, 15, 16, 20],
    ...[21, 32, 64, 101, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 53 - 1, 2 ** 53],
    ...[Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  ]

  const withOption = (name: string, value: number): object => {
    if (name === 'logitBias') return { logitBias: { 7: value } }
    if (name === 'draftTokens') return { speculation: { enabled: true, draftTokens: value } }
    return { [name]: value }
  }

  it.each(Object.keys(OPTION_LIMITS))('are those of the addon: %s', (name) => {
    let refused = 0
    for (const value of VALUES) {
      const request = {
        prompt: { text: 'a' },
        // Without bits the size of a group means nothing.
        ...(name === 'kvGroupSize' ? { kvBits: 8 } : {}),
        ...withOption(name, value),
      }
      const ours = check(() => {
        checkOptionRanges(request)
      })
      expect(ours, `${name}: ${value}`).toEqual(check(() => native.checkGenerateRequest?.(request)))
      if (ours !== undefined) refused++
    }
    expect(refused).toBeGreaterThan(0)
  })
})
