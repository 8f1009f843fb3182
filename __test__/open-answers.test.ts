// Answers in a format that go on where the last one was cut off.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { loadModel } from '../js/index.js'
import type { GenerateOptions, Message, Model } from '../js/types.js'

let model: Model

beforeAll(async () => {
  model = await loadModel('demo')
})

afterAll(async () => {
  await model.dispose()
})

const ASKED = { role: 'user', content: 'What is the capital of France? Answer in JSON.' }
const schema = z.object({ city: z.string().max(20), country: z.string().max(20) })

const begun = (content: Message['content'], options: GenerateOptions = {}) =>
  model.generate([ASKED, { role: 'assistant', content }], {
    temperature: 0,
    maxTokens: 80,
    continueFinalMessage: true,
    ...options,
  })

describe('an answer in a format that goes on', () => {
  it('is whole with what was there', async () => {
    const responseFormat = { type: 'json', schema } as const
    const chat = model.chat({ temperature: 0, responseFormat })
    const cut = await chat.send(ASKED.content, { maxTokens: 6 })
    expect(cut).toMatchObject({ finishReason: 'length', incomplete: {} })
    const rest = await chat.continue({ maxTokens: 80 })
    expect(schema.parse(rest.object)).toEqual(JSON.parse(cut.text + rest.text))
    expect(chat.messages.at(-1)?.content).toBe(cut.text + rest.text)
  })

  it('gives its object as it grows, from what was there on', async () => {
    const generation = begun('{"city": "Pa', { responseFormat: { type: 'json', schema } })
    const partials: unknown[] = []
    for await (const partial of generation.partialObjectStream) partials.push(partial)
    expect(partials[0]).toMatchObject({ city: expect.stringMatching(/^Pa/) as string })
    expect((await generation).object).toEqual(partials.at(-1))
    expect(schema.safeParse(partials.at(-1)).success).toBe(true)
  })

  it('follows what was there in parts, behind reasoning, or with space around it', async () => {
    const responseFormat = { type: 'json', schema } as const
    const parts = [
      { type: 'text', text: '{"city": ' },
      { type: 'text', text: '"Paris",' },
    ]
    const reasoningFormat = 'think'
    const answers = [
      begun(parts, { responseFormat }),
      begun(' {\n  "city": "Pa', { responseFormat }),
      begun('<think>\n\n</think>\n\n{"city": "Paris", ', { responseFormat, reasoningFormat }),
      begun('<think>\nFrance?\n</think>', { responseFormat, reasoningFormat }),
    ]
    for (const [index, { object }] of (await Promise.all(answers)).entries())
      expect(schema.parse(object).city, String(index)).toMatch(/\w/)
  })

  it('keeps to choices, patterns and grammars', async () => {
    const choice = { type: 'choice', options: ['Paris', 'Parma', 'Rome'] } as const
    expect((await begun('Par', { responseFormat: choice })).text).toMatch(/^(?:is|ma)$/)
    const regex = { type: 'regex', pattern: '[ab]{2}-[0-9]{3}' } as const
    expect((await begun('ab-1', { responseFormat: regex })).text).toMatch(/^[0-9]{2}$/)
    const grammar = { type: 'grammar', lark: 'start: "one" " two"? "!"' } as const
    expect((await begun('one t', { responseFormat: grammar })).text).toBe('wo!')
  })

  it('ends at once where it is complete', async () => {
    const content = '{"city": "Paris", "country": "France"}'
    const responseFormat = { type: 'json', schema } as const
    expect(await begun(content, { responseFormat })).toMatchObject({
      text: '',
      finishReason: 'stop',
      object: { city: 'Paris', country: 'France' },
    })
  })

  it('is refused where no such answer begins so', async () => {
    const refused = {
      code: 'INVALID_ARGUMENT',
      option: 'continueFinalMessage',
      message: expect.stringMatching(/no beginning of .* cannot stand behind "\{/) as string,
    }
    const responseFormat = { type: 'json', schema } as const
    await expect(begun('{"to', { responseFormat }).result).rejects.toMatchObject(refused)
    const tools = [{ name: 'now', strict: true }]
    const within = begun('<tool_call>\n{"name": "no', {
      tools,
      toolChoice: 'required',
      toolFormat: 'hermes',
    })
    await expect(within.result).rejects.toMatchObject({
      option: 'continueFinalMessage',
      message: expect.stringMatching(/has begun a call/) as string,
    })
  })
})
