// What is the same for the server's models and the AI SDK's, where neither can see it.

import { describe, expect, it, vi } from 'vitest'
import { ModelPool, type ModelPoolOptions } from '../js/model-pool.js'
import { namedSource } from '../js/model-sources.js'
import { fakeModel } from '../js/testing/index.js'
import type { Model } from '../js/types.js'

/** A pool of models that take 10 bytes each and some time to load. */
function pool(options: Partial<ModelPoolOptions['keeping']> = {}, whenFull: 'wait' | 'load') {
  const loaded: Record<string, Model[]> = { a: [], b: [] }
  const source = (id: string) =>
    namedSource(
      async () => {
        await new Promise((resolve) => setTimeout(resolve, 10))
        const model = fakeModel({ answers: 'Hi.', info: { bytes: 10 } }) as Model
        loaded[id]?.push(model)
        return model
      },
      id,
      {},
    )
  const made = new ModelPool({
    sources: new Map(
      ['a', 'b'].map((id) => [id, { ...source(id), bytes: () => Promise.resolve(10) }]),
    ),
    keeping: { memoryBytes: Infinity, idleMs: Infinity, ...options },
    other: (id) => {
      throw new Error(`no ${id}`)
    },
    whenFull,
  })
  return { pool: made, loaded }
}

describe('a pool of models', () => {
  it('unloads after a while what was loaded for somebody who has gone', async () => {
    const { pool: models, loaded } = pool({ idleMs: 5 }, 'wait')
    await expect(models.use('a', AbortSignal.timeout(1))).rejects.toThrow('timeout')
    await vi.waitFor(() => {
      expect(loaded['a']?.[0]?.disposed).toBe(true)
    })
  })

  it('ends loads where it is disposed of, and loads again for who comes later', async () => {
    const { pool: models, loaded } = pool({}, 'wait')
    const waiting = [models.use('a', undefined), models.use('b', undefined)]
    await models.dispose(new Error('over'))
    const ends = await Promise.allSettled(waiting)
    // What was loaded by a function has come all the same, and has gone.
    expect(ends[1]).toMatchObject({ status: 'rejected', reason: { message: 'over' } })
    expect(loaded['a']?.every(({ disposed }) => disposed)).toBe(true)
    const { model } = await models.use('a', undefined)
    expect(model.disposed).toBe(false)
  })

  it('loads a model anew whose engine has died, once', async () => {
    const { pool: models, loaded } = pool({}, 'wait')
    const [one, other] = [await models.use('a', undefined), await models.use('a', undefined)]
    one.discard()
    const { model } = await models.use('a', undefined)
    other.discard()
    expect(loaded['a']).toHaveLength(2)
    expect([one.model.disposed, model.disposed]).toEqual([true, false])
  })

  it.each(['wait', 'load'] as const)('where all models are used: %s', async (whenFull) => {
    const { pool: models } = pool({ memoryBytes: 15 }, whenFull)
    const first = await models.use('a', undefined)
    const second = models.use('b', undefined)
    const early = await Promise.race([
      second.then(() => 'loaded'),
      new Promise((resolve) => setTimeout(resolve, 60, 'waiting')),
    ])
    expect(early).toBe(whenFull === 'wait' ? 'waiting' : 'loaded')
    first.release()
    expect((await second).model.disposed).toBe(false)
    expect(first.model.disposed).toBe(whenFull === 'wait')
  })

  it('says of a model that never fits what it takes', async () => {
    const { pool: models } = pool({ memoryBytes: 5 }, 'load')
    await expect(models.use('a', undefined)).rejects.toMatchObject({
      code: 'INSUFFICIENT_MEMORY',
      message: 'the model a takes 10 bytes, and models may take 5 (memoryBytes)',
    })
  })

  it('keeps nothing of names that it does not know', async () => {
    const { pool: models } = pool({}, 'load')
    await expect(models.use('c', undefined)).rejects.toThrow('no c')
    expect(models.models.map(({ id }) => id)).toEqual(['a', 'b'])
  })
})
