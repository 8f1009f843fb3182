import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { loadModel, type Message, type Model } from '../js/index.js'
import { getNative } from '../js/native.js'

const GREEDY = { temperature: 0, maxTokens: 40 }
const RULE = 'You are a helpful assistant who answers in one short sentence, and never lies.'
const SYSTEM: Message = { role: 'system', content: RULE }
const FRANCE: Message = { role: 'user', content: 'What is the capital of France?' }
const JAPAN: Message = { role: 'user', content: 'What is the capital of Japan?' }

let model: Model
let plain: Model

beforeAll(async () => {
  model = await loadModel('demo')
  plain = await loadModel('demo', { prefixCache: false })
})

beforeEach(() => model.clearPrefixCache())

afterAll(async () => {
  await model.dispose()
  await plain.dispose()
})

describe('the prefix cache', () => {
  it('spares reading a beginning that any generation has read, and changes no answer', async () => {
    const opening = await model.generate([SYSTEM, FRANCE], GREEDY)
    expect(opening.usage.cachedTokens).toBe(0)
    const turns: Message[][] = [
      [SYSTEM, FRANCE, { role: 'assistant', content: opening.text }, JAPAN],
      [SYSTEM, JAPAN],
      [SYSTEM, FRANCE],
    ]
    for (const messages of turns) {
      const answer = await model.generate(messages, GREEDY)
      const alone = await plain.generate(messages, GREEDY)
      expect(alone.usage.cachedTokens).toBe(0)
      expect(answer.text).toBe(alone.text)
      expect(answer.usage.cachedTokens).toBeGreaterThan(10)
      expect(answer.usage.cachedTokens).toBeLessThan(answer.usage.promptTokens)
      expect(answer.usage.promptTokens).toBe(alone.usage.promptTokens)
    }
  })

  it('reads what many begin with at the same time once', async () => {
    const prompts = Array.from({ length: 12 }, (_, index): Message[] => [
      { role: 'system', content: `${RULE} `.repeat(8) },
      { role: 'user', content: `${index} + ${index} is what?` },
    ])
    const answers = await Promise.all(prompts.map((it) => model.generate(it, GREEDY)))
    // Which of them reads it is left open.
    const cached = answers.map(({ usage }) => usage.cachedTokens).sort((a, b) => a - b)
    expect(cached[0]).toBe(0)
    expect(cached[1]).toBeGreaterThan(100)
    const alone = await Promise.all(prompts.map((it) => plain.generate(it, GREEDY)))
    expect(answers.map(({ text }) => text)).toEqual(alone.map(({ text }) => text))
  })

  it('reads the long beginning of a hundred conversations once', async () => {
    const [beginning, own, count] = [2000, 8, 100]
    const token = (place: number): number => 300 + ((7919 * place) % 3000)
    const begin = Array.from({ length: beginning }, (_, place) => token(place))
    const answers = await Promise.all(
      Array.from({ length: count }, (_, number) => {
        const rest = Array.from({ length: own }, (_, place) => token(own * number + place + 11))
        return model.generate({ tokens: [...begin, ...rest] }, { temperature: 0, maxTokens: 2 })
      }),
    )
    const read = answers.map(({ usage }) => usage.promptTokens - usage.cachedTokens)
    expect(read.filter((tokens) => tokens > own)).toHaveLength(1)
    expect(read.reduce((sum, tokens) => sum + tokens)).toBeLessThanOrEqual(beginning + count * own)
  })

  it('keeps what was read before an abort', async () => {
    const running = model.generate([SYSTEM, FRANCE], { temperature: 0 })
    for await (const chunk of running) if (chunk.tokens.length > 0) break
    running.abort()
    const answer = await model.generate([SYSTEM, FRANCE], GREEDY)
    expect(answer.usage.cachedTokens).toBe(answer.usage.promptTokens - 1)
    expect(answer.text).toBe((await plain.generate([SYSTEM, FRANCE], GREEDY)).text)
  })

  it('is not used by what must depend on nobody, and by prompt caches', async () => {
    await model.generate([SYSTEM, FRANCE], GREEDY)
    const promptCache = model.createPromptCache()
    for (const options of [{ deterministic: true }, { promptCache }]) {
      const { usage } = await model.generate([SYSTEM, FRANCE], { ...GREEDY, ...options })
      expect(usage.cachedTokens).toBe(0)
    }
  })

  it('is forgotten on demand, and counts as memory until then', async () => {
    await model.generate([SYSTEM, FRANCE], GREEDY)
    const before = getNative().memoryStats().activeBytes
    await model.clearPrefixCache()
    expect(getNative().memoryStats().activeBytes).toBeLessThan(before)
    const { usage } = await model.generate([SYSTEM, FRANCE], GREEDY)
    expect(usage.cachedTokens).toBe(0)
  })

  it('keeps no more bytes than it may', async () => {
    const small = await loadModel('demo', { prefixCache: { memoryBytes: 1000 } })
    for (let round = 0; round < 2; round++) {
      const { usage } = await small.generate([SYSTEM, FRANCE], GREEDY)
      expect(usage.cachedTokens).toBe(0)
    }
    await small.dispose()
    await expect(small.clearPrefixCache()).rejects.toMatchObject({ code: 'DISPOSED' })
  })

  it('has options that are checked', async () => {
    const wrong = (prefixCache: object): Promise<Model> =>
      loadModel('demo', { prefixCache: prefixCache as never })
    for (const memoryBytes of [-1, 0.5, Number.NaN, '1 GB']) {
      await expect(wrong({ memoryBytes })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        option: 'prefixCache.memoryBytes',
      })
    }
    await expect(wrong({ memoryByte: 1 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      option: 'prefixCache.memoryByte',
    })
  })
})
