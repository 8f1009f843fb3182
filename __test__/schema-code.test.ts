// What schemas of libraries do in their own code: it may throw, and it may never end.

import { describe, expect, it } from 'vitest'
import { fakeModel } from '../js/testing/index.js'
import type { StandardSchema } from '../js/types.js'

type Validate = StandardSchema['~standard']['validate']

const schema = (validate: Validate) =>
  ({
    '~standard': {
      version: 1,
      vendor: 'test',
      validate,
      jsonSchema: { input: () => ({ type: 'object' }), output: () => ({ type: 'object' }) },
    },
  }) as unknown as StandardSchema

const never: Validate = () => new Promise(() => undefined)
const mine = new Error('mine')

describe('the checks of a format', () => {
  const model = fakeModel({ answers: { object: { a: 1 } } })
  const format = (validate: Validate) =>
    ({ responseFormat: { type: 'json', schema: schema(validate) } }) as const

  it.each(['a signal', 'abort()'])('that never end are ended by %s', async (by) => {
    const controller = new AbortController()
    const generation = model.generate('Hi', { ...format(never), signal: controller.signal })
    setTimeout(() => {
      if (by === 'a signal') controller.abort('enough')
      else generation.abort('enough')
    }, 20)
    const result = await generation
    expect(result).toMatchObject({ finishReason: 'abort', abortReason: 'enough', text: '{"a":1}' })
    expect(result).not.toHaveProperty('object')
  })

  it.each<[string, Validate]>([
    [
      'throws',
      () => {
        throw mine
      },
    ],
    ['rejects', () => Promise.reject(mine)],
  ])('that fail fail the answer with what it %s', async (_, validate) => {
    await expect(model.generate('Hi', format(validate))).rejects.toBe(mine)
  })

  it('of one answer do not disturb the others of a batch', async () => {
    let count = 0
    const validate: Validate = (value) => {
      if (++count === 2) throw mine
      return { value }
    }
    const seen: unknown[] = []
    for await (const item of model.generateBatch(['a', 'b', 'c'], {
      ...format(validate),
      ordered: true,
    }))
      seen.push(item.error ?? item.result?.object)
    expect(seen).toEqual([{ a: 1 }, mine, { a: 1 }])
  })
})

describe("the checks of a tool's arguments", () => {
  const model = fakeModel({ answers: { toolCalls: [{ name: 'f', arguments: { a: 1 } }] } })
  const tools = [{ name: 'f', parameters: schema(never), execute: () => 'done' }]

  it('that never end are ended by an abort', async () => {
    const generation = model.generate('Hi', { tools })
    setTimeout(() => {
      generation.abort('enough')
    }, 20)
    expect(await generation).toMatchObject({ finishReason: 'abort', abortReason: 'enough' })
  })

  it('that never end are ended by an abort of a chat', async () => {
    const answer = model.chat({ tools }).send('Hi')
    setTimeout(() => {
      answer.abort('enough')
    }, 20)
    expect(await answer).toMatchObject({ finishReason: 'abort' })
  })
})
