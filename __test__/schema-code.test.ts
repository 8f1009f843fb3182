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

/** A check that never ends, and what tells that it has begun. */
function endless(): { validate: Validate; begun: Promise<void> } {
  let begin = (): void => undefined
  const begun = new Promise<void>((resolve) => (begin = resolve))
  const validate: Validate = () => {
    begin()
    return new Promise(() => undefined)
  }
  return { validate, begun }
}
const mine = new Error('mine')

describe('the checks of a format', () => {
  const model = fakeModel({ answers: { object: { a: 1 } } })
  const format = (validate: Validate) =>
    ({ responseFormat: { type: 'json', schema: schema(validate) } }) as const

  it.each(['a signal', 'abort()'])('that never end are ended by %s', async (by) => {
    const controller = new AbortController()
    const { validate, begun } = endless()
    const generation = model.generate('Hi', { ...format(validate), signal: controller.signal })
    const ended = generation.result
    await begun
    if (by === 'a signal') controller.abort('enough')
    else generation.abort('enough')
    const result = await ended
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
  const tools = (validate: Validate) => [
    { name: 'f', parameters: schema(validate), execute: () => 'done' },
  ]

  it('that never end are ended by an abort', async () => {
    const { validate, begun } = endless()
    const generation = model.generate('Hi', { tools: tools(validate) })
    const ended = generation.result
    await begun
    generation.abort('enough')
    expect(await ended).toMatchObject({ finishReason: 'abort', abortReason: 'enough' })
  })

  it('that never end are ended by an abort of a chat', async () => {
    const { validate, begun } = endless()
    const answer = model.chat({ tools: tools(validate) }).send('Hi')
    const ended = answer.then()
    await begun
    answer.abort('enough')
    expect(await ended).toMatchObject({ finishReason: 'abort' })
  })
})
