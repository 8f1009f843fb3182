// Tools and a format of the answer in one generation, with the embedded model.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { loadModel } from '../js/index.js'
import type { Model, Tool } from '../js/types.js'

const QUESTION = 'What is the weather in Paris?'
const GREEDY = { temperature: 0, maxTokens: 80 }
const SCHEMA = z.object({ city: z.string().max(20), sunny: z.boolean() })
const FORMAT = { type: 'json', schema: SCHEMA } as const

let model: Model

beforeAll(async () => {
  model = await loadModel('demo')
})

afterAll(async () => {
  await model.dispose()
})

function weather(asked: string[] = []): Tool<{ city: string }> {
  return {
    name: 'get_weather',
    description: 'Get the weather in a city',
    parameters: z.object({ city: z.string().describe('The name of the city') }),
    execute: ({ city }) => {
      asked.push(city)
      return { city, temperature: 21, condition: 'sunny' }
    },
  }
}

describe('tools and a format', () => {
  const ask = (options: object) =>
    model.generate(QUESTION, {
      ...GREEDY,
      tools: [weather()],
      responseFormat: FORMAT,
      ...options,
    })

  it('give calls where the model wants to call', async () => {
    const result = await ask({})
    expect(result).toMatchObject({ text: '', finishReason: 'tool-calls', invalidToolCalls: [] })
    expect(result.toolCalls).toMatchObject([{ name: 'get_weather', arguments: { city: 'Paris' } }])
    expect(result).not.toHaveProperty('object')
    expect(result).not.toHaveProperty('incomplete')
  })

  it('give the value once the model knows enough', async () => {
    const call = { id: 'c1', type: 'function', function: { name: 'get_weather' } } as const
    const result = await model.generate(
      [
        { role: 'user', content: QUESTION },
        {
          role: 'assistant',
          content: '',
          tool_calls: [{ ...call, function: { ...call.function, arguments: { city: 'Paris' } } }],
        },
        {
          role: 'tool',
          tool_call_id: 'c1',
          name: 'get_weather',
          content: '{"city":"Paris","temperature":21,"condition":"sunny"}',
        },
      ],
      { ...GREEDY, tools: [weather()], responseFormat: FORMAT },
    )
    expect(result).toMatchObject({ toolCalls: [], finishReason: 'stop' })
    expect(SCHEMA.parse(result.object)).toEqual(result.object)
    expect(JSON.parse(result.text)).toEqual(result.object)
  })

  it.each([['required'], [{ name: 'get_weather' }]])(
    'give calls and nothing else with the choice %j',
    async (toolChoice) => {
      const hello = { ...GREEDY, tools: [weather()], responseFormat: FORMAT, toolChoice } as const
      const result = await model.generate('Hello!', hello as object)
      expect(result).toMatchObject({ text: '', finishReason: 'tool-calls' })
      expect(result.toolCalls[0]?.name).toBe('get_weather')
    },
  )

  it('give the value and nothing else with the choice none', async () => {
    const result = await ask({ toolChoice: 'none' })
    expect(result).toMatchObject({ toolCalls: [], finishReason: 'stop' })
    expect(SCHEMA.parse(result.object)).toEqual(result.object)
  })

  it('say of a call that is cut off that it is', async () => {
    const result = await ask({ maxTokens: 8 })
    expect(result).toMatchObject({ text: '', toolCalls: [], finishReason: 'length' })
    expect(result.invalidToolCalls).toHaveLength(1)
    expect(result).not.toHaveProperty('incomplete')
  })

  it.each([
    [{ type: 'choice', options: ['sunny', 'rainy'] }, /^(?:sunny|rainy)$/],
    [{ type: 'regex', pattern: '(?:.|\\n)*' }, /^/],
    [{ type: 'grammar', lark: 'start: "sun" /[0-9]/' }, /^sun[0-9]$/],
  ])('go with the format %j', async (responseFormat, expected) => {
    const called = await ask({ responseFormat })
    expect(called.toolCalls).toMatchObject([{ arguments: { city: 'Paris' } }])
    const said = await ask({ responseFormat, tools: undefined })
    expect(said.text).toMatch(expected)
  })

  it('leave markers in a value alone', async () => {
    const text = '<tool_call>\n{"name": "get_weather"'
    const responseFormat = { type: 'json', schema: { const: { text } } } as const
    const logitBias = await bias('<tool_call>', -100)
    const result = await ask({ responseFormat, logitBias })
    expect(result).toMatchObject({ object: { text }, toolCalls: [], invalidToolCalls: [] })
  })

  /** Makes the text's first token unlikely as the first one of an answer. */
  async function bias(text: string, value: number): Promise<Record<number, number>> {
    const [token = 0] = await model.tokenize({ text }, { addSpecialTokens: false })
    const [within = 0] = await model.tokenize({ text: `"${text}` }, { addSpecialTokens: false })
    return token === within ? {} : { [token]: value }
  }

  it('are refused where nobody knows how the model writes calls', async () => {
    const chatTemplate = '{% for m in messages %}{{ m.content }}{% endfor %}'
    await expect(ask({ chatTemplate }).result).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('toolFormat') as string,
    })
    const text = await ask({ chatTemplate, parseToolCalls: false })
    expect(SCHEMA.parse(text.object)).toEqual(text.object)
  })

  it('are refused by the name of the tool where a strict one cannot be enforced', async () => {
    const parameters = { type: 'object', properties: { tags: { uniqueItems: true } } }
    const of = (strict: boolean) => ({
      type: 'function' as const,
      function: { name: 'tag', parameters, strict },
    })
    await expect(ask({ tools: [of(true)] }).result).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringMatching(/tools: tag: "uniqueItems" cannot be enforced/) as string,
    })
    const { warnings } = await ask({ tools: [of(false)], maxTokens: 20 })
    expect(warnings?.join()).toMatch(/tools: tag: "uniqueItems" is not enforced/)
  })
})

describe('a chat with tools and a format', () => {
  it.each([['auto'], ['required'], [{ name: 'get_weather' }]])(
    'calls, and answers with the value: %j',
    async (toolChoice) => {
      const asked: string[] = []
      const chat = model.chat({
        ...GREEDY,
        tools: [weather(asked)],
        toolChoice: toolChoice as 'auto',
        responseFormat: FORMAT,
      })
      const generation = chat.send(QUESTION)
      const partials: unknown[] = []
      for await (const partial of generation.partialObjectStream) partials.push(partial)
      const result = await generation
      expect(asked).toEqual(['Paris'])
      expect(result.finishReason).toBe('stop')
      expect(SCHEMA.parse(result.object)).toEqual(result.object)
      expect(result.object?.sunny).toBe(true)
      expect(partials.at(-1)).toEqual(result.object)
      expect(chat.messages.map(({ role }) => role)).toEqual([
        'user',
        'assistant',
        'tool',
        'assistant',
      ])
    },
  )

  it('answers with the value at once with the choice none', async () => {
    const asked: string[] = []
    const chat = model.chat({ ...GREEDY, tools: [weather(asked)], toolChoice: 'none' })
    const { object } = await chat.send(QUESTION, { responseFormat: FORMAT })
    expect(SCHEMA.parse(object)).toEqual(object)
    expect(asked).toEqual([])
  })
})
