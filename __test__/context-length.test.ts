// The option contextLength of loadModel, with the embedded model.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadModel } from '../js/index.js'
import type { Model } from '../js/types.js'
import { runCli } from './support/child.js'

const LENGTH = 60

let model: Model

beforeAll(async () => {
  model = await loadModel('demo', { device: 'cpu', contextLength: LENGTH })
})

afterAll(async () => {
  await model.dispose()
})

const tokens = (count: number): { tokens: number[] } => ({
  tokens: Array.from({ length: count }, (_, at) => 300 + at),
})

describe('a shorter context', () => {
  it('is that of the model', () => {
    expect(model.info.contextLength).toBe(LENGTH)
    expect(model.info.maxContextLength).toBeLessThanOrEqual(LENGTH)
  })

  it('ends answers with "length"', async () => {
    const options = { temperature: 0, minTokens: 20 } as const
    for (const maxTokens of [undefined, 1000]) {
      const { finishReason, usage } = await model.generate(tokens(40), { ...options, maxTokens })
      expect(finishReason).toBe('length')
      expect(usage).toMatchObject({ promptTokens: 40, completionTokens: 20, totalTokens: LENGTH })
    }
  })

  it('refuses prompts that leave no room', async () => {
    await expect(model.generate(tokens(LENGTH)).then()).rejects.toMatchObject({
      code: 'CONTEXT_OVERFLOW',
      tokens: LENGTH,
      contextLength: LENGTH,
    })
    await expect(model.logits(tokens(LENGTH + 1).tokens)).rejects.toMatchObject({
      code: 'CONTEXT_OVERFLOW',
      contextLength: LENGTH,
    })
  })

  it('is no longer than what the model is made for', async () => {
    const plain = await loadModel('demo', { device: 'cpu' })
    const { contextLength = 0 } = plain.info
    await plain.dispose()
    expect(contextLength).toBeGreaterThan(LENGTH)
    await expect(
      loadModel('demo', { device: 'cpu', contextLength: contextLength + 1 }),
    ).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      option: 'contextLength',
      message: expect.stringContaining(`made for ${contextLength} tokens`) as string,
    })
    const whole = await loadModel('demo', { device: 'cpu', contextLength })
    expect(whole.info.contextLength).toBe(contextLength)
    await whole.dispose()
  })

  it('is a flag of the command line', async () => {
    const { code, stdout } = await runCli(['info', '--json', '--context-length', '99', 'demo'])
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ contextLength: 99 })
    const long = await runCli(['--context-length', '100000000', 'Hi'])
    expect(long.code).not.toBe(0)
    expect(long.stderr).toMatch(/made for \d+ tokens, not for 100000000/)
  })
})
