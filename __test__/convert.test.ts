// Conversions of the embedded model, by the API and by the command line.

import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { convertModel, loadModel } from '../js/index.js'
import type { ConvertModelOptions, LoadProgress } from '../js/types.js'
import { ROOT, runCli } from './support/child.js'

const DEMO = join(ROOT, 'models', 'demo')
const FRANCE = 'What is the capital of France?'
let folder: string
/** The embedded model, whose codes are numbers. */
let numbers: string

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'nodemlx-convert-'))
  numbers = join(folder, 'numbers')
  await convertModel('demo', numbers, { dequantize: true })
})
afterAll(() => {
  rmSync(folder, { recursive: true })
})

async function answer(path: string): Promise<string> {
  const model = await loadModel(path)
  try {
    return (await model.generate(FRANCE, { temperature: 0, maxTokens: 12 })).text
  } finally {
    await model.dispose()
  }
}

const config = (path: string): Record<string, unknown> =>
  JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')) as Record<string, unknown>

describe('a converted model', () => {
  it('has no codes any more, all its other files, and the same answers', async () => {
    expect(config(numbers)).not.toHaveProperty('quantization')
    const files = readdirSync(DEMO).filter((name) => !name.startsWith('.'))
    expect(readdirSync(numbers).sort()).toEqual([...files, 'model.safetensors.index.json'].sort())
    const model = await loadModel(numbers)
    expect(model.info.quantization).toBeNull()
    await model.dispose()
    expect(await answer(numbers)).toMatch(/Paris/)
  })

  it('is packed anew, and tells how well', async () => {
    const target = join(folder, '6bit')
    const progress: LoadProgress[] = []
    const report = await convertModel(numbers, target, {
      bits: 6,
      groupSize: 32,
      layers: { 'layers.0': 8, embed_tokens: null },
      onProgress: (step) => progress.push(step),
    })
    expect(report.path).toBe(target)
    expect(report.bitsPerWeight).toBeGreaterThan(6)
    expect(report.bitsPerWeight).toBeLessThan(12)
    const bits = new Map(report.layers.map((layer) => [layer.path, layer.bits]))
    expect(bits.get('model.layers.0.mlp.down_proj')).toBe(8)
    expect(bits.get('model.layers.1.mlp.down_proj')).toBe(6)
    expect(bits.has('model.embed_tokens')).toBe(false)
    for (const { error, bits } of report.layers) {
      expect(error).toBeGreaterThan(0)
      expect(error).toBeLessThan(bits === 8 ? 0.01 : 0.04)
    }
    expect(progress.at(-1)).toMatchObject({ stage: 'convert' })
    expect(progress.at(-1)?.loadedBytes).toBe(progress.at(-1)?.totalBytes)
    expect(progress.at(-1)?.totalBytes).toBe(report.bytes)
    expect(config(target)['quantization']).toMatchObject({ bits: 6, group_size: 32 })
    expect(await answer(target)).toMatch(/Paris/)
  })

  it.each<[string, ConvertModelOptions]>([
    ['mxfp8', { mode: 'mxfp8' }],
    ['affine', { recipe: 'mixed_4_6' }],
  ])('can be of the mode %s', async (mode, options) => {
    const target = join(folder, mode)
    await convertModel(numbers, target, options)
    const model = await loadModel(target)
    expect(model.info.quantization).toMatchObject({ mode })
    await model.dispose()
    expect(await answer(target)).toMatch(/Paris/)
  })

  it('can be written from its own types into another', async () => {
    const target = join(folder, 'float16')
    await convertModel(numbers, target, { dtype: 'float16' })
    expect(config(target)['torch_dtype']).toBe('float16')
    expect(readFileSync(join(target, 'model.safetensors')).includes('"BF16"')).toBe(false)
  })
})

describe('a conversion', () => {
  it.each<[string, unknown, RegExp]>([
    ['bits', { bits: 7 }, /2, 3, 4, 5, 6, 8/],
    ['bits', { bits: 8, mode: 'mxfp4' }, /mxfp4/],
    ['groupSize', { groupSize: 48 }, /32, 64, 128/],
    ['mode', { mode: 'gguf' }, /'affine'/],
    ['recipe', { recipe: 'mixed_4_6', bits: 4 }, /leave out bits/],
    ['recipe', { recipe: 'mixed_4_6', mode: 'mxfp4' }, /'affine'/],
    ['dequantize', { dequantize: true, bits: 4 }, /together/],
    ['layers["a..b"]', { layers: { 'a..b': 4 } }, /path/],
    ['layers["mlp"]', { layers: { mlp: 7 } }, /2, 3, 4/],
    ['layers', { layers: { nothing: 4 } }, /"nothing" names no module/],
    ['quantize', { quantize: true }, /./],
  ])('refuses %s: %j', async (option, options, message) => {
    const target = join(folder, 'refused')
    const refused = convertModel(numbers, target, options as ConvertModelOptions)
    await expect(refused).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      option,
      message: expect.stringMatching(message) as string,
    })
    expect(existsSync(target)).toBe(false)
  })

  it.each<[string, string, ConvertModelOptions, RegExp]>([
    ['packed', 'demo', { bits: 8 }, /quantized already.*dequantize/],
    ['packed', 'demo', { mode: 'mxfp4' }, /quantized already/],
    ['to be left', 'numbers', { bits: 4, layers: { model: null } }, /patterns/],
  ])('refuses a quantization where all is %s: %s, %j', async (_, source, options, message) => {
    const target = join(folder, 'unchanged')
    const path = source === 'numbers' ? numbers : source
    await expect(convertModel(path, target, options)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(message) as string,
    })
    const { code, stderr } = await runCli(['convert', 'demo', '--out', target, '--mode', 'mxfp4'])
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringContaining('quantized already') as string,
    })
    expect(existsSync(target)).toBe(false)
  })

  it('does not touch what is at its target, unless it may', async () => {
    const target = join(folder, 'there')
    await convertModel(numbers, target)
    writeFileSync(join(target, 'mark'), '')
    await expect(convertModel(numbers, target)).rejects.toMatchObject({ option: 'target' })
    expect(existsSync(join(target, 'mark'))).toBe(true)
    // No conversion writes such a file.
    await expect(convertModel(numbers, target, { overwrite: true })).rejects.toMatchObject({
      option: 'target',
      message: expect.stringContaining('"mark"') as string,
    })
    expect(existsSync(join(target, 'mark'))).toBe(true)
    rmSync(join(target, 'mark'))
    const { ino } = statSync(target)
    await convertModel(numbers, target, { overwrite: true })
    expect(statSync(target).ino).not.toBe(ino)
    await expect(convertModel(target, target, { overwrite: true })).rejects.toMatchObject({
      option: 'target',
    })
  })

  it('that is aborted leaves nothing behind', async () => {
    const before = readdirSync(folder)
    const controller = new AbortController()
    const aborted = convertModel(numbers, join(folder, 'aborted'), {
      bits: 4,
      signal: controller.signal,
      onProgress: () => {
        controller.abort('enough')
      },
    })
    await expect(aborted).rejects.toMatchObject({ code: 'ABORTED', cause: 'enough' })
    const thrown = convertModel(numbers, join(folder, 'thrown'), {
      onProgress: () => {
        throw new Error('no more')
      },
    })
    await expect(thrown).rejects.toThrow('no more')
    const late = convertModel(numbers, join(folder, 'late'), { signal: AbortSignal.abort() })
    await expect(late).rejects.toMatchObject({ code: 'ABORTED' })
    expect(readdirSync(folder)).toEqual(before)
  })
})

describe('nodemlx convert', () => {
  it('writes a folder, and says where it is and what came of it', async () => {
    const target = join(folder, 'typed')
    const line = ['convert', numbers, '-o', target, '--bits', '4']
    // The model has no head of its own.
    const refused = await runCli([...line, '--layer', 'lm_head=8'])
    expect(refused.code).toBe(2)
    expect(refused.stderr).toContain('--layer: "lm_head" names no module')
    const { code, stdout, stderr } = await runCli(line)
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${target}\n` })
    expect(stderr).toMatch(/Written: [\d.]+ MB, 4\.5\d bits per weight/)
    expect(stderr).toMatch(/ % {2}model\.layers\.\d+\.\S+ \(4 bits\)/)
    const again = await runCli(['convert', numbers, '-o', target])
    expect(again.code).toBe(2)
    expect(again.stderr).toContain('--out: ')
  })

  it('gives its report as JSON', async () => {
    const target = join(folder, 'json')
    const { code, stdout } = await runCli(['convert', 'demo', '--out', target, '--json'])
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ path: target, layers: [] })
  })

  it.each([
    [['convert'], /name a model/],
    [['convert', 'demo'], /--out DIR/],
    [['convert', 'demo', 'other', '--out', 'x'], /one model/],
    [['convert', 'demo', '--out', 'x', '--layer', 'mlp'], /PATTERN=BITS/],
  ])('needs %j', async (line, message) => {
    const { code, stderr } = await runCli(line)
    expect(code).toBe(2)
    expect(stderr).toMatch(message)
  })
})
