// How much memory a model takes, estimated before it is loaded.

import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { estimateModel, loadModel } from '../js/index.js'
import { getNative } from '../js/native.js'
import { ROOT } from './support/child.js'
import { CONFIG, HubFixture } from './support/hub-fixtures.js'

const folder = mkdtempSync(join(tmpdir(), 'nodemlx-'))
afterAll(() => {
  rmSync(folder, { recursive: true })
})

/** A safetensors file of one tensor, of which only the header takes room on the disk. */
function sparseWeights(path: string, bytes: number, dtype = 'U8'): void {
  const tensor = { dtype, shape: [bytes], data_offsets: [0, bytes] }
  const header = Buffer.from(JSON.stringify({ 'model.embed_tokens.weight': tensor }))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  writeFileSync(path, Buffer.concat([length, header]))
  truncateSync(path, 8 + header.length + bytes)
}

describe('the estimate', () => {
  it('of the caches is what they take', async () => {
    const path = join(ROOT, 'models', 'demo')
    const model = await loadModel(path, { device: 'cpu', precision: 'exact' })
    const length = Math.min(100, (model.info.contextLength ?? 200) - 2)
    const cache = model.createPromptCache()
    const tokens = Array.from({ length }, (_, at) => 1 + (at % (model.info.vocabularySize - 2)))
    await model.generate({ tokens }, { promptCache: cache, maxTokens: 1 })
    const { bytes } = await cache.size()
    const { cacheBytes } = await estimateModel(path, { contextLength: length + 1, device: 'cpu' })
    // Checkpoints in half precision have caches in half precision where the CPU need not be exact.
    const text = readFileSync(join(path, 'config.json'), 'utf8')
    const factor = /"(torch_)?dtype": "float32"/.test(text) ? 1 : 2
    expect(cacheBytes * factor).toBeGreaterThanOrEqual(bytes * 0.99)
    expect(cacheBytes).toBeLessThan(bytes * 1.5 + 4096)
    await model.dispose()
  })

  it('of the peak is about what generations take', async () => {
    const model = await loadModel('demo', { device: 'cpu', prefixCache: false })
    for (const length of [20, 130, 1000]) {
      const tokens = Array.from({ length }, (_, at) => 10 + (at % 1000))
      const { peakMemoryBytes } = await model.generate({ tokens }, { maxTokens: 3, minTokens: 3 })
      const { peakBytes } = await estimateModel('demo', {
        contextLength: length + 3,
        device: 'cpu',
      })
      expect(peakBytes / peakMemoryBytes).toBeGreaterThan(0.9)
      expect(peakBytes / peakMemoryBytes).toBeLessThan(1.6)
    }
    await model.dispose()
  })

  it('counts what MLX has no packed form for as numbers of 16 bits', async () => {
    const path = mkdtempSync(join(folder, 'formats-'))
    const config = JSON.parse(readFileSync(join(ROOT, 'models/demo/config.json'), 'utf8')) as object
    const bytesOf = async (said: object, dtype: string): Promise<number> => {
      const content = JSON.stringify({ ...config, quantization_config: said })
      writeFileSync(join(path, 'config.json'), content)
      sparseWeights(join(path, 'model.safetensors'), 1000, dtype)
      return (await estimateModel(path, { device: 'cpu' })).weightsBytes
    }
    const blocks = { quant_method: 'fp8', weight_block_size: [128, 128] }
    expect(await bytesOf(blocks, 'F8_E4M3')).toBe(2000)
    // With a scale for each 32.
    expect(await bytesOf({ ...blocks, scale_fmt: 'ue8m0' }, 'F8_E4M3')).toBe(1032)
    expect(await bytesOf({ quant_method: 'fp8' }, 'F8_E4M3')).toBe(1032)
    expect(await bytesOf({ quant_method: 'bitsandbytes', load_in_4bit: true }, 'U8')).toBe(4000)
    expect(await bytesOf({ quant_method: 'bitsandbytes', load_in_8bit: true }, 'I8')).toBe(1063)
    const groups = { group_0: { weights: { strategy: 'block' } } }
    const compressed = { quant_method: 'compressed-tensors', config_groups: groups }
    expect(await bytesOf(compressed, 'F8_E4M3')).toBe(2000)
  })

  const FORMATS = join(ROOT, 'tests/fixtures/formats')
  it.each(readdirSync(FORMATS))('of weights in the format %s is what they take', async (name) => {
    const path = join(FORMATS, name)
    const { weightsBytes } = await estimateModel(path, { device: 'cpu' })
    const model = await loadModel(path, { device: 'cpu' })
    const { bytes } = model.info
    await model.dispose()
    // Rows as short as these have groups that are smaller than they are counted.
    expect(weightsBytes).toBeGreaterThan((name.startsWith('bitnet') ? 0.85 : 0.97) * bytes)
    // The scales of so few groups are few of those that GEMV stores.
    if (name !== 'awq-gemv') expect(weightsBytes).toBeLessThan(1.35 * bytes)
  })

  it('counts weights, sequences and packed caches', async () => {
    const one = await estimateModel('demo', { contextLength: 1024, device: 'cpu' })
    const four = await estimateModel('demo', { contextLength: 1024, sequences: 4, device: 'cpu' })
    const packed = await estimateModel('demo', { contextLength: 1024, kvBits: 8, device: 'cpu' })
    expect(one).toMatchObject({ fits: true, contextLength: 1024 })
    expect(one.weightsBytes).toBeGreaterThan(6_000_000)
    expect(one.cacheBytes).toBe(1024 * one.cacheBytesPerToken)
    expect(four.cacheBytes).toBe(4 * one.cacheBytes)
    expect(packed.cacheBytes).toBeLessThan(one.cacheBytes)
    expect(one.peakBytes).toBeGreaterThan(one.weightsBytes + one.cacheBytes)
  })

  it('says what cannot run, and does not call that fitting', async () => {
    const path = mkdtempSync(join(folder, 'kinds-'))
    const config = JSON.parse(readFileSync(join(ROOT, 'models/demo/config.json'), 'utf8')) as object
    const write = (more: object): void => {
      writeFileSync(join(path, 'config.json'), JSON.stringify({ ...config, ...more }))
    }
    sparseWeights(join(path, 'model.safetensors'), 1000)
    write({ model_type: 'clip' })
    await expect(estimateModel(path)).rejects.toMatchObject({ code: 'UNKNOWN_ARCHITECTURE' })
    write({})
    const long = await estimateModel(path, { contextLength: 1_000_000, device: 'cpu' })
    expect(long.maxContextLength).toBeLessThan(1_000_000)
    expect(long.reason).toMatch(/made for \d+ tokens/)
    if (getNative().systemInfo().defaultDevice === 'cpu') {
      const gpu = estimateModel(path, { device: 'gpu' })
      await expect(gpu).rejects.toMatchObject({ code: 'DEVICE_UNAVAILABLE' })
    }
    rmSync(join(path, 'model.safetensors'))
    writeFileSync(join(path, 'model.gguf'), '')
    await expect(estimateModel(path)).rejects.toMatchObject({
      message: expect.stringMatching(/model\.gguf is .*GGUF/) as string,
    })
  })

  it('that is aborted says so, with the reason', async () => {
    const signal = AbortSignal.abort('enough')
    await expect(estimateModel('demo', { signal })).rejects.toMatchObject({
      code: 'ABORTED',
      cause: 'enough',
    })
  })

  it.each([
    [{ contextLength: 0 }, 'contextLength'],
    [{ sequences: 1.5 }, 'sequences'],
    [{ kvBits: 3 }, 'kvBits'],
    [{ device: 'tpu' }, 'device'],
    [{ context: 1 }, 'context'],
  ])('refuses the options %j', async (options, option) => {
    await expect(estimateModel('demo', options as object)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      option,
    })
  })
})

describe('a model that cannot fit', () => {
  const path = join(folder, 'huge')

  it('is refused, unless it is to be tried', async () => {
    const { mkdirSync } = await import('node:fs')
    mkdirSync(path)
    writeFileSync(join(path, 'config.json'), CONFIG)
    sparseWeights(join(path, 'model.safetensors'), 4e12)
    expect(await estimateModel(path)).toMatchObject({
      fits: false,
      maxContextLength: 0,
      weightsBytes: 4e12,
      reason: expect.stringMatching(
        /its weights alone take 4000\.0 GB, and the \w+ can use/,
      ) as string,
    })
    await expect(loadModel(path)).rejects.toMatchObject({ code: 'INSUFFICIENT_MEMORY' })
    await expect(loadModel(path, { force: true })).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS',
    })
  })

  it('with a long context is told how much fits', async () => {
    // Terabytes of caches, and megabytes for each token.
    const contextLength = 1_000_000
    const path = mkdtempSync(join(folder, 'long-'))
    const config = JSON.parse(readFileSync(join(ROOT, 'models/demo/config.json'), 'utf8')) as object
    const long = { ...config, max_position_embeddings: contextLength }
    writeFileSync(join(path, 'config.json'), JSON.stringify(long))
    sparseWeights(join(path, 'model.safetensors'), 1000)
    const estimate = await estimateModel(path, { sequences: 1000, contextLength })
    expect(estimate).toMatchObject({ fits: false, contextLength })
    expect(estimate.maxContextLength).toBeGreaterThan(0)
    expect(estimate.maxContextLength).toBeLessThan(contextLength)
    expect(estimate.reason).toContain(`enough for ${estimate.maxContextLength} tokens`)
  })
})

describe('a repository', () => {
  const hub = new HubFixture()

  it('whose weights cannot fit is refused before they come', async () => {
    hub.server.add('owner/huge', { 'config.json': CONFIG, 'model.safetensors': 'x' })
    hub.server.fault = ({ method, file }) =>
      method === 'HEAD' && file === 'model.safetensors'
        ? {
            status: 302,
            headers: {
              location: '/x',
              'x-linked-etag': 'a'.repeat(64),
              'x-linked-size': '4000000000000',
            },
          }
        : undefined
    await expect(loadModel('owner/huge', hub.options)).rejects.toMatchObject({
      code: 'INSUFFICIENT_MEMORY',
    })
    expect(hub.server.of('model.safetensors')).toEqual([])
  })

  it('is estimated by its configuration and headers alone', async () => {
    const demo = join(ROOT, 'models', 'demo')
    const weights = readFileSync(join(demo, 'model.safetensors'))
    hub.server.add('owner/demo', { 'config.json': CONFIG, 'model.safetensors': weights })
    const remote = await estimateModel('owner/demo', hub.options)
    expect(remote).toEqual(await estimateModel('demo'))
    const sent = hub.server.requests.filter(({ at }) => at === 'content')
    expect(sent.map(({ headers }) => headers.range)).toEqual(['bytes=0-262143'])
    expect(readdirSync(hub.cacheDir)).toEqual([])
  })
})
