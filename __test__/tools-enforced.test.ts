// Calls that are required, in every format: read back, and checked by Ajv.

import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { loadModel } from '../js/index.js'
import type { GenerateOptions, Model } from '../js/types.js'

let model: Model
let formats: string[]

const parameters = {
  type: 'object',
  properties: {
    city: { type: 'string', minLength: 1, maxLength: 12 },
    note: { type: ['string', 'null'], maxLength: 8 },
    either: { anyOf: [{ const: 'auto' }, { type: 'integer', minimum: 1, maximum: 9 }] },
    mode: { enum: ['fast', 'slow', 2, null] },
    version: { const: 3 },
    code: { type: 'string', pattern: '^[A-C]{2}-[0-9]$' },
    size: { $ref: '#/$defs/size' },
    place: {
      type: 'object',
      properties: {
        zip: { type: 'string', pattern: '^[0-9]{5}$' },
        tags: { type: 'array', items: { enum: ['a', 'b'] }, maxItems: 2 },
      },
      required: ['zip', 'tags'],
      additionalProperties: false,
    },
  },
  required: ['city', 'note', 'either', 'mode', 'version', 'code', 'size', 'place'],
  additionalProperties: false,
  $defs: { size: { enum: ['small', 'large'] } },
}
const tools = [
  { name: 'get_weather', parameters, strict: true },
  { name: 'now', strict: true },
]

beforeAll(async () => {
  model = await loadModel('demo')
  const { message } = (await model
    .generate('Hi', { tools, toolFormat: 'none of them' })
    .result.catch((error: unknown) => error)) as Error
  const all = /is none of (.*)$/.exec(message)?.[1]?.split(', ') ?? []
  // What it thinks first is free, and this model does not come to an end of that.
  formats = all.filter((name) => name !== 'harmony')
})

afterAll(async () => {
  await model.dispose()
})

const call = (toolFormat: string, options: GenerateOptions = {}) =>
  model.generate('What is the weather in Paris?', {
    tools,
    toolFormat,
    maxTokens: 2000,
    temperature: 1,
    parallelToolCalls: false,
    // What is wrong is to be seen here.
    validateToolCalls: false,
    ...options,
  })

it('is what the schema allows, whatever the format', { timeout: 600_000 }, async () => {
  expect(formats.length).toBeGreaterThan(30)
  const isValid = new Ajv2020().compile(parameters)
  for (const format of formats) {
    const all = [1, 2].map((seed) => call(format, { toolChoice: { name: 'get_weather' }, seed }))
    for (const { toolCalls, text, invalidToolCalls } of await Promise.all(all)) {
      expect({ format, text, invalidToolCalls }).toEqual({ format, text: '', invalidToolCalls: [] })
      expect(toolCalls.map(({ name }) => name)).toEqual(['get_weather'])
      const args = toolCalls[0]?.arguments
      expect(isValid(args), `${format}: ${JSON.stringify(args)}`).toBe(true)
    }
  }
})

it('has no arguments where the tool takes none', { timeout: 600_000 }, async () => {
  for (const format of formats) {
    const { toolCalls } = await call(format, { toolChoice: { name: 'now' } })
    expect(toolCalls, format).toMatchObject([{ name: 'now', arguments: {} }])
    expect(Object.keys(toolCalls[0]?.arguments ?? { a: 1 }), format).toEqual([])
  }
})
