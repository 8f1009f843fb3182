// Which models are loaded, when, and how long they stay.

import { fork, type ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { MessageChannel } from 'node:worker_threads'
import { afterEach, describe, expect, it } from 'vitest'
import { connect, serve } from '../js/client/index.js'
import { estimateModel, NodeMlxError, type Model } from '../js/index.js'
import { fakeModel } from '../js/testing/index.js'
import { ROOT } from './support/child.js'
import { Client, type Json } from './support/http.js'

const clients: Client[] = []
afterEach(async () => {
  await Promise.all(clients.splice(0).map(({ handler }) => handler.close(0)))
})

function client(...args: ConstructorParameters<typeof Client>): Client {
  const made = new Client(...args)
  clients.push(made)
  return made
}

/** A function that loads a fake model, and what it loaded. */
function loader(bytes = 100, tokenMs = 0) {
  const loaded: Model[] = []
  const load = async (): Promise<Model> => {
    await new Promise((resolve) => setTimeout(resolve, 20))
    const model = fakeModel({ answers: 'one two three four five', info: { bytes }, tokenMs })
    loaded.push(model)
    return model
  }
  return { load, loaded }
}

const ask = (to: Client, model: string, stream = false): Promise<Response> =>
  to.post('/v1/completions', { model, prompt: 'x', stream })

const until = async (check: () => boolean): Promise<void> => {
  for (let tries = 0; tries < 200 && !check(); tries++)
    await new Promise((resolve) => setTimeout(resolve, 10))
  expect(check()).toBe(true)
}

describe('a model', () => {
  it('is loaded once, at the first request, for all who ask', async () => {
    const one = loader()
    const served = client({ models: { one: one.load } })
    expect(one.loaded).toHaveLength(0)
    const responses = await Promise.all([1, 2, 3].map(() => ask(served, 'one')))
    expect(responses.map(({ status }) => status)).toEqual([200, 200, 200])
    expect(one.loaded).toHaveLength(1)
  })

  it('that cannot be loaded is tried again with the next request', async () => {
    let tries = 0
    const load = (): Promise<Model> => {
      tries++
      if (tries > 1) return Promise.resolve(fakeModel({ answers: 'Hello' }))
      return Promise.reject(
        new NodeMlxError('INVALID_WEIGHTS', 'broken', { path: '/secret/place' }),
      )
    }
    const errors: unknown[] = []
    const served = client({ models: { one: load }, onError: (error) => errors.push(error) })
    const failed = await ask(served, 'one')
    expect(failed.status).toBe(500)
    // A path of the machine is nobody's business but the log's.
    expect(await failed.text()).not.toContain('secret')
    expect(errors).toHaveLength(1)
    expect((await ask(served, 'one')).status).toBe(200)
  })

  it('that nobody used for long is unloaded, and comes back', async () => {
    const one = loader()
    const served = client({ models: { one: one.load }, idleMs: 40 })
    await ask(served, 'one')
    await until(() => one.loaded[0]?.disposed === true)
    const { data } = (await (await served.get('/v1/models')).json()) as Json
    expect(data[0].state).toBe('not-loaded')
    expect((await ask(served, 'one')).status).toBe(200)
    expect(one.loaded).toHaveLength(2)
  })

  it('is not unloaded while it is used, however long that takes', async () => {
    const one = loader(100, 40)
    const served = client({ models: { one: one.load }, idleMs: 10 })
    const text = await (await ask(served, 'one', true)).text()
    expect(text).toContain('[DONE]')
    await until(() => one.loaded[0]?.disposed === true)
    expect(one.loaded).toHaveLength(1)
  })

  it('of the caller stays when the server ends', async () => {
    const model = fakeModel({ answers: 'Hello' })
    const served = client({ models: { one: model }, idleMs: 1 })
    await ask(served, 'one')
    await served.handler.close()
    expect(model.disposed).toBe(false)
  })

  it('that was loaded here leaves with the server', async () => {
    const one = loader()
    const served = client({ models: { one: one.load } })
    await ask(served, 'one')
    await served.handler.close()
    expect(one.loaded[0]?.disposed).toBe(true)
  })
})

describe('a model of another process', () => {
  it('that has crashed is loaded anew', async () => {
    const children: ChildProcess[] = []
    const host = connect(() => {
      const main = join(ROOT, 'dist', 'client', 'main.js')
      const child = fork(main, { serialization: 'advanced', execArgv: [] })
      children.push(child)
      return child
    })
    const served = client({ models: { one: () => host.loadModel('demo') } })
    const requests: [string, object][] = [
      ['/v1/completions', { prompt: 'x' }],
      ['/v1/messages/count_tokens', { messages: [{ role: 'user', content: 'x' }] }],
    ]
    for (const [path, body] of [...requests, ...requests]) {
      const { status } = await served.post(path, { model: 'one', ...body })
      expect(status).toBe(200)
      const child = children.at(-1)
      const gone = new Promise((resolve) => child?.once('exit', resolve))
      child?.kill('SIGKILL')
      await gone
    }
    expect(children).toHaveLength(4)
    host.close()
  })

  it("that is the caller's own is said to have gone", async () => {
    const { port1, port2 } = new MessageChannel()
    const remote = serve(port1, { load: () => Promise.resolve(fakeModel({ answers: 'Hi.' })) })
    const own = await connect(port2).loadModel('x')
    const served = client({ models: { own } })
    expect((await ask(served, 'own')).status).toBe(200)
    await remote.close()
    port1.close()
    await until(() => isGone(own))
    const response = await ask(served, 'own')
    expect(response.status).toBe(503)
    const { error } = (await response.json()) as Json
    expect(error.message).toContain('the host of the model has gone')
  })
})

function isGone(model: Model): boolean {
  try {
    void model.generate('x').result.catch(() => undefined)
    return false
  } catch {
    return true
  }
}

describe('room for models', () => {
  it('is made by what was not used for longest', async () => {
    const [one, two, three] = [loader(), loader(), loader()]
    const models = { one: one.load, two: two.load, three: three.load }
    const served = client({ models, memoryBytes: 200 })
    await ask(served, 'one')
    await ask(served, 'two')
    await ask(served, 'one')
    await ask(served, 'three')
    expect([one, two, three].map(({ loaded }) => loaded[0]?.disposed)).toEqual([false, true, false])
  })

  it('is waited for where all are used', async () => {
    const { weightsBytes } = await estimateModel('demo')
    const served = client({ models: { one: 'demo', two: 'demo' }, memoryBytes: weightsBytes * 1.5 })
    const first = await ask(served, 'one', true)
    const second = ask(served, 'two')
    expect(await first.text()).toContain('[DONE]')
    expect((await second).status).toBe(200)
    const { data } = (await (await served.get('/v1/models')).json()) as Json
    expect(data.map(({ state }: Json) => state)).toEqual(['not-loaded', 'loaded'])
  })

  it('is found where loading says that memory is missing', async () => {
    const one = loader()
    const load = (): Promise<Model> =>
      one.loaded[0]?.disposed === true
        ? Promise.resolve(fakeModel({ answers: 'Hello' }))
        : Promise.reject(new NodeMlxError('INSUFFICIENT_MEMORY', 'too large'))
    const served = client({ models: { one: one.load, two: load } })
    await ask(served, 'one')
    expect((await ask(served, 'two')).status).toBe(200)
    const alone = client({
      models: { two: () => Promise.reject(new NodeMlxError('INSUFFICIENT_MEMORY', 'too large')) },
    })
    expect((await ask(alone, 'two')).status).toBe(503)
  })

  it('that a model can never have is told', async () => {
    const served = client({ models: ['demo'], memoryBytes: 1000 })
    const response = await ask(served, 'demo')
    expect(response.status).toBe(503)
    expect(((await response.json()) as Json).error.message).toMatch(/takes \d+ bytes/)
  })
})
