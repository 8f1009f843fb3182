import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadModel, type Message, type Model } from '../js/index.js'
import { textOf } from './support/chunks.js'

const GREEDY = { temperature: 0, maxTokens: 40 }
const first: Message[] = [{ role: 'user', content: 'My favourite colour is teal.' }]

let model: Model
let folder: string

beforeAll(async () => {
  // What is cached is in prompt caches alone.
  model = await loadModel('demo', { prefixCache: false })
  folder = mkdtempSync(join(tmpdir(), 'nodemlx-prompt-cache-'))
})

afterAll(async () => {
  await model.dispose()
  rmSync(folder, { recursive: true })
})

function nextTurn(answer: string): Message[] {
  return [
    ...first,
    { role: 'assistant', content: answer },
    { role: 'user', content: 'What is my favourite colour?' },
  ]
}

describe('a prompt cache', () => {
  it('spares a conversation reading its beginning again, and changes no answer', async () => {
    const promptCache = model.createPromptCache()
    expect(await promptCache.size()).toEqual({ tokens: 0, bytes: 0 })
    const opening = await model.generate(first, { ...GREEDY, promptCache })
    expect(opening.usage.cachedTokens).toBe(0)
    const messages = nextTurn(opening.text)
    const alone = await model.generate(messages, GREEDY)
    const answer = await model.generate(messages, { ...GREEDY, promptCache })
    expect(answer.text).toBe(alone.text)
    expect(answer.text).toMatch(/teal/)
    expect(alone.usage.cachedTokens).toBe(0)
    expect(answer.usage.cachedTokens).toBeGreaterThanOrEqual(opening.usage.promptTokens)
    expect(answer.usage.promptTokens).toBe(alone.usage.promptTokens)
    const { tokens, bytes } = await promptCache.size()
    expect(tokens).toBeGreaterThanOrEqual(answer.usage.promptTokens)
    expect(bytes).toBeGreaterThan(0)
    promptCache.dispose()
  })

  it('goes back to where another prompt parts from it', async () => {
    const promptCache = model.createPromptCache()
    await model.generate('What is the capital of France?', { ...GREEDY, promptCache })
    const answer = await model.generate('What is the capital of Japan?', { ...GREEDY, promptCache })
    expect(answer.text).toMatch(/Tokyo/)
    expect(answer.usage.cachedTokens).toBeGreaterThan(3)
    expect(answer.usage.cachedTokens).toBeLessThan(answer.usage.promptTokens)
    // The same again: only the last token of the prompt is read.
    const again = await model.generate('What is the capital of Japan?', { ...GREEDY, promptCache })
    expect(again.text).toBe(answer.text)
    expect(again.usage.cachedTokens).toBe(again.usage.promptTokens - 1)
  })

  it('is written to a file, and read from it', async () => {
    const path = join(folder, 'teal.safetensors')
    const promptCache = model.createPromptCache()
    const opening = await model.generate(first, { ...GREEDY, promptCache })
    await promptCache.save(path)
    const loaded = await model.loadPromptCache(path)
    expect(await loaded.size()).toMatchObject({ tokens: (await promptCache.size()).tokens })
    const messages = nextTurn(opening.text)
    const expected = await model.generate(messages, { ...GREEDY, promptCache })
    const answer = await model.generate(messages, { ...GREEDY, promptCache: loaded })
    expect(answer.text).toBe(expected.text)
    expect(answer.usage.cachedTokens).toBe(expected.usage.cachedTokens)
  })

  it.each([{ kvBits: 8 }, { maxKvSize: 64 }, { kvBits: 8, maxKvSize: 64 }] as const)(
    'keeps its limits, also in a file: %o',
    async (options) => {
      const path = join(folder, `${JSON.stringify(options).length}.safetensors`)
      const promptCache = model.createPromptCache(options)
      await model.generate('What is the capital of France?', { ...GREEDY, promptCache })
      await promptCache.save(path)
      const loaded = await model.loadPromptCache(path)
      const answer = await model.generate('What is the capital of France?', {
        ...GREEDY,
        promptCache: loaded,
      })
      expect(answer.text).toMatch(/Paris/)
      expect(answer.usage.cachedTokens).toBe(answer.usage.promptTokens - 1)
    },
  )

  it('serves one generation at a time', async () => {
    const promptCache = model.createPromptCache()
    const running = model.generate('Tell me a story about a fox.', { ...GREEDY, promptCache })
    const second = model.generate('What is 2 + 2?', { ...GREEDY, promptCache })
    await expect(second).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', option: 'promptCache' })
    expect((await running).text).not.toBe('')
    expect((await model.generate('What is 2 + 2?', { ...GREEDY, promptCache })).text).toMatch(/4/)
  })

  it('survives an abort, with what was read', async () => {
    const promptCache = model.createPromptCache()
    const running = model.generate('Tell me a story about a fox.', { ...GREEDY, promptCache })
    for await (const piece of running) if (textOf(piece) !== '') running.abort()
    const { tokens } = await promptCache.size()
    expect(tokens).toBeGreaterThan(0)
    const answer = await model.generate('What is the capital of France?', {
      ...GREEDY,
      promptCache,
    })
    expect(answer.text).toMatch(/Paris/)
  })

  it('is refused by another model, and after its end', async () => {
    const other = await loadModel('demo')
    const promptCache = other.createPromptCache()
    await expect(model.generate('Hi', { ...GREEDY, promptCache })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      option: 'promptCache',
    })
    promptCache.dispose()
    expect(() => other.generate('Hi', { promptCache })).toThrow(/disposed of/)
    await expect(promptCache.save(join(folder, 'x'))).rejects.toMatchObject({ code: 'DISPOSED' })
    const kept = other.createPromptCache()
    await other.dispose()
    await expect(kept.size()).rejects.toMatchObject({ code: 'DISPOSED' })
    expect(() => other.createPromptCache()).toThrow(/disposed of/)
  })
})

describe('a file that is no prompt cache of this model', () => {
  it.each([
    ['nothing', () => join(folder, 'missing.safetensors'), /no such file/],
    [
      'an empty file',
      () => {
        const path = join(folder, 'empty')
        writeFileSync(path, '')
        return path
      },
      /empty/,
    ],
    ['weights', () => join(model.info.path, 'model.safetensors'), /not a prompt cache/],
    [
      'half a file',
      () => {
        const whole = readFileSync(join(folder, 'teal.safetensors'))
        const path = join(folder, 'half')
        writeFileSync(path, whole.subarray(0, whole.length / 2))
        return path
      },
      /not as long as its header says/,
    ],
    [
      'the cache of another model',
      () => {
        const whole = readFileSync(join(folder, 'teal.safetensors'))
        const name = Buffer.from('qwen3-')
        whole.write('0', whole.indexOf(name) + name.length + 3, 'latin1')
        whole.write('f', whole.indexOf(name) + name.length + 4, 'latin1')
        const path = join(folder, 'other')
        writeFileSync(path, whole)
        return path
      },
      /another model/,
    ],
  ])('%s', async (_, path, says) => {
    const error: unknown = await model.loadPromptCache(path()).catch((error: unknown) => error)
    expect(error).toMatchObject({ code: 'INVALID_PROMPT_CACHE' })
    expect((error as Error).message).toMatch(says)
  })
})
