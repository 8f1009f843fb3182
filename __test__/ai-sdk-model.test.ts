// What the provider gives for calls of the AI SDK's interface, field by field.

import type {
  LanguageModelV4CallOptions,
  LanguageModelV4Prompt,
  LanguageModelV4StreamPart,
} from '@ai-sdk/provider'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, vi } from 'vitest'
import { createNodeMlx } from '../js/ai-sdk/index.js'
import type { Model } from '../js/index.js'
import { fakeModel, type FakeAnswers } from '../js/testing/index.js'

const PROMPT: LanguageModelV4Prompt = [{ role: 'user', content: [{ type: 'text', text: 'Hi' }] }]

function setUp(answers: FakeAnswers = 'Hello.') {
  const fake = fakeModel({ answers })
  const model = createNodeMlx({ models: { fake } })('fake')
  const ask = (call: Partial<LanguageModelV4CallOptions> = {}) =>
    model.doGenerate({ prompt: PROMPT, ...call })
  const stream = async (call: Partial<LanguageModelV4CallOptions> = {}) => {
    const all: LanguageModelV4StreamPart[] = []
    const { stream: parts } = await model.doStream({ prompt: PROMPT, ...call })
    for await (const part of parts as unknown as AsyncIterable<LanguageModelV4StreamPart>)
      all.push(part)
    return all
  }
  return { fake, model, ask, stream }
}

it.each<[Partial<LanguageModelV4CallOptions>, string]>([
  [{ maxOutputTokens: 0 }, 'maxOutputTokens: '],
  [{ stopSequences: [''] }, 'stopSequences[0]: '],
  [{ topP: 2 }, 'topP: '],
])('an option that is wrong has the name that it was given by: %j', async (call, message) => {
  await expect(setUp().ask(call)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    option: message.replace(/: $/, ''),
    message: expect.stringContaining(message) as string,
  })
})

it('an effort that nobody knows is warned of', async () => {
  const { fake, ask } = setUp()
  const { warnings } = await ask({ reasoning: 'huge' as never })
  expect(warnings).toEqual([
    {
      type: 'unsupported',
      feature: 'reasoning',
      details: expect.stringContaining("there is no effort 'huge'") as string,
    },
  ])
  expect(fake.requests[0]?.options).not.toHaveProperty('reasoning')
})

describe('a model', () => {
  it('says what it is', () => {
    const { model } = setUp()
    expect(model).toMatchObject({
      specificationVersion: 'v4',
      provider: 'nodemlx',
      modelId: 'fake',
      supportedUrls: {},
    })
  })

  it('takes every option', async () => {
    const { fake, ask } = setUp()
    const { warnings } = await ask({
      maxOutputTokens: 50,
      temperature: 0.5,
      topP: 0.9,
      topK: 40,
      presencePenalty: 0.1,
      frequencyPenalty: 0.2,
      stopSequences: ['END'],
      seed: 7,
      responseFormat: { type: 'text' },
      reasoning: 'provider-default',
      headers: { 'user-agent': 'ai/7' },
      toolChoice: { type: 'auto' },
      providerOptions: { nodemlx: { minP: 0.05 }, other: { x: 1 } },
    })
    expect(warnings).toEqual([])
    expect(fake.requests[0]?.options).toEqual({
      maxTokens: 50,
      temperature: 0.5,
      topP: 0.9,
      topK: 40,
      presencePenalty: 0.1,
      frequencyPenalty: 0.2,
      stop: ['END'],
      seed: 7,
      minP: 0.05,
    })
  })

  it('takes the likeliest token where no share of them is wanted', async () => {
    const { fake, ask } = setUp()
    await ask({ topP: 0 })
    expect(fake.requests[0]?.options).toEqual({ topP: expect.closeTo(0, 5) as number })
    expect(fake.requests[0]?.options['topP']).toBeGreaterThan(0)
  })

  it('warns of headers, whatever the model is for', async () => {
    const provider = createNodeMlx({ models: { fake: fakeModel({ answers: 'yes' }) } })
    const headers = { 'x-test': '1', 'user-agent': 'ai/7' }
    const documents = { type: 'text' as const, values: ['a'] }
    const expected = [
      { type: 'unsupported', feature: 'headers', details: 'x-test: there is no HTTP' },
    ]
    const embedded = await provider.embeddingModel('fake').doEmbed({ values: ['a'], headers })
    expect(embedded.warnings).toEqual(expected)
    const ranked = provider.rerankingModel('fake').doRerank({ query: 'a', documents, headers })
    expect((await ranked).warnings).toEqual(expected)
  })

  it('warns of what it cannot do', async () => {
    const { ask } = setUp()
    const { warnings } = await ask({
      headers: { 'x-test': '1' },
      tools: [{ type: 'provider', id: 'other.search', name: 'search', args: {} }],
    })
    expect(warnings).toEqual([
      { type: 'unsupported', feature: 'provider-defined tool other.search' },
      { type: 'unsupported', feature: 'headers', details: 'x-test: there is no HTTP' },
    ])
  })

  it('warns of a choice among tools that cannot be called', async () => {
    const { ask } = setUp()
    for (const toolChoice of [
      { type: 'required' },
      { type: 'tool', toolName: 'search' },
    ] as const) {
      const { warnings } = await ask({
        tools: [{ type: 'provider', id: 'other.search', name: 'search', args: {} }],
        toolChoice,
      })
      expect(warnings).toContainEqual({
        type: 'unsupported',
        feature: 'toolChoice',
        details: expect.stringContaining('there is none') as string,
      })
    }
  })

  it('does without reasoning where the model has none, and warns of it', async () => {
    const model = createNodeMlx()('demo')
    const call = { prompt: PROMPT, maxOutputTokens: 4, temperature: 0 }
    const plain = await model.doGenerate(call)
    for (const reasoning of ['minimal', 'low', 'medium', 'high', 'xhigh'] as const) {
      const { content, warnings } = await model.doGenerate({ ...call, reasoning })
      expect(content).toEqual(plain.content)
      expect(warnings).toContainEqual({
        type: 'unsupported',
        feature: 'reasoning',
        details: expect.stringContaining('chat template') as string,
      })
      const { stream } = await model.doStream({ ...call, reasoning })
      const parts: LanguageModelV4StreamPart[] = []
      for await (const part of stream as unknown as AsyncIterable<LanguageModelV4StreamPart>)
        parts.push(part)
      expect(parts[0]).toEqual({ type: 'stream-start', warnings })
      expect(parts.at(-1)).toMatchObject({ type: 'finish', finishReason: { unified: 'length' } })
    }
    // It reasons as little as it is asked to.
    const { content, warnings } = await model.doGenerate({ ...call, reasoning: 'none' })
    expect({ content, warnings }).toEqual({ content: plain.content, warnings: [] })
  })

  it('hands tools on, with their examples', async () => {
    const { fake, ask } = setUp()
    const inputSchema = { type: 'object', properties: { a: { type: 'number' } } } as const
    await ask({
      tools: [
        {
          type: 'function',
          name: 'f',
          description: 'Does it.',
          inputSchema,
          inputExamples: [{ input: { a: 1 } }],
          strict: true,
        },
        { type: 'function', name: 'g', inputSchema },
      ],
    })
    expect(fake.requests[0]?.tools).toEqual([
      {
        type: 'function',
        function: {
          name: 'f',
          description: 'Does it.\nExample: {"a":1}',
          parameters: inputSchema,
          strict: true,
        },
      },
      { type: 'function', function: { name: 'g', parameters: inputSchema } },
    ])
  })

  it('hands a schema on, and tells the model of it', async () => {
    const { fake, ask } = setUp({ object: { city: 'Paris' } })
    const schema = { type: 'object', properties: { city: { type: 'string' } } } as const
    const format = { type: 'json', schema, name: 'place', description: 'A place.' } as const
    const { content } = await ask({ responseFormat: format })
    expect(content).toEqual([{ type: 'text', text: '{"city":"Paris"}' }])
    const [told] = fake.requests[0]?.messages ?? []
    expect(told?.role).toBe('system')
    expect(told?.content).toBe(
      `Answer with JSON (place: A place.) that follows this schema, and nothing else:\n${JSON.stringify(schema)}`,
    )
    expect(fake.requests[0]?.options).toEqual({
      responseFormat: { schemaJson: JSON.stringify(schema), strict: true },
    })
    const tool = { type: 'function', name: 'f', inputSchema: { type: 'object' } } as const
    await ask({ responseFormat: format, tools: [tool] })
    expect(fake.requests[1]?.messages?.[0]?.content).toMatch(
      /^Where you do not call a tool, answer/,
    )
    await ask({
      responseFormat: format,
      providerOptions: { nodemlx: { schemaInPrompt: false, strictSchema: false } },
    })
    expect(fake.requests[2]?.messages).toHaveLength(1)
    expect(fake.requests[2]?.options).toMatchObject({ responseFormat: { strict: false } })
    await ask({ responseFormat: { type: 'json' }, prompt: [{ role: 'system', content: 'Hi.' }] })
    expect(fake.requests[3]?.messages).toEqual([
      { role: 'system', content: 'Hi.\n\nAnswer with JSON and nothing else.' },
    ])
  })

  it('reads every kind of message', async () => {
    const { fake, ask } = setUp()
    const output = (value: unknown) => ({
      type: 'tool-result' as const,
      toolCallId: 'c1',
      toolName: 'f',
      output: value as { type: 'text'; value: string },
    })
    const { warnings } = await ask({
      prompt: [
        { role: 'system', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'Read:' },
            { type: 'file', mediaType: 'text/plain', data: { type: 'text', text: 'inline' } },
            { type: 'file', mediaType: 'text/csv', data: { type: 'data', data: 'YSxi' } },
          ],
        },
        {
          role: 'assistant',
          content: [
            { type: 'reasoning', text: 'Hm.' },
            { type: 'text', text: 'Wait.' },
            { type: 'tool-call', toolCallId: 'c1', toolName: 'f', input: { a: 1 } },
            { type: 'custom', kind: 'other.thing' },
          ],
        },
        {
          role: 'tool',
          content: [
            output({ type: 'text', value: 'fine' }),
            output({ type: 'json', value: { b: 2 } }),
            output({ type: 'error-text', value: 'bad' }),
            output({ type: 'error-json', value: [1] }),
            output({ type: 'execution-denied', reason: 'no' }),
            output({ type: 'content', value: [{ type: 'text', text: 'x' }, { type: 'custom' }] }),
          ],
        },
      ],
    })
    const call = { id: 'c1', type: 'function', function: { name: 'f', arguments: { a: 1 } } }
    const result = (content: string) => ({ role: 'tool', tool_call_id: 'c1', name: 'f', content })
    expect(fake.requests[0]?.messages).toEqual([
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Read:\ninline\na,b' },
      { role: 'assistant', content: 'Wait.', reasoning_content: 'Hm.', tool_calls: [call] },
      ...['fine', '{"b":2}', 'bad', '[1]', 'no', 'x'].map(result),
    ])
    expect(warnings.map((it) => ('feature' in it ? it.feature : it.type))).toEqual([
      'custom parts',
      'custom parts',
    ])
  })

  it('refuses files that are no text', async () => {
    const { ask } = setUp()
    const url = new URL('https://example.com/cat.png')
    await expect(
      ask({
        prompt: [
          {
            role: 'user',
            content: [{ type: 'file', mediaType: 'image/png', data: { type: 'url', url } }],
          },
        ],
      }),
    ).rejects.toMatchObject({ name: 'AI_UnsupportedFunctionalityError' })
  })
})

describe('an answer', () => {
  const ANSWER = {
    parts: [
      { reasoning: ['Let', ' me'] },
      { text: ['A', 'B'] },
      { toolCall: { name: 'f', arguments: { a: 1 }, id: 'c1' } },
      { text: ['C'] },
      { invalidToolCall: { raw: '<oops', error: 'bad' } },
    ],
  }

  it('is content in its order, with usage and metadata', async () => {
    const { ask } = setUp(ANSWER)
    const result = await ask()
    expect(result.content).toEqual([
      { type: 'reasoning', text: 'Let me' },
      { type: 'text', text: 'AB' },
      { type: 'tool-call', toolCallId: 'c1', toolName: 'f', input: '{"a":1}' },
      { type: 'text', text: 'C<oops' },
    ])
    expect(result.finishReason).toEqual({ unified: 'tool-calls', raw: 'tool-calls' })
    const { inputTokens, outputTokens, raw } = result.usage
    expect(inputTokens).toEqual({
      total: raw?.['promptTokens'],
      noCache: raw?.['promptTokens'],
      cacheRead: 0,
      cacheWrite: 0,
    })
    expect(outputTokens.reasoning).toBeGreaterThan(0)
    expect((outputTokens.text ?? 0) + (outputTokens.reasoning ?? 0)).toBe(outputTokens.total)
    expect(result.response).toMatchObject({ modelId: 'fake' })
    expect(result.providerMetadata?.['nodemlx']).toMatchObject({
      invalidToolCalls: [{ raw: '<oops', error: 'bad' }],
      timings: expect.any(Object) as object,
    })
  })

  it('is streamed in blocks', async () => {
    const { stream } = setUp(ANSWER)
    const parts = await stream()
    const isTool = ({ type }: LanguageModelV4StreamPart) => type.startsWith('tool-input')
    expect(parts.filter((part) => !isTool(part))).toEqual([
      { type: 'stream-start', warnings: [] },
      expect.objectContaining({ type: 'response-metadata', modelId: 'fake' }),
      { type: 'reasoning-start', id: '0' },
      { type: 'reasoning-delta', id: '0', delta: 'Let' },
      { type: 'reasoning-delta', id: '0', delta: ' me' },
      { type: 'reasoning-end', id: '0' },
      { type: 'text-start', id: '1' },
      { type: 'text-delta', id: '1', delta: 'A' },
      { type: 'text-delta', id: '1', delta: 'B' },
      { type: 'text-end', id: '1' },
      { type: 'tool-call', toolCallId: 'c1', toolName: 'f', input: '{"a":1}' },
      { type: 'text-start', id: '2' },
      { type: 'text-delta', id: '2', delta: 'C' },
      { type: 'text-delta', id: '2', delta: '<oops' },
      { type: 'text-end', id: '2' },
      expect.objectContaining({
        type: 'finish',
        finishReason: { unified: 'tool-calls', raw: 'tool-calls' },
      }),
    ])
    const input = parts.filter(isTool)
    expect(input[0]).toEqual({ type: 'tool-input-start', id: 'c1', toolName: 'f' })
    expect(input.at(-1)).toEqual({ type: 'tool-input-end', id: 'c1' })
    const deltas = input.map((part) => (part.type === 'tool-input-delta' ? part.delta : ''))
    expect(deltas.join('')).toBe('{"a":1}')
  })

  it('comes with its pieces where they are asked for', async () => {
    const { stream } = setUp('A b')
    const parts = await stream({ includeRawChunks: true })
    const raw = parts.flatMap((part) => (part.type === 'raw' ? [part.rawValue] : []))
    expect(raw).toMatchObject([
      { type: 'text', text: 'A' },
      { type: 'text', text: ' b' },
    ])
  })

  it('says what it failed with, and ends', async () => {
    const { stream } = setUp({ text: ['A'], error: { code: 'MLX_ERROR' } })
    const [error, finish] = (await stream()).slice(-2)
    expect(error).toMatchObject({ type: 'error', error: { code: 'MLX_ERROR' } })
    expect(finish).toMatchObject({
      type: 'finish',
      finishReason: { unified: 'error', raw: 'MLX_ERROR' },
    })
  })

  it('is aborted with the reason of the signal', async () => {
    const { model } = setUp({ parts: [{ text: ['A'] }, { waitMs: 60_000 }] })
    const controller = new AbortController()
    const reason = new Error('closed')
    const { stream } = await model.doStream({ prompt: PROMPT, abortSignal: controller.signal })
    const read = async () => {
      for await (const part of stream as unknown as AsyncIterable<LanguageModelV4StreamPart>)
        if (part.type === 'text-delta') controller.abort(reason)
    }
    await expect(read()).rejects.toBe(reason)
    const early = { prompt: PROMPT, abortSignal: AbortSignal.abort(reason) }
    await expect(model.doGenerate(early)).rejects.toBe(reason)
  })
})

describe('models', () => {
  /** A provider whose models count how often they are loaded and disposed of. */
  function counting(options: { idleMs?: number; memoryBytes?: number } = {}, bytes = 10) {
    const events: string[] = []
    const make = (name: string) => async () => {
      events.push(`load ${name}`)
      await sleep(1)
      const model = fakeModel({ answers: { text: 'Hi.', tokenMs: 5 }, info: { bytes } })
      const dispose = vi.spyOn(model as Model, 'dispose')
      dispose.mockImplementation(() => {
        events.push(`dispose ${name}`)
        return Promise.resolve()
      })
      return model
    }
    const provider = createNodeMlx({ models: { a: make('a'), b: make('b') }, ...options })
    const ask = (name: string) => provider(name).doGenerate({ prompt: PROMPT })
    return { events, provider, ask }
  }

  it('are loaded once for all who ask', async () => {
    const { events, ask, provider } = counting()
    await Promise.all([ask('a'), ask('a'), ask('b')])
    await ask('a')
    expect(events.sort()).toEqual(['load a', 'load b'])
    await provider.dispose()
    expect(events.slice(2).sort()).toEqual(['dispose a', 'dispose b'])
  })

  it('go when nobody has used them for a while', async () => {
    const { events, ask } = counting({ idleMs: 20 })
    await ask('a')
    expect(events).toEqual(['load a'])
    await vi.waitFor(() => {
      expect(events).toEqual(['load a', 'dispose a'])
    }, 20_000)
    await ask('a')
    expect(events).toEqual(['load a', 'dispose a', 'load a'])
  })

  it('stay while they are used, a stream that is left included', async () => {
    const { events, provider } = counting({ idleMs: 1 })
    const { stream } = await provider('a').doStream({ prompt: PROMPT })
    const reader = stream.getReader()
    await reader.read()
    await sleep(30)
    expect(events).toEqual(['load a'])
    await reader.cancel()
    await vi.waitFor(() => {
      expect(events).toEqual(['load a', 'dispose a'])
    }, 20_000)
  })

  it('make room for each other', async () => {
    const { events, ask } = counting({ memoryBytes: 15 })
    await ask('a')
    await ask('b')
    expect(events).toEqual(['load a', 'load b', 'dispose a'])
    await ask('b')
    await ask('a')
    expect(events.slice(3)).toEqual(['load a', 'dispose b'])
  })

  it('that cannot be loaded are tried again', async () => {
    let tries = 0
    const load = () => {
      tries++
      return tries === 1
        ? Promise.reject(new Error('no luck'))
        : Promise.resolve(fakeModel({ answers: 'Hi.' }) as Model)
    }
    const model = createNodeMlx({ models: { a: load } })('a')
    await expect(model.doGenerate({ prompt: PROMPT })).rejects.toThrow('no luck')
    expect((await model.doGenerate({ prompt: PROMPT })).content).toHaveLength(1)
  })

  it.each([
    [{ idleMs: -1 }, /^idleMs/],
    [{ models: { a: 5 } }, /^models\.a/],
    [{ idle: 5 }, /^idle: is not an option; did you mean idleMs/],
    [{ load: { devise: 'cpu' } }, /^devise: is not an option; did you mean device/],
  ])('are refused with wrong options: %o', (options, message) => {
    expect(() => createNodeMlx(options as never)).toThrow(message)
  })

  it('of other kinds are said to be missing', () => {
    const provider = createNodeMlx()
    expect(() => provider.imageModel('demo')).toThrow(
      expect.objectContaining({
        name: 'AI_NoSuchModelError',
        modelType: 'imageModel',
        modelId: 'demo',
      }),
    )
  })
})
