// Speculative decoding as JavaScript sees it, with the demo model and its draft model.

import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generate, loadModel } from '../js/index.js'
import { fakeModel } from '../js/testing/index.js'
import type { GenerateOptions, Model, SpeculationOptions } from '../js/types.js'
import { ROOT } from './support/child.js'

const DRAFT = join(ROOT, 'models', 'demo-draft')
const LOAD = { device: 'cpu', precision: 'exact' } as const

let plain: Model
let drafted: Model

beforeAll(async () => {
  plain = await loadModel('demo', LOAD)
  drafted = await loadModel('demo', { ...LOAD, draftModel: DRAFT })
})

afterAll(async () => {
  await Promise.all([plain.dispose(), drafted.dispose()])
})

const PROMPTS = [
  'What is the capital of France?',
  'Count from 1 to 20.',
  'Repeat after me: the cat sat on the mat, the cat sat on the mat.',
  'Tell me a story.',
]

describe('speculation', () => {
  it.each<[string, GenerateOptions]>([
    ['the likeliest tokens', { temperature: 0 }],
    ['drawn tokens', { temperature: 0.9, topP: 0.95, seed: 5 }],
    ['penalties', { temperature: 0.7, seed: 1, repetitionPenalty: 1.2, presencePenalty: 0.3 }],
    ['a pattern', { temperature: 0, responseFormat: { type: 'regex', pattern: '[a-z ]{5,30}' } }],
    ['a stop string', { temperature: 0, stop: ['1', 'e'] }],
    ['a stop pattern', { temperature: 0, stop: /[.!?]/ }],
    ['banned strings', { temperature: 0, bannedStrings: ['the', '1'] }],
    ['few tokens', { temperature: 0, maxTokens: 3 }],
    ['at least so many tokens', { temperature: 0, minTokens: 30 }],
    ['mirostat', { temperature: 0.8, mirostat: 2, seed: 3 }],
    ['DRY', { temperature: 0, dryMultiplier: 1 }],
    ['XTC', { temperature: 0.8, xtcProbability: 0.5, xtcThreshold: 0.1, seed: 2 }],
    ['JSON', { temperature: 0, responseFormat: { type: 'json' } }],
    ['packed keys and values', { temperature: 0, kvBits: 8, kvGroupSize: 32 }],
    ['a window', { temperature: 0, maxKvSize: 32 }],
    ['log-probabilities', { temperature: 0, logprobs: 2 }],
  ])('gives the same text: %s', async (_, options) => {
    const all = { maxTokens: 40, ...options }
    for (const prompt of PROMPTS.slice(1, 3)) {
      const expected = await plain.generate(prompt, all)
      for (const speculation of [
        { draftTokens: 4 },
        { draftTokens: 1, lookup: false },
        'auto',
      ] as const) {
        const result = await drafted.generate(prompt, { ...all, speculation })
        expect(result.text).toBe(expected.text)
        expect(result.tokens).toEqual(expected.tokens)
        expect(result.finishReason).toBe(expected.finishReason)
        // What is known of the prompt already is another matter.
        const { cachedTokens } = result.usage
        expect(result.usage).toEqual({ ...expected.usage, cachedTokens })
        expect(result.matched).toEqual(expected.matched)
        expect(result.logprobs?.map(({ token }) => token)).toEqual(
          expected.logprobs?.map(({ token }) => token),
        )
      }
    }
  })

  it('says what came of it', async () => {
    const options = { temperature: 0, maxTokens: 80, speculation: { draftTokens: 4 } }
    const { speculation, usage } = await drafted.generate('Count from 1 to 20.', options)
    const { drafted: guessed = 0, accepted = 0, steps = 0 } = speculation ?? {}
    expect(accepted).toBeGreaterThan(steps)
    expect(guessed).toBeGreaterThanOrEqual(accepted)
    // The token that ends the answer is made and not counted.
    expect(steps + accepted - usage.completionTokens).toBeOneOf([0, 1])
  })

  it('looks up what was said before, without a second model', async () => {
    const prompt = { text: 'one two three four five six one two three four five six one two' }
    const options = { temperature: 0, maxTokens: 40 }
    const expected = await plain.generate(prompt, options)
    const speculation = { draftTokens: 6 }
    const result = await plain.generate(prompt, { ...options, speculation })
    expect(result.text).toBe(expected.text)
    expect(result.speculation?.drafted).toBeGreaterThan(0)
    expect(expected.speculation).toBeUndefined()
  })

  it('is on by itself where there is a draft model, and off on demand', async () => {
    const on = await drafted.generate('Hello', { maxTokens: 5 })
    expect(on.speculation?.steps).toBeGreaterThan(0)
    const off = await drafted.generate('Hello', { maxTokens: 5, speculation: false })
    expect(off.speculation).toBeUndefined()
    const deterministic = await drafted.generate('Hello', { maxTokens: 5, deterministic: true })
    expect(deterministic.speculation).toBeUndefined()
  })

  it('goes on beside others that do not speculate', async () => {
    const options = { temperature: 0, maxTokens: 40 }
    const expected = await Promise.all(PROMPTS.map((prompt) => plain.generate(prompt, options)))
    const results = await Promise.all(
      PROMPTS.map((prompt, index) => {
        const speculation = index % 2 === 0 ? { draftTokens: 3 } : false
        return drafted.generate(prompt, { ...options, speculation })
      }),
    )
    expect(results.map(({ text }) => text)).toEqual(expected.map(({ text }) => text))
  })

  it('can be aborted, and leaves a prompt cache that is right', async () => {
    const promptCache = drafted.createPromptCache()
    const options = { temperature: 0, maxTokens: 60, promptCache, speculation: { draftTokens: 5 } }
    const generation = drafted.generate('Tell me a story.', options)
    await generation.stream.getReader().read()
    generation.abort()
    expect((await generation.result).finishReason).toBe('abort')
    const { text } = await plain.generate('Tell me a story.', { temperature: 0, maxTokens: 60 })
    expect((await drafted.generate('Tell me a story.', options)).text).toBe(text)
    promptCache.dispose()
  })
})

describe('what cannot be', () => {
  it.each<[unknown, RegExp, string]>([
    [{ draftTokens: 0 }, /from 1 to 32, got 0/, 'speculation.draftTokens'],
    [{ draftTokens: 33 }, /from 1 to 32/, 'speculation.draftTokens'],
    [{ draftTokens: '4' }, /got "4"/, 'speculation.draftTokens'],
    [{ lookup: 1 }, /true or false/, 'speculation.lookup'],
    [{ tokens: 4 }, /is not an option/, 'speculation.tokens'],
  ])('%o', (speculation, message, option) => {
    for (const model of [plain, fakeModel({ answers: 'Hello.' })]) {
      const refused = (): unknown =>
        model.generate('Hi', { speculation: speculation as SpeculationOptions })
      expect(refused).toThrow(message)
      expect(refused).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT', option }) as Error,
      )
    }
  })

  it('is refused with deterministic', () => {
    for (const model of [plain, fakeModel({ answers: 'Hello.' })]) {
      expect(() => model.generate('Hi', { speculation: 'auto', deterministic: true })).toThrow(
        /speculation.*deterministic/,
      )
    }
  })

  it('has nothing to guess with', async () => {
    const answer = plain.generate('Hi', { speculation: { lookup: false } })
    await expect(answer.result).rejects.toThrow(/without a draftModel/)
  })

  it('is a draft model with other tokens', async () => {
    const other = mkdtempSync(join(tmpdir(), 'draft-'))
    cpSync(DRAFT, other, { recursive: true })
    const path = join(other, 'tokenizer.json')
    // A letter in the place of another.
    const tokenizer = JSON.parse(readFileSync(path, 'utf8')) as {
      model: { vocab: Record<string, number> }
    }
    const { vocab } = tokenizer.model
    ;[vocab['a'], vocab['b']] = [vocab['b'] ?? 0, vocab['a'] ?? 0]
    writeFileSync(path, JSON.stringify(tokenizer))
    await expect(loadModel('demo', { ...LOAD, draftModel: other })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      option: 'draftModel',
      message: expect.stringMatching(/token "[ab]" for "[ab]"/) as string,
    })
    rmSync(other, { recursive: true })
    await expect(loadModel('demo', { draftModel: './nowhere' })).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
    })
  })
})

it('takes a loaded model as the draft model', async () => {
  const draft = await loadModel(DRAFT, LOAD)
  const text = { temperature: 0, maxTokens: 10, device: 'cpu', draftModel: draft } as const
  const { text: answer, speculation } = await generate('demo', 'What is 2+2?', text)
  expect(answer).toContain('4')
  expect(speculation?.steps).toBeGreaterThan(0)
  await draft.dispose()
})

it('is known to the fake model, which guesses nothing', async () => {
  const result = await fakeModel({ answers: 'Hello.' }).generate('Hi', { speculation: 'auto' })
  expect(result.speculation).toMatchObject({ drafted: 0, accepted: 0 })
  expect((await fakeModel({ answers: 'Hello.' }).generate('Hi')).speculation).toBeUndefined()
})
