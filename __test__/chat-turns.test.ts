// What a chat keeps and does at its edges: turns that go on, calls that are wrong, tools that hang,
// contexts that are full.

import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { fakeModel } from '../js/testing/index.js'
import type { AnyTool, Message } from '../js/types.js'
import { WEATHER, demoChats } from './support/chats.js'

const demo = demoChats()
const { chat } = demo

const STORY = { role: 'user', content: 'Tell me a short story about a fox.' }

function weather(execute: (args: never, context: { signal: AbortSignal }) => unknown): AnyTool {
  return { ...WEATHER, execute }
}

const call = (name: string, args: Record<string, unknown>) => ({
  toolCalls: [{ name, arguments: args }],
})

describe('a turn that goes on', () => {
  it('keeps what it has besides its text', async () => {
    const begun = {
      role: 'assistant',
      name: 'bot',
      reasoning_content: 'Hm, a story.',
      mood: 'good',
    }
    const text = 'Once upon a time'
    const session = chat({ messages: [STORY, { ...begun, content: text }] })
    const { text: more } = await session.continue({ maxTokens: 5 })
    expect(more).not.toBe('')
    expect(session.messages.at(-1)).toEqual({ ...begun, content: text + more })

    const parts = [{ type: 'text', text }]
    session.messages = [STORY, { ...begun, content: parts }]
    const { text: other } = await session.continue({ maxTokens: 5 })
    expect(session.messages.at(-1)).toEqual({
      ...begun,
      content: [{ type: 'text', text: text + other }],
    })
  })

  it('goes on with its reasoning where it was cut off there', async () => {
    const chatTemplate =
      '{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n' +
      '{{ m.reasoning_content }}{% if m.content %}\n</think>\n\n{% endif %}{% endif %}' +
      '{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}' +
      '<|im_start|>assistant\n<think>\n{% endif %}'
    const session = chat({ chatTemplate })
    const { reasoning } = await session.send(STORY.content, { maxTokens: 4 })
    expect(reasoning).not.toBe('')
    const rest = await session.continue({ maxTokens: 4 })
    expect(rest).toMatchObject({ text: '', reasoning: expect.stringMatching(/\w/) as string })
    expect(session.messages.at(-1)).toEqual({
      role: 'assistant',
      content: '',
      reasoning_content: reasoning + rest.reasoning,
    })
  })
})

describe('an earlier turn', () => {
  const four = [
    { role: 'user', content: 'What is the capital of France?' },
    { role: 'assistant', content: 'The capital of' },
    { role: 'user', content: 'Thanks.' },
    { role: 'assistant', content: 'You are welcome.' },
  ]

  it('is answered again, and what is behind it goes', async () => {
    const session = chat({ messages: four })
    const { text } = await session.retry({ at: 1, maxTokens: 8 })
    expect(session.messages).toEqual([four[0], { role: 'assistant', content: text }])
    session.messages = four
    const again = await session.retry({ at: -2, maxTokens: 4 })
    expect(session.messages).toEqual([
      ...four.slice(0, 3),
      { role: 'assistant', content: again.text },
    ])
  })

  it('goes on, here or in a copy', async () => {
    const session = chat({ messages: four })
    const copy = session.fork({ at: 1 })
    expect(copy.messages).toEqual(four.slice(0, 2))
    const { text } = await session.continue({ at: 1, maxTokens: 3 })
    expect(session.messages).toEqual([
      four[0],
      { role: 'assistant', content: `The capital of${text}` },
    ])
    expect(copy.messages).toHaveLength(2)
  })

  it('is refused where there is none', () => {
    const session = chat({ messages: four })
    const refused = expect.objectContaining({ code: 'INVALID_ARGUMENT', option: 'at' }) as Error
    for (const at of [4, -5, 0.5]) {
      expect(() => session.retry({ at })).toThrow(refused)
      expect(() => session.continue({ at })).toThrow(refused)
      expect(() => session.fork({ at })).toThrow(refused)
    }
    expect(session.messages).toEqual(four)
  })
})

describe('a call that is wrong', () => {
  const asked: unknown[] = []
  const tools = [
    {
      name: 'get_weather',
      parameters: z.object({ city: z.string() }),
      execute: (args: unknown) => {
        asked.push(args)
        return 'sunny'
      },
    },
  ] as AnyTool[]

  it('is told to the model, which does better', async () => {
    const fake = fakeModel({
      answers: [
        call('get_weather', { town: 'Paris' }),
        call('get_whether', { city: 'Paris' }),
        call('get_weather', { city: 'Paris' }),
        'It is sunny.',
      ],
    })
    const session = fake.chat({ tools })
    const result = await session.send('What is the weather in Paris?')
    expect(asked).toEqual([{ city: 'Paris' }])
    expect(result).toMatchObject({ text: 'It is sunny.', toolCalls: [{ name: 'get_weather' }] })
    expect(result.invalidToolCalls.map(({ name }) => name)).toEqual(['get_weather', 'get_whether'])
    const { messages } = session
    expect(messages.map(({ role }) => role)).toEqual([
      'user',
      ...[1, 2, 3].flatMap(() => ['assistant', 'tool']),
      'assistant',
    ])
    expect(messages[2]?.content).toMatch(/^Error: the arguments are invalid: city: /)
    expect(messages[2]?.tool_call_id).toBe(messages[1]?.tool_calls?.[0]?.id)
    expect(messages[4]?.content).toMatch(/^Error: there is no tool "get_whether"/)
    const ids = messages.flatMap(({ tool_calls: calls = [] }) => calls.map(({ id }) => id))
    expect(ids).toEqual([...result.invalidToolCalls, ...result.toolCalls].map(({ id }) => id))
  })

  it('stays in the history where it cannot be read', async () => {
    const invalidToolCall = { raw: '<tool_call>{"name":</tool_call>', error: 'no JSON' }
    const fake = fakeModel({
      answers: [{ parts: [{ text: 'Well. ' }, { invalidToolCall }] }, 'Sorry.', 'Hello!'],
    })
    const session = fake.chat({ tools })
    const { text } = await session.send('What is the weather in Paris?')
    expect(text).toContain('Sorry.')
    const { messages } = session
    expect(messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'user', 'assistant'])
    expect(messages[1]?.content).toContain('Well.')
    expect(messages[1]?.content).toContain(invalidToolCall.raw)
    expect(messages[2]?.content).toBe('Error: the call cannot be read: no JSON')
    // That was not what the user had asked.
    await session.retry()
    expect(session.messages).toEqual([messages[0], { role: 'assistant', content: 'Hello!' }])
  })

  it('stays there, too, where the limit cuts it off', async () => {
    const session = chat({ tools: [weather(() => 'sunny')] })
    const result = await session.send('What is the weather in Paris?', { maxTokens: 8 })
    expect(result.finishReason).toBe('length')
    expect(session.messages[1]).toEqual({ role: 'assistant', content: result.rawText })
  })
})

describe('tools', () => {
  const hangs = (): AnyTool => weather(() => new Promise(() => undefined))

  it('run at the same time, and change nothing but what they return', async () => {
    const running: string[] = []
    const session = chat({
      tools: [
        weather(async (args: { city: string }) => {
          running.push(`+${args.city}`)
          args.city = 'Rome'
          await new Promise((resolve) => setTimeout(resolve, 20))
          running.push('-')
          return () => 'no JSON'
        }),
      ],
      onToolCall: (call) => {
        call.arguments['city'] = 'Oslo'
      },
    })
    const { toolCalls } = await session.send('What is the weather in Paris and in London?')
    expect(running).toEqual(['+Paris', '+London', '-', '-'])
    expect(toolCalls.map((it) => it.arguments)).toEqual([{ city: 'Paris' }, { city: 'London' }])
    expect(session.messages[1]?.tool_calls?.[0]?.function.arguments).toEqual({ city: 'Paris' })
    expect(session.messages[2]?.content).toBe('null')
  })

  it.each([
    [new TypeError('no such city'), 'Error: no such city'],
    [new Map([['a', new Set([1])]]), '{"a":[1]}'],
    [{ failed: new Error('late') }, '{"failed":"late"}'],
  ])('give the model what is in %o', async (given, content) => {
    const answers = [call('get_weather', { city: 'Paris' }), 'Fine.']
    const session = fakeModel({ answers }).chat({ tools: [weather(() => given)] })
    await session.send('What is the weather in Paris?')
    expect(session.messages[2]?.content).toBe(content)
  })

  it('are not waited for after an abort', async () => {
    let signal: AbortSignal | undefined
    const session = chat({
      tools: [
        weather((_, context) => {
          signal = context.signal
          setTimeout(() => {
            answer.abort('enough')
          })
          return new Promise(() => undefined)
        }),
      ],
    })
    const answer = session.send('What is the weather in Paris?')
    const result = await answer
    expect(result).toMatchObject({ finishReason: 'abort', abortReason: 'enough' })
    expect(result.usage.promptTokens).toBeGreaterThan(0)
    expect(signal?.aborted).toBe(true)
    expect(session.messages.map(({ role }) => role)).toEqual(['user', 'assistant', 'tool'])
    expect(session.messages[2]?.content).toBe('Error: the call was aborted')
    expect((await session.send('What is the capital of France?')).text).toMatch(/\w/)
  })

  it('are waited for until the time is over', async () => {
    const session = chat({ tools: [hangs()], maxTimeMs: 3000 })
    const result = await session.send('What is the weather in Paris?')
    expect(result).toMatchObject({
      finishReason: 'length',
      matched: { type: 'time', value: 3000 },
      toolCalls: [{ name: 'get_weather' }],
    })
    expect(result.usage.completionTokens).toBe(result.tokens.length)
  }, 20_000)

  it.each([{ approve: false }, null, 0])('wait for a verdict that is one, not %o', async (said) => {
    const session = chat({
      tools: [weather(() => 'sunny')],
      onToolCall: () => said as unknown as boolean,
    })
    await expect(session.send('What is the weather in Paris?')).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      option: 'onToolCall',
    })
  })

  it('leave the warnings, the times and the memory of all rounds', async () => {
    const tool = weather(() => ({ condition: 'sunny' })) as unknown as {
      parameters: { properties: object }
    }
    const tags = { type: 'array', uniqueItems: true, items: { type: 'boolean' }, maxItems: 1 }
    Object.assign(tool.parameters.properties, { tags })
    const session = chat({ tools: [tool as unknown as AnyTool], toolChoice: 'required' })
    const { warnings, timings, tokens } = await session.send('What is the weather in Paris?')
    expect(warnings?.join()).toMatch(/uniqueItems/)
    const { prefillMs, timeToFirstTokenMs, totalMs } = timings
    expect(totalMs).toBeGreaterThan(timeToFirstTokenMs)
    expect(totalMs).toBeGreaterThanOrEqual(prefillMs)
    expect(timings.tokensPerSecond).toBeGreaterThan((tokens.length / totalMs) * 500)
  })
})

describe('a context that is full', () => {
  const long = 'My favourite colour is teal. '.repeat(700)
  const messages: Message[] = [
    { role: 'user', content: long },
    { role: 'assistant', content: 'Fine.' },
  ]

  it('is made shorter in place', async () => {
    const session = chat({
      messages,
      onContextFull: (all) =>
        all.map((it) => ({ ...it, content: (it.content as string).slice(-30) })),
    })
    await session.send('What is the capital of France?')
    expect(session.messages).toHaveLength(4)
    expect(session.messages[0]?.content).toBe(long.slice(-30))
  })

  it('is a function that throws, or gives no messages: that comes out', async () => {
    const thrown = new RangeError('mine')
    const throwing = chat({
      messages,
      onContextFull: () => {
        throw thrown
      },
    })
    await expect(throwing.send('Hi')).rejects.toBe(thrown)
    for (const made of [5, [{ content: 'x' }], []]) {
      const session = chat({ messages, onContextFull: () => made as Message[] })
      await expect(session.send('Hi')).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/^onContextFull/) as string,
      })
      expect(session.messages).toEqual(messages)
    }
    const idle = chat({ messages, onContextFull: (all) => all })
    await expect(idle.send('Hi')).rejects.toMatchObject({
      code: 'CONTEXT_OVERFLOW',
      contextLength: demo.model.info.contextLength,
    })
  })

  it('is none where the prompt fits, and nothing can be dropped', async () => {
    const options = { maxTokens: 3500, stop: /./, onContextFull: 'drop-oldest' } as const
    const result = await chat(options).send('word '.repeat(2500))
    expect(result.finishReason).toBe('stop')
  })

  it('ends an answer, which says so', async () => {
    const contextLength = demo.model.info.contextLength ?? 0
    const word = await demo.model.countTokens('word '.repeat(1000))
    const many = Math.floor((contextLength - 60) / (word / 1000))
    const options = { minTokens: 500, temperature: 0 }
    const { finishReason, matched, usage } = await demo.model.generate(
      'word '.repeat(many),
      options,
    )
    expect({ finishReason, matched }).toEqual({
      finishReason: 'length',
      matched: { type: 'context', value: contextLength },
    })
    expect(usage.totalTokens).toBe(contextLength)
  })
})

describe('what a chat is given', () => {
  it('is checked at once', () => {
    const session = chat()
    expect(() => {
      session.messages = [{ content: 'x' }] as unknown as Message[]
    }).toThrow(/messages\[0\]\.role/)
    expect(() => {
      session.messages = 5 as unknown as Message[]
    }).toThrow(/messages/)
    expect(() => {
      session.system = ''
    }).toThrow(/system: is empty/)
    session.system = 'Be brief.'
    session.system = undefined
    const dropping = chat({ onContextFull: 'drop-oldest' })
    expect(() => dropping.send('x', { xtcThreshold: 0.1 })).toThrow(/xtcThreshold/)
  })

  it('is its own: several answer at the same time', async () => {
    const sessions = ['teal', 'red'].map((colour) =>
      chat({ messages: [{ role: 'user', content: `My favourite colour is ${colour}.` }] }),
    )
    await Promise.all(sessions.map((it) => it.continue()))
    const answers = await Promise.all(sessions.map((it) => it.send('What is my favourite colour?')))
    expect(answers[0]?.text).toMatch(/teal/)
    expect(answers[1]?.text).toMatch(/red/)
  })
})
