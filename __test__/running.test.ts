// Several things at a time, and in any order: each in a process of its own, which must end with the
// right exit code and without a word.

import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runModule, type ChildOptions } from './support/child.js'

const PRELUDE = `
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { loadModel } from 'nodemlx'

const say = (value) => console.log(JSON.stringify(value))
const endless = (model, more = {}) =>
  model.generate('Tell me a story.', {
    temperature: 1,
    seed: 1,
    logitBias: Object.fromEntries(model.info.eosTokens.map((token) => [token, -100])),
    ...more,
  })
/** A prompt of 2 MB, for which the tokenizer takes long. */
const big = 'many words '.repeat(190_000)
`

const run = (source: string, options?: ChildOptions) => runModule(PRELUDE + source, options)

async function said(source: string, options?: ChildOptions): Promise<unknown[]> {
  const { code, signal, stdout, stderr } = await run(source, options)
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' })
  const lines = stdout.split('\n').filter((line) => line !== '')
  return lines.map((line) => JSON.parse(line) as unknown)
}

describe('a prompt of 2 MB', () => {
  it('stops no other answer while it is tokenized', async () => {
    const [meanwhile] = (await said(`
      const model = await loadModel('demo')
      let tokenized = false, meanwhile = 0
      for await (const { tokens } of endless(model)) {
        if (meanwhile === 0) model.tokenize(big).then(() => (tokenized = true))
        meanwhile += tokens.length
        if (tokenized) break
      }
      say(meanwhile)
    `)) as [number]
    expect(meanwhile).toBeGreaterThan(20)
  })

  it('is refused where the context is shorter', async () => {
    const [code] = await said(`
      const model = await loadModel('demo')
      say(await model.generate(big).then(() => 'written', (error) => error.code))
    `)
    expect(code).toBe('CONTEXT_OVERFLOW')
  })

  it('is aborted, and its model disposed of, while it is prepared', async () => {
    const [order] = await said(`
      const model = await loadModel('demo')
      const order = []
      const tokenized = model.tokenize(big).then(() => order.push('tokenized'))
      // Its format takes seconds to compile.
      const pattern = (most) => '^(a|b){1,' + most + '}$'
      const property = (_, at) => ['p' + at, { type: 'string', pattern: pattern(50 + (at % 50)) }]
      const properties = Object.fromEntries(Array.from({ length: 5000 }, property))
      const schema = { type: 'object', properties }
      const slow = { responseFormat: { type: 'json', schema } }
      const aborted = model.generate('Hi', slow)
      const ended = model.generate('Hi', slow)
      const ends = [
        aborted.then(({ finishReason }) => order.push(finishReason)),
        ended.catch(({ code }) => order.push(code)),
      ]
      await sleep(20)
      aborted.abort()
      await ends[0]
      await model.dispose()
      order.push('disposed')
      await Promise.all([...ends, tokenized])
      say(order)
    `)
    const [first, ...others] = order as string[]
    expect([first, others.pop()]).toEqual(['abort', 'tokenized'])
    expect(others.sort()).toEqual(['DISPOSED', 'disposed'])
  })

  it('lets short prompts and saves of caches go past', async () => {
    const [order] = await said(`
      import { existsSync, mkdtempSync, rmSync } from 'node:fs'
      import { tmpdir } from 'node:os'
      // A disk that something else writes to may take seconds for a file.
      const fast = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
      const folder = mkdtempSync(fast + '/nodemlx-')
      const model = await loadModel('demo')
      const promptCache = model.createPromptCache()
      const order = []
      const long = [1, 2].map(() => model.tokenize(big).then(() => order.push('long')))
      await model.generate('Hi', { maxTokens: 3, promptCache }).then(() => order.push('short'))
      await promptCache.save(folder + '/cache').then(() => order.push('saved'))
      await Promise.all(long)
      rmSync(folder, { recursive: true })
      say(order)
    `)
    expect(order).toEqual(['short', 'saved', 'long', 'long'])
  })
})

describe('abort, dispose, read, return and await', () => {
  it('end cleanly in every order', async () => {
    const [outcome] = await said(
      `
      const strays = []
      process.on('unhandledRejection', (error) => strays.push(String(error)))
      process.on('uncaughtException', (error) => strays.push(String(error)))
      const orders = (rest) =>
        rest.length === 0 ? [[]] : rest.flatMap((it) => orders(rest.filter((other) => other !== it)).map((order) => [it, ...order]))
      const failures = []
      // An answer without an end.
      const logitBias = { 5: 100 }
      for (const order of orders(['abort', 'dispose', 'read', 'return', 'await'])) {
        const model = await loadModel('demo')
        const generation = model.generate({ tokens: [5, 6, 7] }, { temperature: 0, logitBias })
        const iterator = generation[Symbol.asyncIterator]()
        const stream = generation.textStream
        await iterator.next()
        const all = []
        const actions = {
          abort: () => generation.abort(),
          dispose: () => all.push(model.dispose()),
          read: () => all.push(iterator.next(), stream.getReader().read()),
          return: () => all.push(iterator.return()),
          await: () => all.push(generation.then(({ finishReason }) => finishReason)),
        }
        for (const action of order) actions[action]()
        for (const { status, reason } of await Promise.allSettled(all))
          if (status === 'rejected') failures.push([order.join(), reason.code])
      }
      await sleep(50)
      say({ strays, failures })
    `,
      { timeoutMs: 150_000 },
    )
    expect(outcome).toEqual({ strays: [], failures: [] })
  }, 160_000)

  it('end cleanly with time between them', async () => {
    const outcomes = await said(`
      const model = await loadModel('demo')
      const generation = endless(model)
      const read = async () => {
        let pieces = 0
        for await (const { text } of generation) {
          pieces++
          generation.abort()
          await model.dispose()
        }
        return pieces
      }
      say(await read())
      say((await generation).finishReason)
    `)
    expect(outcomes).toEqual([1, 'abort'])
  })
})

describe('a prompt cache', () => {
  it('is free for the call after an abort', async () => {
    const outcomes = await said(`
      const model = await loadModel('demo')
      const promptCache = model.createPromptCache()
      for (let n = 0; n < 6; n++) {
        const first = endless(model, { promptCache })
        if (n % 2 === 0) await first[Symbol.asyncIterator]().next()
        first.abort()
        const size = promptCache.size()
        const { text } = await model.generate('What is the capital of France?', { temperature: 0, promptCache })
        if (!text.includes('Paris')) say(text)
        await size
      }
      say('fine')
    `)
    expect(outcomes).toEqual(['fine'])
  })

  it('survives a generation that fails, with what it held and its limits', async () => {
    const [before, after, limited] = await said(`
      const model = await loadModel('demo')
      const promptCache = model.createPromptCache({ maxKvSize: 64 })
      await model.generate('Hi', { maxTokens: 5, promptCache })
      say(await promptCache.size())
      const failures = [
        model.generate({ tokens: new Array(5000).fill(5) }, { promptCache }),
        model.generate([{ role: 'user', content: 'Hi' }], { promptCache, chatTemplate: '{{ 1 / 0 }}' }),
      ]
      const outcomes = []
      for (const failure of failures) await failure.then(() => {}, ({ code }) => outcomes.push(code))
      say(await promptCache.size())
      await endless(model, { promptCache, maxTokens: 100 })
      const { bytes } = await promptCache.size()
      say([outcomes.length, bytes])
    `)
    expect(after).toEqual(before)
    expect((limited as number[])[0]).toBe(2)
    // Buffers without a limit have room for 256 positions.
    expect((limited as number[])[1]).toBeLessThan(1.5e6)
  })
})

/** A Llama of random or no weights, and what its `config.json` says besides. */
function writeModel(folder: string, sizes: Sizes, value?: (index: number) => number): void {
  const { hidden, inner, layers, heads, kvHeads, vocabulary } = sizes
  const kvSize = (hidden / heads) * kvHeads
  const shapes: Record<string, number[]> = {
    'model.embed_tokens.weight': [vocabulary, hidden],
    'model.norm.weight': [hidden],
  }
  for (let layer = 0; layer < layers; layer++) {
    const at = `model.layers.${String(layer)}`
    for (const name of ['input_layernorm', 'post_attention_layernorm'])
      shapes[`${at}.${name}.weight`] = [hidden]
    for (const name of ['q', 'o']) shapes[`${at}.self_attn.${name}_proj.weight`] = [hidden, hidden]
    for (const name of ['k', 'v']) shapes[`${at}.self_attn.${name}_proj.weight`] = [kvSize, hidden]
    for (const name of ['gate', 'up']) shapes[`${at}.mlp.${name}_proj.weight`] = [inner, hidden]
    shapes[`${at}.mlp.down_proj.weight`] = [hidden, inner]
  }
  let end = 0
  const entries = Object.entries(shapes).map(([name, shape]) => {
    const start = end
    end += 4 * shape.reduce((a, b) => a * b)
    return [name, { dtype: 'F32', shape, data_offsets: [start, end] }]
  })
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  const path = join(folder, 'model.safetensors')
  const parts = [length, header]
  if (value !== undefined)
    parts.push(Buffer.from(Float32Array.from({ length: end / 4 }, (_, i) => value(i)).buffer))
  writeFileSync(path, Buffer.concat(parts))
  // What is not written is a hole, which takes no space.
  truncateSync(path, 8 + header.length + end)
  writeFileSync(
    join(folder, 'config.json'),
    JSON.stringify({
      model_type: 'llama',
      hidden_size: hidden,
      intermediate_size: inner,
      num_hidden_layers: layers,
      num_attention_heads: heads,
      num_key_value_heads: kvHeads,
      rms_norm_eps: 1e-5,
      vocab_size: vocabulary,
      max_position_embeddings: 100_000,
      tie_word_embeddings: true,
    }),
  )
}

interface Sizes {
  hidden: number
  inner: number
  layers: number
  heads: number
  kvHeads: number
  vocabulary: number
}

describe('the exit code', () => {
  let folder: string

  /** A model of zeros whose chunks of a prompt take about a second each. */
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'nodemlx-zeros-'))
    const sizes = { hidden: 512, inner: 2048, layers: 32, heads: 8, kvHeads: 8, vocabulary: 100 }
    writeModel(folder, sizes)
  })

  afterAll(() => {
    rmSync(folder, { recursive: true })
  })

  /** Reads a prompt for a long time. */
  const busy = () => `
    const model = await loadModel(${JSON.stringify(folder)}, { device: 'cpu', threads: 1 })
    model.generate({ tokens: new Array(50_000).fill(5) }, { temperature: 0 }).then(() => {}, () => {})
    await new Promise((resolve) => setTimeout(resolve, 500))
  `
  const worker = (source: string) =>
    JSON.stringify(
      `import { loadModel } from 'nodemlx'\nimport { parentPort } from 'node:worker_threads'\n${source}`,
    )

  it('is that of the main thread while a worker computes', async () => {
    const outcome = await run(`
      const worker = new Worker(${worker(`${busy()}; parentPort.postMessage('busy')`)}, { eval: true })
      worker.once('message', () => process.exit(3))
    `)
    expect(outcome).toMatchObject({ code: 3, signal: null, stderr: '' })
  })

  it.each([0, 7])('is that of the main thread after that of a worker: %i', async (code) => {
    const outcome = await run(`
      const worker = new Worker(${worker(`await loadModel('demo'); process.exit(5)`)}, { eval: true })
      worker.once('exit', async (code) => {
        say(code)
        ${busy()}
        process.exit(${String(code)})
      })
    `)
    expect(outcome).toMatchObject({ code, signal: null, stdout: '5\n', stderr: '' })
  })

  it('is that of a worker that exits while it computes', async () => {
    const outcome = await run(`
      const worker = new Worker(${worker(`${busy()}; process.exit(5)`)}, { eval: true })
      worker.once('exit', (code) => process.exit(code + 1))
    `)
    expect(outcome).toMatchObject({ code: 6, signal: null, stderr: '' })
  })
})

describe('results', () => {
  it('do not depend on another model with more threads', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'nodemlx-random-'))
    const sizes = { hidden: 32, inner: 48, layers: 2, heads: 4, kvHeads: 1, vocabulary: 100 }
    writeModel(folder, sizes, (i) => Math.sin(i * i) / 2)
    const [equal] = await said(`
      const folder = ${JSON.stringify(folder)}
      const tokens = Array.from({ length: 1500 }, (_, i) => (i * 7) % 90)
      const bits = async (model) => Buffer.from((await model.logits(tokens)).data.buffer)
      const one = await loadModel(folder, { device: 'cpu', threads: 1 })
      const alone = await bits(one)
      const many = await loadModel(folder, { device: 'cpu', threads: 16 })
      const [beside, theirs] = await Promise.all([bits(one), bits(many)])
      say([alone.equals(beside), alone.equals(theirs), new Set(alone).size > 100])
    `)
    rmSync(folder, { recursive: true })
    expect(equal).toEqual([true, true, true])
  })

  it('are refused where they would not fit', async () => {
    const codes = await said(`
      const model = await loadModel('demo')
      for (const length of [4097, 30_000_000])
        await model.logits(new Uint32Array(length).fill(5)).catch(({ code }) => say(code))
    `)
    expect(codes).toEqual(['CONTEXT_OVERFLOW', 'CONTEXT_OVERFLOW'])
  })
})

describe('weights that are no numbers', () => {
  it('end a generation with an error that says so', async () => {
    const [codes, message, finite] = await said(`
      import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
      import { tmpdir } from 'node:os'
      const folder = mkdtempSync(tmpdir() + '/nodemlx-')
      cpSync('models/demo', folder, { recursive: true })
      const path = folder + '/model.safetensors'
      const bytes = readFileSync(path)
      const length = Number(bytes.readBigUInt64LE())
      const header = JSON.parse(bytes.toString('utf8', 8, 8 + length))
      const { dtype, data_offsets: [from, to] } = header['model.norm.weight']
      const nan = { F32: [0, 0, 0xc0, 0x7f], BF16: [0xc0, 0x7f], F16: [0, 0x7e] }[dtype]
      bytes.fill(Buffer.from(nan), 8 + length + from, 8 + length + to)
      writeFileSync(path, bytes)
      const model = await loadModel(folder)
      const codes = []
      let last
      for (const options of [{ temperature: 0 }, { temperature: 1 }, { temperature: 0, logprobs: 3 }, { temperature: 0.8, topP: 0.5, repetitionPenalty: 1.2, logprobs: 1 }]) {
        const promptCache = model.createPromptCache()
        const failed = await model.generate('Hi', { ...options, promptCache }).then(() => ({}), (error) => error)
        codes.push(failed.code, (await promptCache.size()).tokens)
        last = failed.message
      }
      say(codes)
      say(last)
      say((await model.logits([5, 6])).data.some(Number.isFinite))
      rmSync(folder, { recursive: true })
    `)
    expect(codes).toEqual(Array.from({ length: 4 }, () => ['INVALID_LOGITS', 0]).flat())
    expect(message).toContain('token 1 of the answer are not numbers (NaN)')
    expect(finite).toBe(false)
  })
})
