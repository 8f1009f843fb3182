import { afterAll, describe, expect, it } from 'vitest'
import { loadModel } from '../js/index.js'
import { fakeModel } from '../js/testing/index.js'
import type { GenerateOptions, Model } from '../js/types.js'

const PROMPT = { text: 'Once upon a time' }
const OPTIONS = { temperature: 0, maxTokens: 24 } satisfies GenerateOptions

let loading: Promise<Model> | undefined
const demo = (): Promise<Model> => (loading ??= loadModel('demo'))
afterAll(async () => (await loading)?.dispose())

/** What the demo model says, with other options. */
async function say(options: GenerateOptions = {}) {
  return (await demo()).generate(PROMPT, { ...OPTIONS, ...options })
}

describe('an answer ends', () => {
  it('where a pattern first matches, and says what matched', async () => {
    const { text } = await say()
    const word = / [a-z]{5,}/.exec(text)
    if (word === null) throw new Error(text)
    const start = word.index
    const stopped = await say({ stop: ['nowhere', / [a-z]{5}/] })
    expect(stopped).toMatchObject({
      text: text.slice(0, start),
      finishReason: 'stop',
      matched: { type: 'pattern', value: text.slice(start, start + 6) },
    })
    expect(stopped).not.toHaveProperty('stopString')
    const loud = new RegExp(text.slice(start, start + 6).toUpperCase(), 'i')
    expect((await say({ stop: loud })).text).toBe(stopped.text)
  })

  it('at a stop string', async () => {
    const { text } = await say()
    const value = text.slice(8, 11)
    expect(await say({ stop: value })).toMatchObject({
      stopString: value,
      matched: { type: 'string', value },
    })
  })

  it('at a stop token, which is no part of it', async () => {
    const { tokens } = await say()
    const token = tokens[5] ?? -1
    const first = tokens.indexOf(token)
    const stopped = await say({ stopTokens: [token] })
    expect(stopped.tokens).toEqual(tokens.slice(0, first))
    expect(stopped).toMatchObject({
      finishReason: 'stop',
      matched: { type: 'token', value: token },
    })
  })

  it('not before the least number of tokens', async () => {
    const model = await demo()
    const [end = -1] = model.info.eosTokens
    const short = await say({ logitBias: { [end]: 100 } })
    expect(short.tokens).toEqual([])
    expect(short).not.toHaveProperty('matched')
    const long = await say({ logitBias: { [end]: 100 }, minTokens: 7 })
    expect(long.tokens).toHaveLength(7)
    const { text, tokens } = await say()
    const value = text.slice(0, 3)
    const later = await say({ stop: value, minTokens: tokens.length })
    expect(later.tokens.length).toBe(tokens.length)
  })

  it('when its time is up', async () => {
    const result = await say({ maxTokens: 100_000, logitBias: {}, maxTimeMs: 1 })
    expect(result).toMatchObject({ finishReason: 'length', matched: { type: 'time', value: 1 } })
  })
})

describe('banned strings', () => {
  it('do not come, however they would be cut into tokens', async () => {
    const { text } = await say()
    const banned = [text.slice(4, 9), text.slice(10, 12), 'e']
    const other = await say({ bannedStrings: banned, maxTokens: 60 })
    for (const it of banned) expect(other.text).not.toContain(it)
    expect(other.text.length).toBeGreaterThan(10)
  })

  it('are refused beside a response format, which they might leave without an end', async () => {
    const responseFormat = { type: 'choice', options: ['red', 'green'] } as const
    const both = say({ responseFormat, bannedStrings: ['green'] })
    await expect(both).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', option: 'bannedStrings' })
  })
})

describe('sampling', () => {
  const draw = async (options: GenerateOptions) => {
    const most = { temperature: 4, seed: 11, maxTokens: 40 }
    return (await demo()).generate('Tell me a story.', { ...most, ...options })
  }

  it.each<[string, GenerateOptions]>([
    ['typical', { typicalP: 0.3 }],
    ['top-nσ', { topNSigma: 0.05 }],
    [
      'a dynamic temperature',
      { dynamicTemperatureRange: 4, dynamicTemperatureExponent: 8, topP: 1, topK: 0 },
    ],
    ['mirostat', { mirostat: 2, mirostatTau: 1 }],
  ])(
    'with %s gives the same for the same seed, and other tokens than without',
    async (_, options) => {
      const [plain, first, second] = [await draw({}), await draw(options), await draw(options)]
      expect(first.tokens).toEqual(second.tokens)
      expect(first.tokens).not.toEqual(plain.tokens)
    },
  )

  it('with DRY does not repeat itself', async () => {
    const prompt = { text: 'one two three four one two three four one two three four one two' }
    const model = await demo()
    const most = { temperature: 0, maxTokens: 1 }
    const plain = await model.generate(prompt, most)
    const dry = await model.generate(prompt, { ...most, dryMultiplier: 100 })
    expect(plain.text).toContain('three')
    expect(dry.text).not.toContain('three')
    const free = await model.generate(prompt, {
      ...most,
      dryMultiplier: 100,
      drySequenceBreakers: ['two'],
    })
    expect(free.tokens).toEqual(plain.tokens)
  })

  it('refuses what has no effect', async () => {
    const model = await demo()
    const option = (options: GenerateOptions): string | undefined => {
      try {
        model.generate('Hi', options).abort()
      } catch (error) {
        return (error as { option?: string }).option
      }
      return undefined
    }
    expect(option({ mirostatTau: 3 })).toBe('mirostatTau')
    expect(option({ mirostat: 2, topP: 0.5 })).toBe('topP')
    expect(option({ mirostat: 1 as 2 })).toBe('mirostat')
    expect(option({ dryBase: 2 })).toBe('dryBase')
    expect(option({ dynamicTemperatureExponent: 2 })).toBe('dynamicTemperatureExponent')
    expect(option({ stop: /a*/ })).toBe('stop')
    expect(option({ stop: /a\b/ })).toBe('stop')
    expect(option({ stop: /^a|b$/ })).toBe('stop')
    expect(option({ stopTokens: [-1] })).toBe('stopTokens[0]')
    expect(option({ bannedStrings: [''] })).toBe('bannedStrings[0]')
    expect(option({ maxTimeMs: 0 })).toBe('maxTimeMs')
    for (const random of [
      { mirostat: 2 },
      { xtcProbability: 0.5 },
      { dynamicTemperatureRange: 1 },
    ] as const) {
      expect(option({ ...random, temperature: 0 })).toBe(Object.keys(random)[0])
      expect(option({ ...random, temperature: 0.1 })).toBeUndefined()
    }
  })
})

it('the fake model ends at patterns, too', async () => {
  const model = fakeModel({ answers: { text: 'One. 12 or 345. Then' } })
  expect(await model.generate('Hi', { stop: [/\d+\./, 'Then'] })).toMatchObject({
    text: 'One. 12 or ',
    matched: { type: 'pattern', value: '345.' },
  })
  expect(await model.generate('Hi', { stop: /OR.345/is })).toMatchObject({
    text: 'One. 12 ',
    matched: { type: 'pattern', value: 'or 345' },
  })
})
