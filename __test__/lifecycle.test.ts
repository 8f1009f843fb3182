// What happens at the edges of a program's life: each in a process of its own, which must end by
// itself, in time, with the right exit code.

import { describe, expect, it } from 'vitest'
import { runModule, type ChildOptions, type Outcome } from './support/child.js'

/** An answer without an end, and helpers. */
const PRELUDE = `
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { generate, loadModel } from 'nodemlx'

const endless = (model, more = {}) =>
  model.generate('Tell me a story.', {
    temperature: 1,
    seed: 1,
    logitBias: Object.fromEntries(model.info.eosTokens.map((token) => [token, -100])),
    ...more,
  })

/** Waits until this process has nothing to do; whether that came in time. */
async function idle(patienceMs = 60_000) {
  for (const end = performance.now() + patienceMs; performance.now() < end; ) {
    const before = process.cpuUsage()
    await sleep(500)
    const { user, system } = process.cpuUsage(before)
    if (user + system < 10_000) return true
  }
  return false
}

const { getNative } = createRequire(import.meta.url)('./dist/native.js')
const say = (value) => console.log(JSON.stringify(value))
`

const run = (source: string, options?: ChildOptions & { flags?: string[] }): Promise<Outcome> =>
  runModule(PRELUDE + source, options)

/** What a program said with \`say\`, where it ended well. */
async function said(source: string, options?: Parameters<typeof run>[1]): Promise<unknown[]> {
  const { code, signal, stdout, stderr } = await run(source, options)
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' })
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as unknown)
}

describe('an abort', () => {
  it('takes effect at once', async () => {
    const [afterwards] = (await said(`
      const model = await getNative().loadModel({ path: 'models/demo', device: 'auto', dtype: 'auto' }).promise()
      const afterwards = []
      for (let time = 0; time < 10; time++) {
        const generation = model.generate({ prompt: { text: 'Once' }, seed: 1, ignoreEos: true })
        let count = 0
        while (count < 5) count += (await generation.next()).tokens.length
        generation.abort()
        count = 0
        for (let done; !done; ) {
          const batch = await generation.next()
          count += batch.tokens.length
          done = batch.done
        }
        afterwards.push(count)
      }
      say(afterwards)
    `)) as [number[]]
    // The token that was being made, and the one that is queued ahead of it: more where something
    // else had the processor before the abort. Without an abort there are thousands.
    expect(Math.min(...afterwards)).toBeLessThan(30)
  })

  it('leaves the model free for the next answer', async () => {
    const results = await said(`
      const model = await loadModel('demo')
      const story = endless(model)
      for await (const { text } of story) if (text.length > 0) break
      say((await story).finishReason)
      say((await model.generate('What is the capital of France?', { temperature: 0 })).text)
    `)
    expect(results).toEqual(['abort', expect.stringContaining('Paris')])
  })

  it('of a signal ends the loading of a model', async () => {
    const [code] = await said(`
      const controller = new AbortController()
      const loading = loadModel('demo', { signal: controller.signal })
      controller.abort(new Error('enough'))
      say(await loading.catch(({ code, cause }) => [code, cause.message]))
    `)
    expect(code).toEqual(['ABORTED', 'enough'])
  })
})

describe('the work stops', () => {
  it('where a reader stops pulling, some tokens later', async () => {
    const [stopped, ahead] = await said(
      `
      const model = await loadModel('demo')
      const iterator = endless(model)[Symbol.asyncIterator]()
      await iterator.next()
      say(await idle(100_000))
      say((await iterator.next()).value.tokens.length)
    `,
      { timeoutMs: 150_000 },
    )
    expect(stopped).toBe(true)
    expect(ahead).toBeGreaterThan(50)
    expect(ahead).toBeLessThanOrEqual(257)
  }, 160_000)

  // One that is only not read stops, too, but keeps its memory.
  it.each([
    [
      'where a loop is left',
      `
      const left = []
      for (let time = 0; time < 10; time++) {
        const generation = endless(model)
        left.push(generation)
        for await (const { tokens } of generation) if (tokens.length > 0) break
      }
      say(await idle() && await givenBack())
      // Nobody has collected them meanwhile.
      say(left.length)
    `,
    ],
    [
      'where a generation is forgotten',
      `
      const forget = async () => { await endless(model)[Symbol.asyncIterator]().next() }
      for (let time = 0; time < 10; time++) await forget()
      say(await idle() && await givenBack())
    `,
    ],
  ])(
    '%s, and its memory is given back',
    async (_, source) => {
      const [isGivenBack] = await said(
        `
      const model = await loadModel('demo', { prefixCache: false })
      await model.generate('Hi', { maxTokens: 2 })
      const { activeBytes: before } = getNative().memoryStats()
      /** Whether the memory of ten texts, of a megabyte each, comes back. */
      const givenBack = async () => {
        for (const end = performance.now() + 60_000; performance.now() < end; await sleep(50)) {
          gc()
          if (getNative().memoryStats().activeBytes < before + 5e6) return true
        }
        return false
      }
      ${source}
    `,
        { flags: ['--expose-gc'], timeoutMs: 150_000 },
      )
      expect(isGivenBack).toBe(true)
    },
    160_000,
  )
})

describe('dispose', () => {
  it('ends what is running with an error that says so', async () => {
    const codes = await said(`
      const model = await loadModel('demo')
      const read = async () => { for await (const { text } of endless(model)); }
      const all = Promise.allSettled([read(), endless(model).then(), model.logits([1, 2, 3]).then(() => 'done')])
      await sleep(300)
      await model.dispose()
      for (const { reason, value } of await all) say(reason?.code ?? value)
    `)
    expect(codes.slice(0, 2)).toEqual(['DISPOSED', 'DISPOSED'])
    expect(['DISPOSED', 'done']).toContain(codes[2])
  })

  it('gives memory and threads back, 200 times', async () => {
    const [report] = await said(
      `
      import { readdirSync } from 'node:fs'
      const round = async () => {
        const model = await loadModel('demo')
        await model.generate({ tokens: [5, 6, 7] }, { maxTokens: 2 })
        await model.dispose()
      }
      const level = () => {
        gc()
        const { activeBytes } = getNative().memoryStats()
        const threads = process.platform === 'linux' ? readdirSync('/proc/self/task').length : 0
        return { rss: process.memoryUsage.rss(), activeBytes, threads }
      }
      for (let n = 0; n < 20; n++) await round()
      const before = level()
      for (let n = 0; n < 180; n++) await round()
      say({ before, after: level() })
    `,
      { flags: ['--expose-gc'], timeoutMs: 280_000 },
    )
    const { before, after } = report as Record<
      'before' | 'after',
      { rss: number; activeBytes: number; threads: number }
    >
    // Threads are kept: as many as were ever busy at once, which is a matter of luck. One that was
    // lost with each model would be 180.
    expect(after.threads - before.threads).toBeLessThan(18)
    // Memory of outputs is kept for the next ones: how much depends on how far the graph was ahead.
    // A leaked tokenizer would be 180 × 1 MB, leaked weights 180 × 7 MB.
    expect(after.activeBytes - before.activeBytes).toBeLessThan(2e6)
    expect(after.rss - before.rss).toBeLessThan(90e6)
  }, 300_000)
})

describe('a process ends', () => {
  it('by itself while a model is idle', async () => {
    expect(await said(`await loadModel('demo'); say('loaded')`)).toEqual(['loaded'])
  })

  it('by itself while a generation runs that nobody awaits', async () => {
    expect(await said(`endless(await loadModel('demo')); say('started')`)).toEqual(['started'])
  })

  it('only after what is awaited', async () => {
    const [text] = await said(`
      loadModel('demo').then((model) => model.generate('What is the capital of France?', { temperature: 0 })).then(({ text }) => say(text))
    `)
    expect(text).toContain('Paris')
  })

  it.each([
    ['loading', `loadModel('demo').catch(() => {}); process.exit(7)`],
    ['loading its weights', `await loadModel('demo', { onProgress: () => process.exit(7) })`],
    [
      'generating',
      `for await (const { text } of endless(await loadModel('demo'))) if (text) process.exit(7)`,
    ],
    [
      'two models generate',
      `
      for (const model of await Promise.all([loadModel('demo'), loadModel('demo')])) endless(model).then()
      await sleep(200)
      process.exit(7)
    `,
    ],
  ])('with process.exit while %s', async (_, source) => {
    expect(await run(source)).toMatchObject({ code: 7, signal: null, stderr: '' })
  })

  it('with the error of an exception while generating', async () => {
    const { code, signal, stderr } = await run(`
      const model = await loadModel('demo')
      endless(model).then()
      setTimeout(() => { throw new Error('of the user') }, 200)
    `)
    expect({ code, signal }).toEqual({ code: 1, signal: null })
    expect(stderr).toContain('Error: of the user')
  })

  it('with the error of an exception in a loop, which ends the generation', async () => {
    const results = await said(`
      const model = await loadModel('demo')
      const story = endless(model)
      try {
        for await (const { text } of story) if (text) throw new Error('of the user')
      } catch ({ message }) {
        say(message)
      }
      say((await story).finishReason)
    `)
    expect(results).toEqual(['of the user', 'abort'])
  })

  it.each(['SIGTERM', 'SIGINT'] as const)('with %s while generating', async (signal) => {
    const outcome = await run(
      `for await (const { text } of endless(await loadModel('demo'))) say(text)`,
      {
        onOutput: (_, kill) => {
          kill(signal)
        },
      },
    )
    expect(outcome).toMatchObject({ code: null, signal, stderr: '' })
  })

  it('without a word of a generation that failed and that nobody awaits', async () => {
    expect(
      await said(`
      const model = await loadModel('demo')
      model.generate({ tokens: new Uint32Array(100_000) })
      generate('/no/such/folder', 'Hi')
      await sleep(300)
      say('fine')
    `),
    ).toEqual(['fine'])
  })
})

describe('a worker', () => {
  /** Keeps it from ending by itself. */
  const STAY = 'setInterval(() => {}, 1000)'
  const worker = (source: string) =>
    JSON.stringify(`
    import { loadModel } from 'nodemlx'
    import { parentPort } from 'node:worker_threads'
    ${source}
  `)

  it('answers', async () => {
    const [text] = await said(`
      const worker = new Worker(${worker(`
        loadModel('demo').then(async (model) => {
          parentPort.postMessage((await model.generate('What is the capital of France?', { temperature: 0 })).text)
        })
      `)}, { eval: true })
      worker.on('message', say)
    `)
    expect(text).toContain('Paris')
  })

  it.each([
    ['loads', `loadModel('demo').then(() => {}); parentPort.postMessage('now')`],
    [
      'generates',
      `
      loadModel('demo').then(async (model) => {
        const logitBias = Object.fromEntries(model.info.eosTokens.map((token) => [token, -100]))
        for await (const { text } of model.generate('Tell me a story.', { logitBias })) parentPort.postMessage(text)
      })
    `,
    ],
  ])('can be terminated while it %s, and the others go on', async (_, source) => {
    const results = await said(`
      const model = await loadModel('demo')
      for (let n = 0; n < 3; n++) {
        const worker = new Worker(${worker(`${source}; ${STAY}`)}, { eval: true })
        await new Promise((resolve) => worker.once('message', resolve))
        say(await worker.terminate())
      }
      say((await model.generate('What is the capital of France?', { temperature: 0 })).text)
    `)
    expect(results).toEqual([1, 1, 1, expect.stringContaining('Paris')])
  })

  it('can exit while it generates', async () => {
    expect(
      await said(`
      const worker = new Worker(${worker(`
        loadModel('demo').then(async (model) => {
          for await (const { text } of model.generate('Tell me a story.')) process.exit(3)
        })
      `)}, { eval: true })
      worker.on('exit', say)
    `),
    ).toEqual([3])
  })
})
