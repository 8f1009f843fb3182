// What is the same for the server's models and the AI SDK's, where neither can see it.

import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it, vi } from 'vitest'
import { NodeMlxError } from '../js/errors.js'
import { ModelPool, type ModelPoolOptions } from '../js/model-pool.js'
import { namedSource } from '../js/model-sources.js'
import { fakeModel } from '../js/testing/index.js'
import type { Model } from '../js/types.js'

/** A pool of models of some bytes that take some time to load. */
function pool(
  options: Partial<ModelPoolOptions['keeping']> = {},
  whenFull: 'wait' | 'load',
  sizes: Readonly<Record<string, number>> = { a: 10, b: 10 },
) {
  const names = Object.entries(sizes)
  const loaded: Record<string, Model[]> = Object.fromEntries(names.map(([id]) => [id, []]))
  const source = (id: string) =>
    namedSource(
      async () => {
        await new Promise((resolve) => setTimeout(resolve, 10))
        const model = fakeModel({ answers: 'Hi.', info: { bytes: sizes[id] ?? 0 } }) as Model
        loaded[id]?.push(model)
        return model
      },
      id,
      {},
    )
  const made = new ModelPool({
    sources: new Map(
      names.map(([id, bytes]) => [id, { ...source(id), bytes: () => Promise.resolve(bytes) }]),
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
    }, 20_000)
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
    const dead = new NodeMlxError('ENGINE_FAILED', 'dead')
    expect(one.discardDead(new NodeMlxError('UNSUPPORTED', 'alive'))).toBe(false)
    expect(one.discardDead(dead)).toBe(false)
    const { model } = await models.use('a', undefined)
    other.discardDead(dead)
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

  it('gives up a load that waits for room and that nobody wants any more', async () => {
    const { pool: models, loaded } = pool({ memoryBytes: 15 }, 'wait')
    const first = await models.use('a', undefined)
    const leaving = new AbortController()
    const second = models.use('b', leaving.signal)
    await turn()
    leaving.abort(new Error('enough'))
    await expect(second).rejects.toThrow('enough')
    first.release()
    await new Promise((resolve) => setTimeout(resolve, 60))
    expect(loaded['b']).toEqual([])
    expect(first.model.disposed).toBe(false)
    // Who comes later has it.
    expect((await models.use('b', undefined)).model.disposed).toBe(false)
  })

  it('loads what fits while another waits for room', async () => {
    const { pool: models } = pool({ memoryBytes: 25 }, 'wait', { a: 20, b: 10, c: 5 })
    const first = await models.use('a', undefined)
    const second = models.use('b', undefined)
    await turn()
    const third = await models.use('c', undefined)
    expect(first.model.disposed).toBe(false)
    third.release()
    first.release()
    expect((await second).model.disposed).toBe(false)
  })

  it('unloads nothing for a model that has to wait all the same', async () => {
    const { pool: models } = pool({ memoryBytes: 30 }, 'wait', { a: 20, b: 15, c: 5 })
    const idle = await models.use('c', undefined)
    idle.release()
    const first = await models.use('a', undefined)
    const leaving = new AbortController()
    const second = models.use('b', leaving.signal)
    await new Promise((resolve) => setTimeout(resolve, 30))
    expect(idle.model.disposed).toBe(false)
    leaving.abort()
    await expect(second).rejects.toThrow()
    first.release()
  })

  it('loads others while a function never gives its model, and ends all the same', async () => {
    const models = new ModelPool({
      sources: new Map([
        ['never', namedSource(() => new Promise(() => undefined), 'never', {})],
        ['demo', namedSource('demo', 'demo', {})],
      ]),
      keeping: { memoryBytes: Infinity, idleMs: Infinity },
      other: (id) => {
        throw new Error(`no ${id}`)
      },
      whenFull: 'wait',
    })
    const waiting = models.use('never', undefined)
    const { model } = await models.use('demo', undefined)
    expect(model.info.modelType).not.toBe('')
    const over = expect(waiting).rejects.toThrow('over')
    await models.dispose(new Error('over'))
    await over
    expect(model.disposed).toBe(true)
  })

  it('starts again once with a new model where its own has died', async () => {
    const { pool: models, loaded } = pool({}, 'wait')
    const gone = new NodeMlxError('HOST_GONE', 'gone')
    const seen: Model[] = []
    const used = await models.with('a', undefined, (model) => {
      seen.push(model)
      return seen.length === 1 ? Promise.reject(gone) : Promise.resolve('used')
    })
    expect(used).toBe('used')
    expect(seen).toEqual(loaded['a'])
    const run = () => Promise.reject(gone)
    await expect(models.with('a', undefined, run)).rejects.toBe(gone)
    expect(loaded['a']).toHaveLength(3)
    // The next one has a model that lives.
    expect((await models.use('a', undefined)).model.disposed).toBe(false)
  })
})
