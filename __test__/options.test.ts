import { describe, expect, it } from 'vitest'
import type { NodeMlxError } from '../js/errors.js'
import { LoadedModel } from '../js/model.js'
import { generate } from '../js/once.js'
import { FakeModel, fakeInfo, words } from './support/fake-native.js'

/** A model that takes what it gets: names and types are checked before it, ranges by the addon. */
const native = new FakeModel(fakeInfo(), () => words('ok'))
const model = new LoadedModel(native)

function refusal(action: () => unknown): {
  code: string
  option: string | undefined
  message: string
} {
  try {
    action()
  } catch (error) {
    const { code, option, message } = error as NodeMlxError
    return { code, option, message }
  }
  throw new Error('nothing was refused')
}

/** An option and a wrong value for it, and what the error says. */
const WRONG: [option: string, value: unknown, says: RegExp][] = [
  ['maxTokens', 0, /whole number from 1/],
  ['maxTokens', -1, /got -1/],
  ['maxTokens', 1.5, /whole number/],
  ['maxTokens', Number.NaN, /got NaN/],
  ['maxTokens', Number.POSITIVE_INFINITY, /got Infinity/],
  ['maxTokens', 2 ** 31, /to 2147483647/],
  ['maxTokens', '10', /got "10"/],
  ['maxTokens', 10n, /a number, got 10n \(a bigint\)/],
  ['maxTokens', null, /got null/],
  ['temperature', -0.1, /from 0 to 10/],
  ['temperature', 70, /got 70/],
  ['temperature', Number.NaN, /NaN/],
  ['temperature', Number.POSITIVE_INFINITY, /Infinity/],
  ['temperature', '0.7', /got "0.7"/],
  ['temperature', true, /got true/],
  ['topP', 0, /above 0 and up to 1/],
  ['topP', 1.01, /up to 1/],
  ['topP', Number.NaN, /NaN/],
  ['topK', -1, /from 0/],
  ['topK', 2.5, /whole number/],
  ['minP', -0.01, /from 0 to 1/],
  ['minP', 2, /from 0 to 1/],
  ['seed', 2 ** 64, /64 bits/],
  ['seed', 0.5, /whole number/],
  ['seed', 'abc', /got "abc"/],
  ['stop', 5, /a string, a regular expression or an array of them.*got 5/],
  ['stop', '', /is empty/],
  ['stop', [''], /is empty/],
  ['stop', [1], /expected a string/],
  ['stop', ['a', '\uD800'], /lone surrogate.*position 0/],
  ['repetitionPenalty', 0, /above 0/],
  ['repetitionPenalty', -1, /above 0/],
  ['repetitionPenalty', Number.NaN, /NaN/],
  ['penaltyContextSize', 0, /from 1/],
  ['presencePenalty', 3, /-2 to 2/],
  ['frequencyPenalty', '1', /got "1"/],
  ['logitBias', [1, 2], /object of numbers.*an array/],
  ['logitBias', { cat: 1 }, /not a token/],
  ['logitBias', { 5: 1000 }, /-100 to 100/],
  ['logitBias', { 100: 1 }, /tokens are 0 to 99/],
  ['xtcProbability', 1.5, /0 to 1/],
  ['xtcThreshold', 0.6, /0 to 0.5/],
  ['logprobs', -1, /0 to 20/],
  ['logprobs', 21, /0 to 20/],
  ['logprobs', 'all', /true or false, got "all"/],
  ['maxKvSize', 8, /from 16/],
  ['kvBits', 3, /one of 4, 8/],
  ['kvGroupSize', 64, /no effect without kvBits/],
  ['promptCache', { id: 1 }, /createPromptCache/],
  ['onPrefill', 'x', /a function/],
  ['signal', {}, /AbortSignal/],
  ['signal', new AbortController(), /the controller's \.signal/],
  ['tools', {}, /array of tools/],
  ['tools', ['x'], /got "x"/],
  ['documents', 'x', /array of documents/],
  ['templateVariables', [], /an object/],
  ['templateVariables', new Map(), /Map/],
  ['chatTemplate', '', /is empty/],
  ['addGenerationPrompt', 1, /true or false/],
  ['priority', 1001, /from -1000 to 1000/],
  ['priority', 0.5, /whole number/],
  ['priority', 'high', /got "high"/],
  ['deterministic', 1, /true or false/],
  ['speculation', true, /'auto' or an object, got true/],
  ['speculation', 'on', /got "on"/],
]

describe('options of generate', () => {
  it.each(WRONG)('%s refuses %o', (option, value, says) => {
    const error = refusal(() => {
      // The addon refuses ranges before a model is loaded, this model what does not go together.
      if (option !== 'promptCache') void generate('demo', 'Hi', { [option]: value })
      model.generate('Hi', { [option]: value })
    })
    expect(error.code).toBe('INVALID_ARGUMENT')
    expect(error.option).toMatch(new RegExp(`^${option}(\\[.+\\])?$`))
    expect(error.message).toMatch(new RegExp(`^${option}`))
    expect(error.message).toMatch(says)
  })

  it('reach the engine as they are, and what was left out is not there', () => {
    const options = {
      maxTokens: 10,
      temperature: 0.5,
      topP: 1,
      topK: 0,
      minP: 0,
      seed: Number.MAX_SAFE_INTEGER,
      stop: ['a', '🙂'],
      repetitionPenalty: 1.1,
      penaltyContextSize: 64,
      presencePenalty: -2,
      frequencyPenalty: 2,
      logitBias: { 7: -100 },
      xtcProbability: 0.5,
      xtcThreshold: 0.1,
      logprobs: 0,
      priority: -3,
      deterministic: true,
      maxKvSize: 16,
      kvBits: 8,
      kvGroupSize: 32,
    } as const
    model.generate({ text: 'x' }, options)
    expect(native.generations.at(-1)?.request).toEqual({
      prompt: { text: 'x' },
      ...options,
    })
    model.generate({ text: 'x' }, { stop: 'END', logprobs: true })
    expect(native.generations.at(-1)?.request).toMatchObject({ stop: ['END'], logprobs: 0 })
    model.generate({ text: 'x' }, { logprobs: false })
    expect(native.generations.at(-1)?.request).toEqual({ prompt: { text: 'x' } })
    for (const [given, own] of [
      [-1, Number.MAX_SAFE_INTEGER],
      [-(2 ** 53) + 1, 1],
      [2 ** 62 + 1024, 1024],
    ] as const) {
      model.generate({ text: 'x' }, { seed: given })
      expect(native.generations.at(-1)?.request).toMatchObject({ seed: own })
    }
    model.generate({ text: 'x' }, { seed: undefined })
    expect(native.generations.at(-1)?.request).toEqual({ prompt: { text: 'x' } })
  })

  it.each([
    ['temperatur', 'temperature'],
    ['temprature', 'temperature'],
    ['temp', 'temperature'],
    ['max_tokens', 'maxTokens'],
    ['maxNewTokens', 'maxTokens'],
    ['max_new_tokens', 'maxTokens'],
    ['top_p', 'topP'],
    ['TopK', 'topK'],
    ['minp', 'minP'],
    ['stopSequences', 'stop'],
    ['repeat_penalty', 'repetitionPenalty'],
    ['abortSignal', 'signal'],
    ['log_probs', 'logprobs'],
  ])('unknown %s asks whether %s was meant', (wrong, right) => {
    const error = refusal(() => model.generate('Hi', { [wrong]: 1 }))
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', option: wrong })
    expect(error.message).toBe(`${wrong}: is not an option; did you mean ${right}?`)
  })

  it('that are like no other list all', () => {
    expect(refusal(() => model.generate('Hi', { zebra: 1 } as object)).message).toMatch(
      /^zebra: is not an option; known are maxTokens, temperature/,
    )
  })

  it.each([null, 'x', 5, [], new Map(), () => undefined])(
    'refuse %o in place of an object',
    (value) => {
      expect(refusal(() => model.generate('Hi', value as object))).toMatchObject({
        code: 'INVALID_ARGUMENT',
        option: 'options',
      })
    },
  )

  it('that would do nothing are refused', () => {
    expect(refusal(() => model.generate('Hi', { penaltyContextSize: 5 })).option).toBe(
      'penaltyContextSize',
    )
    expect(refusal(() => model.generate('Hi', { xtcThreshold: 0.1 })).option).toBe('xtcThreshold')
    const template = { addGenerationPrompt: true }
    for (const prompt of [{ text: 'Hi' }, { tokens: [1] }])
      expect(refusal(() => model.generate(prompt, template)).option).toBe('addGenerationPrompt')
  })

  it('take penaltyContextSize where the model itself has a repetition penalty', () => {
    const penalized = new FakeModel(
      fakeInfo({ generationDefaults: { repetitionPenalty: 1.1 } }),
      () => words('ok'),
    )
    new LoadedModel(penalized).generate('Hi', { penaltyContextSize: 5 })
    expect(penalized.generations[0]?.request.penaltyContextSize).toBe(5)
  })

  it('of the chat template are checked, too', () => {
    const wrong = (options: object) => refusal(() => model.generate('Hi', options))
    expect(wrong({ tool: [] }).message).toBe('tool: is not an option; did you mean tools?')
    expect(wrong({ tools: ['x'] }).option).toBe('tools[0]')
    expect(wrong({ chatTemplateOptions: {} }).option).toBe('chatTemplateOptions')
    expect(wrong({ addGenerationPrompt: true, continueFinalMessage: true })).toMatchObject({
      option: 'continueFinalMessage',
    })
    expect(wrong({ templateVariables: { now: Number.NaN } })).toMatchObject({
      option: 'templateVariables.now',
    })
  })
})

describe('options of loadModel', () => {
  it.each([
    ['device', 'metal', /'auto', 'gpu', 'cpu', got "metal"/],
    ['device', 'CPU', /did you mean 'cpu'/],
    ['dtype', 'bf16', /'bfloat16'/],
    ['dtype', 'float-32', /did you mean 'float32'/],
    ['dtype', 16, /got 16/],
    ['threads', 0, /whole number from 1/],
    ['threads', 2.5, /whole number/],
    ['threads', '2', /got "2"/],
    ['precision', 'high', /fast.*exact.*got "high"/],
    ['precision', 'exat', /did you mean .exact./],
    ['numThreads', 2, /did you mean threads/],
    ['onProgress', {}, /a function/],
    ['threads', 1025, /to 1024/],
    ['maxSequences', 0, /whole number from 1 to 1024/],
    ['maxSequences', '4', /got "4"/],
    ['maxStallMs', 60_001, /to 60000/],
    ['memoryBytes', 0, /whole number from 1/],
    ['memoryBytes', 0.5, /whole number/],
    ['maxStallMs', 0.5, /whole number/],
    ['prefixCache', true, /expected false or an object, got true/],
    ['prefixCache', 0, /expected false or an object/],
    ['draftModel', '', /is empty/],
    ['draftModel', {}, /a loaded model or the name/],
    ['predictionHeads', 1, /true or false/],
    ['contextLength', 0, /whole number from 1/],
    ['contextLength', 99.5, /whole number/],
    ['contextLength', '4096', /got "4096"/],
    ['numCtx', 4096, /did you mean contextLength/],
    ['signal', 'x', /AbortSignal/],
    ['devise', 'cpu', /did you mean device/],
    ['progressCallback', () => undefined, /did you mean onProgress/],
  ])('%s refuses %o', (option, value, says) => {
    const error = refusal(() => generate('demo', 'Hi', { [option]: value }))
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', option })
    expect(error.message).toMatch(says)
  })
})
