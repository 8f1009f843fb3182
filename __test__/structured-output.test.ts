// What an answer must be: JSON of a schema, a regular expression, a choice or a grammar.

import { toStandardJsonSchema } from '@valibot/to-json-schema'
import { type } from 'arktype'
import * as v from 'valibot'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { join } from 'node:path'
import { loadModel } from '../js/index.js'
import type { GenerateOptions, Model, ResponseFormat } from '../js/types.js'
import { ROOT } from './support/child.js'

let model: Model

beforeAll(async () => {
  model = await loadModel(join(ROOT, 'models', 'demo'), { device: 'cpu' })
})

afterAll(async () => {
  await model.dispose()
})

const CITY = {
  type: 'object',
  properties: {
    city: { type: 'string', maxLength: 12 },
    size: { enum: ['small', 'large'] },
    tags: { type: 'array', items: { type: 'boolean' }, maxItems: 3 },
  },
  required: ['city', 'size', 'tags'],
  additionalProperties: false,
} as const

const generate = (responseFormat: ResponseFormat, options: GenerateOptions = {}) =>
  model.generate('What is the capital of France?', {
    maxTokens: 80,
    seed: 5,
    ...options,
    responseFormat,
  })

describe('an answer in JSON', () => {
  it('is what the schema asks for, and ends', async () => {
    for (const temperature of [0, 1]) {
      const result = await generate({ type: 'json', schema: CITY }, { temperature })
      expect(result.finishReason).toBe('stop')
      expect(result.object).toEqual(JSON.parse(result.text))
      expect(Object.keys(result.object as object)).toEqual(['city', 'size', 'tags'])
      expect(result).not.toHaveProperty('incomplete')
      expect(result).not.toHaveProperty('warnings')
      expect(result.usage.completionTokens).toBe(result.tokens.length)
    }
  })

  it('may be any, without a schema', async () => {
    const { object, text } = await generate({ type: 'json' }, { temperature: 1, maxTokens: 300 })
    if (object !== undefined) expect(object).toEqual(JSON.parse(text))
  })

  it('is the same for the same seed, and with a prompt cache', async () => {
    const options = { temperature: 1, seed: 11 }
    const first = await generate({ type: 'json', schema: CITY }, options)
    const again = await generate({ type: 'json', schema: CITY }, options)
    expect(again.text).toBe(first.text)
    using promptCache = model.createPromptCache()
    for (let turn = 0; turn < 2; turn++) {
      const cached = await generate({ type: 'json', schema: CITY }, { ...options, promptCache })
      expect(cached.text).toBe(first.text)
    }
  })

  it('goes with penalties, filters and log-probabilities', async () => {
    const result = await generate(
      { type: 'json', schema: CITY },
      {
        temperature: 1,
        topK: 5,
        topP: 0.9,
        minP: 0.01,
        xtcProbability: 0.5,
        repetitionPenalty: 1.3,
        presencePenalty: 1,
        logitBias: { 5: -100 },
        logprobs: 4,
      },
    )
    expect(result.finishReason).toBe('stop')
    expect(result.object).toBeDefined()
    expect(result.logprobs).toHaveLength(result.tokens.length)
    for (const { logprob, top } of result.logprobs ?? []) {
      expect(logprob).toBeLessThanOrEqual(0)
      expect(top.length).toBeGreaterThan(0)
      for (const candidate of top) expect(Number.isFinite(candidate.logprob)).toBe(true)
    }
  })

  it('runs beside others', async () => {
    const results = await Promise.all([
      generate({ type: 'json', schema: CITY }, { temperature: 1, seed: 1 }),
      model.generate('What is the capital of Italy?', { temperature: 0 }),
      generate({ type: 'choice', options: ['Paris', 'Rome'] }, { temperature: 0 }),
      generate({ type: 'json', schema: CITY }, { temperature: 1, seed: 2 }),
    ])
    expect(results[0].object).toEqual(JSON.parse(results[0].text))
    expect(results[1].text).toContain('Rome')
    expect(results[2].text).toBe('Paris')
    expect(results[3].object).toEqual(JSON.parse(results[3].text))
  })

  it('says what is missing where it was broken off', async () => {
    const result = await generate({ type: 'json', schema: CITY }, { maxTokens: 3, temperature: 0 })
    expect(result.finishReason).toBe('length')
    expect(result).not.toHaveProperty('object')
    expect(result.incomplete?.missing).toMatch(/\}$/)
    const stopped = await generate({ type: 'json', schema: CITY }, { stop: '"size"' })
    expect(stopped).toMatchObject({ finishReason: 'stop', incomplete: { missing: '}' } })
  })

  it('is told with warnings where it was not enforced', async () => {
    const schema = { type: 'array', items: { type: 'boolean' }, uniqueItems: true, maxItems: 4 }
    const { warnings, object } = await generate({ type: 'json', schema, strict: false })
    expect(warnings).toEqual([expect.stringContaining('"uniqueItems" is not enforced')])
    expect(object).toBeInstanceOf(Array)
  })

  it('grows', async () => {
    const generation = generate({ type: 'json', schema: CITY }, { temperature: 1 })
    const seen: unknown[] = []
    for await (const partial of generation.partialObjectStream) seen.push(partial)
    const { object } = await generation
    expect(seen.at(-1)).toEqual(object)
    expect(new Set(seen.map((partial) => JSON.stringify(partial))).size).toBe(seen.length)
  })

  it('says so where it is complete before minTokens', async () => {
    const format = { type: 'json', schema: { const: 1 } } as const
    const { object, warnings } = await generate(format, { minTokens: 30 })
    expect(object).toBe(1)
    expect(warnings).toEqual([expect.stringMatching(/^minTokens: the answer was complete with 1 /)])
    expect(await generate(format, { minTokens: 1 })).not.toHaveProperty('warnings')
  })

  it('comes with the pieces of the answer, behind the text that changed it', async () => {
    const generation = generate({ type: 'json', schema: CITY })
    const partials: unknown[] = []
    for await (const partial of generation.partialObjectStream) partials.push(partial)
    let text = ''
    const objects: unknown[] = []
    for await (const chunk of generation) {
      if (chunk.type === 'text') text += chunk.text
      if (chunk.type !== 'object') continue
      expect(chunk.tokens).toEqual([])
      objects.push(chunk.object)
    }
    expect(objects).toEqual(partials)
    expect(JSON.parse(text)).toEqual(objects.at(-1))
    const streamed: unknown[] = []
    for await (const chunk of generation.stream)
      if (chunk.type === 'object') streamed.push(chunk.object)
    expect(streamed).toEqual(objects)
    const types = new Set<string>()
    for await (const { type } of generate({ type: 'regex', pattern: '[0-9]' })) types.add(type)
    expect([...types]).toEqual(['text'])
  })

  it('grows only where it is JSON', () => {
    expect(() => generate({ type: 'regex', pattern: 'a' }).partialObjectStream).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', option: 'responseFormat' }) as Error,
    )
  })
})

describe('an answer', () => {
  it.each<[ResponseFormat, RegExp]>([
    [{ type: 'regex', pattern: '[A-Z][a-z]{3,8}, \\d{2}' }, /^[A-Z][a-z]{3,8}, \d{2}$/],
    [{ type: 'regex', pattern: /(?:yes|no)!{1,3}/u }, /^(?:yes|no)!{1,3}$/],
    [{ type: 'regex', pattern: /(?:YES|NO).{2}/is }, /^(?:yes|no).{2}$/is],
    [{ type: 'choice', options: ['Lyon', 'Nice', 'Lyonnaise'] }, /^(?:Lyon|Nice|Lyonnaise)$/],
    [{ type: 'grammar', lark: 'start: "a" b "c"\nb: "b" | "b" b' }, /^ab+c$/],
  ])('of %j is that as a whole', async (format, expected) => {
    for (const seed of [1, 2, 3]) {
      const result = await generate(format, { temperature: 1, seed })
      if (result.finishReason === 'stop') expect(result.text).toMatch(expected)
      expect(result).not.toHaveProperty('object')
    }
  })

  it('of type text is as free as without', async () => {
    const free = await model.generate('What is the capital of France?', { temperature: 0 })
    const { text } = await generate({ type: 'text' }, { temperature: 0 })
    expect(text).toBe(free.text)
  })

  it('of a prompt of tokens is constrained, too', async () => {
    const tokens = await model.tokenize('Once upon a time')
    const responseFormat = { type: 'choice', options: ['so', 'then'] } as const
    expect((await model.generate({ tokens }, { responseFormat })).text).toMatch(/^(?:so|then)$/)
  })
})

describe('a schema of', () => {
  it('Zod gives the value that it makes', async () => {
    const schema = z.object({
      city: z.string().max(8),
      size: z.enum(['small', 'large']).transform((size) => size.length),
      seen: z.boolean().default(true),
    })
    const { object } = await generate({ type: 'json', schema }, { temperature: 1 })
    expect(object).toEqual({
      city: expect.any(String) as string,
      size: 5,
      seen: expect.any(Boolean) as boolean,
    })
  })

  it('Zod has kinds of values of all sorts', async () => {
    const schema = z.object({
      day: z.iso.date(),
      id: z.uuid(),
      count: z.int().min(1).max(9),
      pair: z.tuple([z.literal('a'), z.null()]),
      pet: z.discriminatedUnion('kind', [
        z.object({ kind: z.literal('cat'), lives: z.literal([7, 9]) }),
        z.object({ kind: z.literal('dog') }),
      ]),
      marks: z.record(z.enum(['x', 'y']), z.boolean()),
    })
    const options = { temperature: 1, maxTokens: 200 }
    const { object } = await generate({ type: 'json', schema }, options)
    expect(schema.safeParse(object).error).toBeUndefined()
  })

  it('Valibot gives the value', async () => {
    const schema = toStandardJsonSchema(v.object({ city: v.pipe(v.string(), v.maxLength(8)) }))
    const { object } = await generate({ type: 'json', schema }, { temperature: 1 })
    expect(object).toEqual({ city: expect.any(String) as string })
  })

  it('ArkType gives the value', async () => {
    const schema = type({ city: 'string <= 8', size: "'small' | 'large'" })
    const { object } = await generate({ type: 'json', schema }, { temperature: 1 })
    expect(object).toEqual({
      city: expect.any(String) as string,
      size: expect.stringMatching(/small|large/) as string,
    })
  })

  it('Zod may refuse what JSON Schema cannot say', async () => {
    const schema = z.object({ n: z.literal(1) }).refine(() => false, 'never right')
    const generation = generate({ type: 'json', schema })
    await expect(generation.result).rejects.toMatchObject({
      code: 'INVALID_OUTPUT',
      text: expect.stringMatching(/^\{\s*"n": ?1\s*\}$/) as string,
      message: 'the schema refuses the answer: never right',
    })
  })
})

describe('a response format that is wrong', () => {
  it.each([
    ['responseFormat', 'json'],
    ['responseFormat.type', { type: 'xml' }],
    ['responseFormat.schema', { type: 'json', schema: 5 }],
    ['responseFormat.schema', { type: 'json', schema: v.object({}) }],
    ['responseFormat.strict', { type: 'json', strict: true }],
    ['responseFormat.schemas', { type: 'json', schemas: {} }],
    ['responseFormat.pattern', { type: 'regex' }],
    ['responseFormat.pattern', { type: 'regex', pattern: new RegExp('a', 'v') }],
    ['responseFormat.options', { type: 'choice', options: 'yes' }],
    ['responseFormat.options[1]', { type: 'choice', options: ['yes', ''] }],
    ['responseFormat.lark', { type: 'grammar', lark: '' }],
  ])('is refused at once, as %s', (option, responseFormat) => {
    expect(() => generate(responseFormat as ResponseFormat)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', option }) as Error,
    )
  })

  it.each([
    ['responseFormat.schema', { type: 'json', schema: { uniqueItems: true } }, '"uniqueItems"'],
    ['responseFormat.schema', { type: 'json', schema: { type: 'strin' } }, 'at #/type'],
    ['responseFormat.schema', { type: 'json', schema: { $ref: 'x.json' } }, 'another document'],
    ['responseFormat.schema', { type: 'json', schema: false }, 'allows nothing'],
    ['responseFormat.pattern', { type: 'regex', pattern: '(' }, 'not closed'],
    ['responseFormat.pattern', { type: 'regex', pattern: 'a(?=b)' }, 'looks ahead'],
    ['responseFormat.options', { type: 'choice', options: [] }, '1 to'],
    ['responseFormat.lark', { type: 'grammar', lark: 'start: x' }, 'x'],
  ])('rejects the generation, as %s of %j', async (option, responseFormat, message) => {
    await expect(generate(responseFormat as ResponseFormat).result).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      option,
      message: expect.stringContaining(message) as string,
    })
  })
})
