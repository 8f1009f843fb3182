// Calls of tools and reasoning, with the embedded model and with what a model would write.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadModel } from '../js/index.js'
import type { GenerationChunk, Model, ToolDefinition } from '../js/types.js'

const GREEDY = { temperature: 0, maxTokens: 80 }

const WEATHER: ToolDefinition = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'Get the weather in a city',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string' } },
      required: ['city'],
    },
  },
}

let model: Model

beforeAll(async () => {
  model = await loadModel('demo')
})

afterAll(async () => {
  await model.dispose()
})

describe('calls of tools', () => {
  it('are told from text, and parsed', async () => {
    const result = await model.generate('What is the weather in Paris?', {
      ...GREEDY,
      tools: [WEATHER],
    })
    expect(result).toMatchObject({
      text: '',
      finishReason: 'tool-calls',
      toolCalls: [{ name: 'get_weather', arguments: { city: 'Paris' } }],
      invalidToolCalls: [],
    })
    expect(result.toolCalls[0]?.id).toMatch(/^[A-Za-z0-9]{9}$/)
    expect(result.rawText).toContain('<tool_call>')
    expect(result.usage.reasoningTokens).toBe(0)
  })

  it('come as they are written: the name first, then the arguments', async () => {
    const generation = model.generate('What is the weather in Paris?', {
      ...GREEDY,
      tools: [WEATHER],
    })
    const chunks: GenerationChunk[] = []
    for await (const chunk of generation) chunks.push(chunk)
    const calls = chunks.filter(({ type }) => type !== 'text')
    expect(calls.map(({ type }) => type)).toEqual([
      'tool-call-start',
      ...calls.slice(1, -1).map(() => 'tool-call-delta'),
      'tool-call-end',
    ])
    const json = calls.map((it) => (it.type === 'tool-call-delta' ? it.argumentsText : '')).join('')
    expect(json).toBe('{"city":"Paris"}')
    const result = await generation
    expect(calls.at(-1)).toMatchObject({ ...result.toolCalls[0], index: 0 })
    expect(chunks.flatMap(({ tokens }) => tokens)).toEqual(result.tokens)
    expect(result.tokens).toHaveLength(result.usage.completionTokens)
  })

  it('are text where nobody asked for them', async () => {
    const raw = await model.generate('What is the weather in Paris?', {
      ...GREEDY,
      tools: [WEATHER],
      parseToolCalls: false,
    })
    expect(raw).toMatchObject({ toolCalls: [], finishReason: 'stop' })
    expect(raw.text).toMatch(/^<tool_call>.*<\/tool_call>$/s)
    expect(raw.rawText).toBe(raw.text)
  })

  it('are invalid where the limit cuts them off', async () => {
    const result = await model.generate('What is the weather in Paris?', {
      ...GREEDY,
      tools: [WEATHER],
      maxTokens: 8,
    })
    expect(result).toMatchObject({ text: '', toolCalls: [], finishReason: 'length' })
    expect(result.invalidToolCalls).toEqual([
      { raw: result.rawText, error: 'the answer ends within the call' },
    ])
  })

  it('are not offered with the choice none', async () => {
    const options = { ...GREEDY, tools: [WEATHER], toolChoice: 'none' } as const
    const result = await model.generate('What is the weather in Paris?', options)
    const plain = await model.generate('What is the weather in Paris?', GREEDY)
    expect(result.usage.promptTokens).toBe(plain.usage.promptTokens)
    expect(result.toolCalls).toEqual([])
  })
})
