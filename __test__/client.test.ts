// Models behind a port: in this process, in worker threads and in child processes, which may end at
// any time.

import { fork, type ChildProcess } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { MessageChannel, Worker, type MessagePort, type ResourceLimits } from 'node:worker_threads'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { connect, serve, type Client, type Port, type ServeOptions } from '../js/client/index.js'
import { NodeMlxError } from '../js/errors.js'
import { fakeModel, type FakeAnswers } from '../js/testing/index.js'
import type { LoadModelOptions, Model } from '../js/types.js'
import { ROOT, runModule, runProgram } from './support/child.js'
import { demoAnswer, describeModel } from './support/model-suite.js'

const HOST = join(ROOT, 'dist', 'client', 'main.js')

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
})

/** A client whose host is in this process and gives fake models. */
function local(answers: FakeAnswers, options?: ServeOptions) {
  const { port1, port2 } = new MessageChannel()
  const host = serve(port1, { load: () => Promise.resolve(fakeModel({ answers })), ...options })
  const client = connect(port2)
  ends.push(() => {
    client.close()
    port1.close()
  })
  return { host, client, hostPort: port1 }
}

function forkHost(): ChildProcess {
  const child = fork(HOST, { serialization: 'advanced', stdio: 'inherit', execArgv: [] })
  ends.push(() => child.kill())
  return child
}

/** A thread that runs this, and no host. */
function broken(program: string, resourceLimits: ResourceLimits = {}): Worker {
  return new Worker(program, { eval: true, resourceLimits })
}

const lasting: Client[] = []
const lastingClient = (port: () => Port): Client => {
  const client = connect(port)
  lasting.push(client)
  return client
}

const throughChannel = lastingClient(() => {
  const { port1, port2 } = new MessageChannel()
  serve(port1, { load: () => Promise.resolve(fakeModel({ answers: demoAnswer })) })
  return port2
})
describeModel('a fake model behind a message channel', () => throughChannel.loadModel('fake'))

const throughProcess = lastingClient(() =>
  fork(HOST, { serialization: 'advanced', stdio: 'inherit', execArgv: [] }),
)
describeModel('the demo model of a child process', () =>
  throughProcess.loadModel('demo', { device: 'cpu' }),
)

describe('a client', () => {
  it('closes what it has loaded', async () => {
    for (const client of lasting) client.close()
    await expect(throughChannel.loadModel('fake')).rejects.toMatchObject({ code: 'HOST_GONE' })
  })

  it('works with a worker thread', async () => {
    const worker = new Worker(HOST)
    const client = connect(worker)
    const model = await client.loadModel('demo', { device: 'cpu' })
    const { text } = await model.generate('What is the capital of France?', {
      temperature: 0,
      maxTokens: 20,
    })
    expect(text).toMatch(/Paris/)
    const lost = model.generate('Tell me a story.').result
    await worker.terminate()
    await expect(lost).rejects.toMatchObject({ code: 'HOST_GONE' })
  })

  it('works with ports of Electron and of pages, whose messages come in events', async () => {
    const { port1, port2 } = new MessageChannel()
    /** As MessagePortMain: an emitter of events, started by hand. */
    const wrap = (port: MessagePort): Port => {
      const emitter = new EventEmitter()
      port.on('message', (data) => emitter.emit('message', { data: data as unknown, ports: [] }))
      return Object.assign(emitter, {
        postMessage: (message: unknown) => {
          port.postMessage(message)
        },
        start: () => undefined,
      })
    }
    serve(wrap(port1), { load: () => Promise.resolve(fakeModel({ answers: 'Hi!' })) })
    const model = await connect(wrap(port2)).loadModel('x')
    expect((await model.generate('Hello')).text).toBe('Hi!')
    port1.close()

    const page = new globalThis.MessageChannel()
    serve(page.port1, { load: () => Promise.resolve(fakeModel({ answers: 'Hi!' })) })
    const other = await connect(page.port2).loadModel('x')
    expect((await other.generate('Hello')).text).toBe('Hi!')
    page.port1.close()
  })

  it('leaves messages of others on the same port alone', async () => {
    const { client, hostPort } = local('Hi!')
    hostPort.postMessage('something else')
    hostPort.postMessage(null)
    hostPort.postMessage({ data: 5 })
    const model = await client.loadModel('x')
    expect((await model.generate('Hello')).text).toBe('Hi!')
  })

  it.each([undefined, null, 5, {}, { postMessage: () => undefined }])(
    'is refused what is no port: %o',
    (port) => {
      expect(() => connect(port as never)).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT', option: 'port' }),
      )
    },
  )

  it('says what a child process was forked without', async () => {
    const child = fork(HOST, { execArgv: [] })
    ends.push(() => child.kill())
    await expect(connect(child).loadModel('demo')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining("serialization: 'advanced'") as string,
    })
  })
})

describe('loading', () => {
  it('hands options on, and reports progress', async () => {
    const asked: [string, LoadModelOptions][] = []
    const { client } = local('Hi!', {
      load: (name, options) => {
        asked.push([name, options])
        options.onProgress?.({ stage: 'weights', loadedBytes: 1, totalBytes: 2 })
        return Promise.resolve(fakeModel({ answers: 'Hi!' }))
      },
    })
    const onProgress = vi.fn()
    await client.loadModel('owner/name', { device: 'cpu', onProgress })
    expect(asked[0]).toMatchObject(['owner/name', { device: 'cpu' }])
    expect(onProgress.mock.calls).toEqual([[{ stage: 'weights', loadedBytes: 1, totalBytes: 2 }]])
  })

  it('is aborted by a signal, and by a callback that throws', async () => {
    const aborted: boolean[] = []
    const { client } = local('Hi!', {
      load: async (_, { signal, onProgress }) => {
        onProgress?.({ stage: 'weights', loadedBytes: 1, totalBytes: 2 })
        while (signal?.aborted !== true) await sleep(1)
        aborted.push(true)
        throw new NodeMlxError('ABORTED', 'Loading the model was aborted')
      },
    })
    const controller = new AbortController()
    setTimeout(() => {
      controller.abort('enough')
    }, 20)
    await expect(client.loadModel('x', { signal: controller.signal })).rejects.toMatchObject({
      code: 'ABORTED',
      cause: 'enough',
    })
    const mine = new Error('mine')
    const onProgress = () => {
      throw mine
    }
    await expect(client.loadModel('x', { onProgress })).rejects.toBe(mine)
    expect(aborted).toEqual([true, true])
  })

  it('fails with the code and all else of an error', async () => {
    const { client } = local('Hi!', {
      load: () =>
        Promise.reject(
          new NodeMlxError('INVALID_WEIGHTS', 'broken', {
            path: '/a',
            cause: new TypeError('odd'),
          }),
        ),
    })
    const error: unknown = await client.loadModel('x').catch((error: unknown) => error)
    expect(error).toBeInstanceOf(NodeMlxError)
    expect(error).toMatchObject({
      code: 'INVALID_WEIGHTS',
      message: 'broken',
      path: '/a',
      cause: { name: 'TypeError', message: 'odd' },
    })
    await expect(client.loadModel('')).rejects.toMatchObject({ option: 'model' })
    await expect(client.loadModel('x', { devise: 1 } as object)).rejects.toMatchObject({
      option: 'devise',
    })
    await expect(client.loadModel('x', { fetch })).rejects.toMatchObject({ option: 'fetch' })
  })

  it('can be limited by the host', async () => {
    const { client } = local('Hi!', {
      load: (name) =>
        name === 'allowed'
          ? Promise.resolve(fakeModel({ answers: 'Hi!' }))
          : Promise.reject(new NodeMlxError('MODEL_NOT_FOUND', `${name} is not offered`)),
    })
    await client.loadModel('allowed')
    await expect(client.loadModel('other')).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' })
  })
})

describe('a model of several clients', () => {
  const ask = async (model: Model) => (await model.generate('Hi')).text
  const client = (load: () => Promise<Model>): Client => {
    const { port1, port2 } = new MessageChannel()
    const host = serve(port1, { load })
    ends.push(() => host.close())
    return connect(port2)
  }

  it('that the host had before stays', async () => {
    const own = fakeModel({ answers: 'Hi!' })
    const load = () => Promise.resolve(own as Model)
    const [one, other] = [client(load), client(load)]
    const [first, second] = [await one.loadModel('x'), await other.loadModel('x')]
    await first.dispose()
    await expect(first.tokenize('a')).rejects.toMatchObject({ code: 'DISPOSED' })
    expect(await ask(second)).toBe('Hi!')
    other.close()
    expect(await ask(own)).toBe('Hi!')
    expect(await ask(await one.loadModel('x'))).toBe('Hi!')
  })

  it('that was loaded for them goes with the last one', async () => {
    let model: Promise<Model> | undefined
    const load = () => (model ??= Promise.resolve(fakeModel({ answers: 'Hi!' })))
    const [one, other] = [client(load), client(load)]
    const [first, second] = [await one.loadModel('x'), await other.loadModel('x')]
    one.close()
    expect(await ask(second)).toBe('Hi!')
    expect(await ask(await load())).toBe('Hi!')
    await expect(first.tokenize('a')).rejects.toMatchObject({ code: 'HOST_GONE' })
    await second.dispose()
    expect((await model)?.disposed).toBe(true)
    await expect(other.loadModel('x')).rejects.toMatchObject({
      code: 'DISPOSED',
      message: expect.stringMatching(/^load: .* load it anew/) as string,
    })
  })

  it('ends only what the one did who gives it back', async () => {
    const own = fakeModel({ answers: { text: 'a b c', tokenMs: 20 } })
    const load = () => Promise.resolve(own as Model)
    const [one, other] = [client(load), client(load)]
    const [first, second] = [await one.loadModel('x'), await other.loadModel('x')]
    const cache = first.createPromptCache()
    const lost = first.generate('Hi').result
    const kept = second.generate('Hi').result
    const refused = expect(lost).rejects.toMatchObject({ code: 'DISPOSED' })
    await first.dispose()
    await refused
    await expect(cache.size()).rejects.toMatchObject({ code: 'DISPOSED' })
    expect((await kept).text).toBe('a b c')
  })
})

describe('a host that is silent', () => {
  const silent = () => {
    const { port1, port2 } = new MessageChannel()
    ends.push(() => {
      port1.close()
    })
    return port2
  }

  it('can be given up', async () => {
    const controller = new AbortController()
    for (const port of [silent(), () => new Promise<Port>(() => undefined)]) {
      const loading = connect(port).loadModel('x', { signal: controller.signal })
      const refused = expect(loading).rejects.toMatchObject({ code: 'ABORTED', cause: 'enough' })
      setTimeout(() => {
        controller.abort('enough')
      }, 20)
      await refused
    }
  })

  it('is given up after a while', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const loading = connect(silent()).loadModel('x')
      const refused = expect(loading).rejects.toMatchObject({
        code: 'HOST_GONE',
        message: expect.stringContaining('call serve()') as string,
      })
      while (vi.getTimerCount() === 0) await new Promise((resolve) => setImmediate(resolve))
      await vi.advanceTimersByTimeAsync(30_000)
      await refused
    } finally {
      vi.useRealTimers()
    }
  })
})

describe('paths', () => {
  it('are those of the client', async () => {
    const child = fork(HOST, { serialization: 'advanced', execArgv: [], cwd: tmpdir() })
    ends.push(() => child.kill())
    const client = connect(child)
    for (const name of ['./models/demo', 'models/demo']) {
      const model = await client.loadModel(name, { device: 'cpu' })
      expect(model.info.path).toBe(join(ROOT, 'models', 'demo'))
      await model.dispose()
    }
    await expect(client.loadModel('./nowhere')).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
      message: expect.stringContaining(join(ROOT, 'nowhere')) as string,
    })
  })

  it('of options are, too, and names stay names for who loads by rules of his own', async () => {
    const asked: [string, LoadModelOptions][] = []
    const draft = fakeModel({ answers: 'Hi!', info: { path: join(ROOT, 'models', 'demo') } })
    const { client } = local('Hi!', {
      load: (...args) => {
        asked.push(args)
        return Promise.resolve(fakeModel({ answers: 'Hi!' }))
      },
    })
    const prefixCache = { diskBytes: 1e6, directory: 'prefixes' }
    await client.loadModel('models', { draftModel: draft, cacheDir: './hub', prefixCache })
    await client.loadModel('./models', { draftModel: 'owner/name' })
    await client.loadModel('demo', { draftModel: './models/demo' })
    const demo = join(ROOT, 'models', 'demo')
    expect(asked).toMatchObject([
      [
        'models',
        {
          draftModel: demo,
          cacheDir: join(ROOT, 'hub'),
          prefixCache: { diskBytes: 1e6, directory: join(ROOT, 'prefixes') },
        },
      ],
      [join(ROOT, 'models'), { draftModel: 'owner/name' }],
      ['demo', { draftModel: demo }],
    ])
  })
})

describe('an adapter', () => {
  it('is loaded by the host, by name or with the model', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'nodemlx-adapter-'))
    ends.push(() => {
      rmSync(folder, { recursive: true })
    })
    writeFileSync(join(folder, 'adapter_config.json'), '{"r":2}')
    const fake = fakeModel({ answers: 'Hi!' })
    const { client } = local('', { load: () => Promise.resolve(fake) })
    const last = () => fake.requests.at(-1)?.options
    const model = await client.loadModel('x')
    const adapter = await model.loadAdapter(folder)
    expect(adapter.info).toMatchObject({ kind: 'lora', rank: 2, path: folder })
    await model.generate('Hi', { adapter })
    expect(last()).toEqual({ adapter: 1 })
    adapter.dispose()
    expect(() => model.generate('Hi', { adapter })).toThrow(
      expect.objectContaining({ code: 'DISPOSED' }),
    )
    const adapted = await client.loadModel('x', { adapter: folder })
    await adapted.generate('Hi')
    expect(last()).toEqual({ adapter: 2 })
    await adapted.generate('Hi', { adapter: null })
    expect(last()).toEqual({})
  })
})

describe('streams', () => {
  it('ask the host for no more than is read', async () => {
    const { client, hostPort } = local('one two three four')
    let asked = 0
    hostPort.on('message', (message: { call?: { method?: string } }) => {
      if (message.call?.method === 'next') asked++
    })
    const model = await client.loadModel('x')
    const reader = model.generate('Hi').textStream.getReader()
    await sleep(20)
    expect(asked).toBe(0)
    await reader.read()
    await sleep(20)
    // How the prompt was read, and the first word.
    expect(asked).toBe(2)
    await reader.cancel()
  })
})

describe('a host that ends', () => {
  it('fails what is pending, and what is asked of its models later', async () => {
    const { client, hostPort } = local({ parts: [{ text: 'a' }, { waitMs: 60_000 }] })
    const model = await client.loadModel('x')
    const promptCache = model.createPromptCache()
    const generation = model.generate('Hi')
    const seen: string[] = []
    const reading = (async () => {
      for await (const text of generation.textStream) {
        seen.push(text)
        hostPort.close()
      }
    })()
    const gone = { name: 'NodeMlxError', code: 'HOST_GONE' }
    await expect(reading).rejects.toMatchObject(gone)
    expect(seen).toEqual(['a'])
    await expect(generation.result).rejects.toMatchObject(gone)
    expect(() => model.generate('Hi')).toThrow(expect.objectContaining(gone))
    await expect(model.tokenize('a')).rejects.toMatchObject(gone)
    await expect(promptCache.size()).rejects.toMatchObject(gone)
    await expect(client.loadModel('x')).rejects.toMatchObject(gone)
    await model.dispose()
  })

  it('is started again for the next model, where the client can', async () => {
    const hosts: ChildProcess[] = []
    const client = connect(() => {
      const child = forkHost()
      hosts.push(child)
      return child
    })
    const ask = async (model: Model) =>
      (await model.generate('What is 2 + 2?', { temperature: 0, maxTokens: 20 })).text
    const [first, same] = await Promise.all([client.loadModel('demo'), client.loadModel('demo')])
    expect(hosts).toHaveLength(1)
    expect(await ask(first)).toBe(await ask(same))
    const pending = first.generate('Tell me a story.', { maxTokens: 2000 }).result
    hosts[0]?.kill('SIGKILL')
    await expect(pending).rejects.toMatchObject({ code: 'HOST_GONE' })
    const second = await client.loadModel('demo')
    expect(await ask(second)).toMatch(/4/)
    expect(hosts).toHaveLength(2)
    await expect(first.tokenize('a')).rejects.toMatchObject({ code: 'HOST_GONE' })
    client.close()
  })

  it.each<[string, () => Port, RegExp]>([
    ['a thread that throws', () => broken(`throw new Error('no luck')`), /no luck/],
    [
      'a thread that has no memory left',
      () =>
        broken('const all = []; for (;;) all.push(new Array(1e5).fill({}))', {
          maxOldGenerationSizeMb: 8,
        }),
      /memory/,
    ],
    ['a thread without its file', () => new Worker(join(ROOT, 'no-such-file.js')), /Cannot find/],
    [
      'a program that is not there',
      () => fork(HOST, { execPath: '/no/such/node', serialization: 'advanced' }),
      /ENOENT/,
    ],
    [
      'a utility process',
      () => {
        const host = new EventEmitter()
        setImmediate(() => {
          host.emit('error', 'FatalError', 'v8', '{}')
          host.emit('exit', 1)
        })
        return Object.assign(host, { postMessage: () => undefined })
      },
      /FatalError/,
    ],
  ])(
    'by an error is gone, and leaves the process alone: %s',
    async (_, start, message) => {
      const client = connect(start)
      await expect(client.loadModel('x')).rejects.toMatchObject({
        code: 'HOST_GONE',
        message: expect.stringMatching(message) as string,
      })
      client.close()
    },
    20_000,
  )

  it('that fails when it is told to end disturbs nobody', async () => {
    const program = `
      const { Worker } = require('node:worker_threads')
      const { connect } = require('nodemlx/client')
      const host = \`
        const { parentPort } = require('node:worker_threads')
        require('nodemlx/client').serve(parentPort)
        parentPort.on('message', ({ order }) => {
          if (order?.order === 'bye') throw new Error('too late')
        })\`
      const worker = new Worker(host, { eval: true })
      worker.on('exit', (code) => console.log('ended with', code))
      const client = connect(() => worker)
      client.loadModel('/no/model').catch(({ code }) => {
        console.log(code)
        client.close()
        worker.ref()
      })`
    expect(await runProgram(process.execPath, ['--eval', program])).toMatchObject({
      code: 0,
      stdout: 'MODEL_NOT_FOUND\nended with 1\n',
    })
  })

  it('that cannot be started is tried again', async () => {
    let tries = 0
    const client = connect(() => {
      tries++
      if (tries === 1) throw new Error('no host')
      const { port1, port2 } = new MessageChannel()
      serve(port1, { load: () => Promise.resolve(fakeModel({ answers: 'Hi!' })) })
      ends.push(() => {
        port1.close()
      })
      return port2
    })
    await expect(client.loadModel('x')).rejects.toThrow('no host')
    expect((await (await client.loadModel('x')).generate('Hi')).text).toBe('Hi!')
  })
})

/** Two connected ports, of which a host serves one, and what it gave. */
function hosted(answers: FakeAnswers) {
  const { port1, port2 } = new MessageChannel()
  const given: Model[] = []
  const load = () => {
    const model = fakeModel({ answers })
    given.push(model)
    return Promise.resolve(model)
  }
  const host = serve(port1, { load })
  ends.push(() => {
    port1.close()
  })
  return { host, port: port2, given }
}

describe('a client that ends', () => {
  it.each(['a port', 'a function'])('ends what runs in the host for it, with %s', async (kind) => {
    const { host, port, given } = hosted({ text: 'a b c', tokenMs: 100_000 })
    const client = connect(kind === 'a port' ? port : () => port)
    const model = await client.loadModel('x')
    const pending = model.generate('Hi').result
    client.close()
    await expect(pending).rejects.toMatchObject({ code: 'HOST_GONE' })
    await host.closed
    expect(given.map(({ disposed }) => disposed)).toEqual([true])
    client.close()
  })

  it('ends a load that is under way', async () => {
    const { port1, port2 } = new MessageChannel()
    ends.push(() => {
      port1.close()
    })
    let signal: AbortSignal | undefined
    const host = serve(port1, {
      load: (_, options) => {
        signal = options.signal
        return new Promise(() => undefined)
      },
    })
    const client = connect(port2)
    const loading = client.loadModel('x')
    await vi.waitFor(() => {
      expect(signal).toBeDefined()
    }, 20_000)
    client.close()
    await expect(loading).rejects.toMatchObject({ code: 'HOST_GONE' })
    await host.closed
    expect(signal?.aborted).toBe(true)
  })

  it.each(['a port', 'a function'])('ends a host by itself: a child of %s', async (kind) => {
    const child = forkHost()
    const client = connect(kind === 'a port' ? child : () => child)
    await client.loadModel('demo', { device: 'cpu' })
    const exited = new Promise((resolve) => child.once('exit', resolve))
    client.close()
    expect(await exited).toBe(0)
  })

  it('ends a host by itself: a thread', async () => {
    const worker = new Worker(HOST)
    const client = connect(() => worker)
    await client.loadModel('demo', { device: 'cpu' })
    const exited = new Promise((resolve) => worker.once('exit', resolve))
    client.close()
    expect(await exited).toBe(0)
  })

  it("ends a host by itself: Electron's utility process", async () => {
    const stub = join(ROOT, '__test__', 'support', 'electron-stub.cjs')
    const { utilityProcess } = createRequire(stub)(stub) as {
      utilityProcess: { fork: (file: string) => EventEmitter & Port }
    }
    const host = utilityProcess.fork(HOST)
    const client = connect(() => host)
    await client.loadModel('demo', { device: 'cpu' })
    const exited = new Promise((resolve) => host.once('exit', resolve))
    client.close()
    expect(await exited).toBe(0)
  })

  it('while its host starts has none', async () => {
    const { host, port } = hosted('Hi!')
    let start: ((port: Port) => void) | undefined
    const client = connect(
      () =>
        new Promise<Port>((resolve) => {
          start = resolve
        }),
    )
    const refused = expect(client.loadModel('x')).rejects.toMatchObject({ code: 'HOST_GONE' })
    await vi.waitFor(() => {
      expect(start).toBeDefined()
    }, 20_000)
    client.close()
    start?.(port)
    await host.closed
    await refused
  })

  it('leaves nothing behind in the host', async () => {
    const models: { dispose: ReturnType<typeof vi.spyOn> }[] = []
    const { client, host } = local('Hi!', {
      load: () => {
        const model = fakeModel({ answers: { text: 'a b c', tokenMs: 1000 } })
        models.push({ dispose: vi.spyOn(model, 'dispose') })
        return Promise.resolve(model)
      },
    })
    const model = await client.loadModel('x')
    const pending = model.generate('Hi').result
    client.close()
    await expect(pending).rejects.toMatchObject({ code: 'HOST_GONE' })
    await host.close()
    expect(models[0]?.dispose).toHaveBeenCalledTimes(1)
  })

  it('is a process that ends by itself, and its child process with it', async () => {
    const { code, stdout, stderr } = await runModule(`
      import { fork } from 'node:child_process'
      import { connect } from 'nodemlx/client'
      const host = fork(${JSON.stringify(HOST)}, { serialization: 'advanced' })
      const model = await connect(host).loadModel('demo', { device: 'cpu' })
      const { text } = await model.generate('What is 2 + 2?', { temperature: 0, maxTokens: 20 })
      console.log(host.pid, text)
    `)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const pid = Number(stdout.split(' ')[0])
    await vi.waitFor(() => {
      expect(() => process.kill(pid, 0)).toThrow(/ESRCH/)
    }, 20_000)
  })
})

describe('a host by itself', () => {
  it('needs someone who started it', async () => {
    const { stdout } = await runModule(`
      import { serve } from 'nodemlx/client'
      try { serve() } catch ({ code, option }) { console.log(code, option) }
    `)
    expect(stdout).toBe('INVALID_ARGUMENT port\n')
  })
})
