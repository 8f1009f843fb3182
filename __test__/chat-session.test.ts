// Conversations by `model.chat`, with the embedded model.

import { toStandardJsonSchema } from '@valibot/to-json-schema'
import { type } from 'arktype'
import * as v from 'valibot'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { tool } from '../js/index.js'
import type { ChatOptions, GeneratedToolCall, StandardSchema, Tool } from '../js/types.js'
import { WEATHER, demoChats } from './support/chats.js'

const { chat } = demoChats()

function weather(execute: (args: { city: string }) => unknown): Tool<{ city: string }> {
  return { ...WEATHER, execute }
}

describe('the schema of a tool', () => {
  const city = 'The name of the city'
  it.each([
    ['Zod', z.object({ city: z.string().describe(city), days: z.int().default(3) })],
    ['ArkType', type({ city: type('string').describe(city), days: 'number = 3' })],
    [
      'Valibot',
      toStandardJsonSchema(
        v.object({
          city: v.pipe(v.string(), v.description(city)),
          days: v.optional(v.number(), 3),
        }),
      ),
    ],
  ])('of %s checks the arguments, and completes them', async (_, parameters) => {
    const asked: unknown[] = []
    const get_weather = tool({
      name: 'get_weather',
      description: 'Get the weather in a city',
      parameters: parameters,
      execute: (args) => {
        asked.push(args)
        return { ...args, temperature: 21, condition: 'sunny' }
      },
    })
    await chat({ tools: [get_weather] }).send('What is the weather in Paris?')
    expect(asked[0]).toMatchObject({ city: 'Paris', days: expect.any(Number) as number })
  })

  it('has to be one that can be told to the model', () => {
    const parameters = v.object({}) as StandardSchema
    expect(() => tool({ name: 'f', parameters })).toThrow(/toStandardJsonSchema/)
    expect(() => tool({ name: '' })).toThrow(/name/)
  })
})

describe('a tool in the shape of OpenAI', () => {
  it('has a function and the schema of a library, too', async () => {
    const asked: unknown[] = []
    const session = chat({
      tools: [
        {
          type: 'function',
          function: {
            name: 'get_weather',
            description: 'Get the weather in a city',
            parameters: z.object({ city: z.string().describe('The name of the city') }),
          },
          execute: (args) => {
            asked.push(args)
            return { condition: 'sunny' }
          },
        },
      ],
    })
    const { text } = await session.send('What is the weather in Paris?')
    expect(asked).toEqual([{ city: 'Paris' }])
    expect(text).toMatch(/sunny/)
  })
})

describe('a chat', () => {
  it('remembers, reads only what is new, and goes on elsewhere from JSON', async () => {
    const session = chat()
    await session.send('My favourite colour is teal.')
    const answer = await session.send('What is my favourite colour?')
    expect(answer.text).toMatch(/teal/)
    expect(answer.usage.cachedTokens).toBeGreaterThan(10)
    expect(session.messages.map(({ role }) => role)).toEqual([
      'user',
      'assistant',
      'user',
      'assistant',
    ])
    const restored = chat(JSON.parse(JSON.stringify(session)) as ChatOptions)
    expect((await restored.send('What is my favourite colour?')).text).toMatch(/teal/)
  })

  it('forks, retries and goes on', async () => {
    const session = chat({ messages: [{ role: 'user', content: 'My favourite colour is teal.' }] })
    await session.continue()
    expect(session.messages).toHaveLength(2)
    const fork = session.fork()
    await fork.send('What is my favourite colour?')
    expect(session.messages).toHaveLength(2)
    expect(fork.messages).toHaveLength(4)

    const whole = (await session.send('What is the capital of France?')).text
    const retried = await session.retry({ maxTokens: 3 })
    expect(whole.startsWith(retried.text)).toBe(true)
    expect(session.messages).toHaveLength(4)
    const rest = await session.continue()
    expect(retried.text + rest.text).toBe(whole)
    expect(session.messages.at(-1)).toEqual({ role: 'assistant', content: whole })
  })

  it('can be edited, and told something else', async () => {
    const session = chat({ system: 'You are called Nova.' })
    expect((await session.send('What is your name?')).text).toMatch(/Nova/)
    session.messages = []
    session.system = 'You are called Milo.'
    expect((await session.send('What is your name?')).text).toMatch(/Milo/)
    session.messages[0] = { role: 'user', content: 'only a copy' }
    expect(session.messages[0]).toEqual({ role: 'user', content: 'What is your name?' })
  })

  it('answers one message at a time, and keeps nothing of what fails', async () => {
    const session = chat()
    const first = session.send('Hi')
    expect(() => session.send('Hi again')).toThrow(/is answering/)
    await first
    expect(() => session.send('x', { topP: 2 })).toThrow(/topP/)
    await expect(session.send('x', { toolFormat: 'nobody' })).rejects.toThrow(/toolFormat/)
    expect(session.messages).toHaveLength(2)
  })

  it('keeps an answer that was stopped, as far as it came', async () => {
    const session = chat()
    const answer = session.send('Tell me a short story about a fox.')
    for await (const text of answer.textStream) if (text !== '') break
    const { text, finishReason } = await answer
    expect(finishReason).toBe('abort')
    expect(session.messages.at(-1)).toEqual({ role: 'assistant', content: text })
  })
})

describe('a chat with tools', () => {
  it('calls them and answers from what comes back', async () => {
    const seen: unknown[] = []
    const tool = weather((args) => {
      seen.push(args)
      return { condition: 'sunny' }
    })
    const session = chat({ tools: [tool] })
    const result = await session.send('What is the weather in Paris?')
    expect(seen).toEqual([{ city: 'Paris' }])
    expect(result.text).toMatch(/sunny.*Paris/)
    expect(result).toMatchObject({ finishReason: 'stop', toolCalls: [{ name: 'get_weather' }] })
    const [, call, answered, answer] = session.messages
    expect(call?.tool_calls?.[0]).toMatchObject({ id: result.toolCalls[0]?.id, type: 'function' })
    expect(answered).toEqual({
      role: 'tool',
      tool_call_id: result.toolCalls[0]?.id,
      name: 'get_weather',
      content: '{"condition":"sunny"}',
    })
    expect(answer).toEqual({ role: 'assistant', content: result.text })
    expect(result.usage.completionTokens).toBe(result.tokens.length)
  })

  it('tells the model what goes wrong, and what is refused', async () => {
    const asked: GeneratedToolCall[] = []
    const broken = chat({
      tools: [
        weather(() => {
          throw new Error('no connection')
        }),
      ],
    })
    await broken.send('What is the weather in Paris?')
    expect(broken.messages[2]?.content).toBe('Error: no connection')

    const refused = chat({
      tools: [weather(() => 'sunny')],
      onToolCall: (call) => {
        asked.push(call)
        return 'not today'
      },
    })
    await refused.send('What is the weather in Paris?')
    expect(asked).toMatchObject([{ name: 'get_weather', arguments: { city: 'Paris' } }])
    expect(refused.messages[2]?.content).toBe('Error: not today')
  })

  it('ends with calls that nobody answers here, or that are too many', async () => {
    const session = chat({ tools: [weather(() => 'sunny')], maxToolRounds: 0 })
    const result = await session.send('What is the weather in Paris?')
    expect(result.finishReason).toBe('tool-calls')
    expect(session.messages).toHaveLength(2)
    const [call] = result.toolCalls
    const answer = await session.send([
      {
        role: 'tool',
        tool_call_id: call?.id,
        name: 'get_weather',
        content: '{"condition":"sunny"}',
      },
    ])
    expect(answer.text).toMatch(/sunny/)
  })

  it('rejects with what the hook throws', async () => {
    const session = chat({
      tools: [weather(() => 'sunny')],
      onToolCall: () => {
        throw new RangeError('of the user')
      },
    })
    await expect(session.send('What is the weather in Paris?')).rejects.toThrow(RangeError)
    expect(session.messages).toEqual([])
  })
})

describe('a full context', () => {
  const long = 'My favourite colour is teal. '.repeat(700)

  it('is an error, unless old turns may go', async () => {
    const messages = [
      { role: 'user', content: long },
      { role: 'assistant', content: 'Fine.' },
      { role: 'user', content: 'Hello!' },
      { role: 'assistant', content: 'Hello!' },
    ]
    await expect(chat({ messages }).send('Hi')).rejects.toMatchObject({ code: 'CONTEXT_OVERFLOW' })
    const dropping = chat({ messages, onContextFull: 'drop-oldest' })
    await dropping.send('What is the capital of France?')
    expect(dropping.messages).toHaveLength(4)
    expect(dropping.messages[0]?.content).toBe('Hello!')
    const own = chat({ messages, onContextFull: (all) => all.slice(-1) })
    await own.send('What is the capital of France?')
    expect(own.messages).toHaveLength(2)
  })
})
