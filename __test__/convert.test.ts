// Conversions of the embedded model, by the API and by the command line.

import {
  copyFileSync,
  existsSync,
  mkdirSync,
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
import type { ConvertModelOptions, ConvertReport, LoadProgress } from '../js/types.js'
import { ROOT, runCli } from './support/child.js'

const DEMO = join(ROOT, 'models', 'demo')
/** Held-out conversations, of the kind that the embedded model is for. */
const CONVERSATIONS = readFileSync(join(ROOT, 'tests', 'fixtures', 'conversations.txt'), 'utf8')
const TEXT = CONVERSATIONS.slice(0, 800)
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

describe('bits by a text', () => {
  it('make a model of the size that is wanted, better than with the same for all', async () => {
    const [same, chosen] = [join(folder, '3bit'), join(folder, 'calibrated')]
    const uniform = await convertModel(numbers, same, { bits: 3 })
    const progress: LoadProgress[] = []
    const report = await convertModel(numbers, chosen, {
      calibrate: { text: TEXT, bits: uniform.bitsPerWeight },
      onProgress: (step) => progress.push(step),
    })
    expect(report.bytes).toBeLessThanOrEqual(uniform.bytes)
    expect(report.bytes).toBeGreaterThan(0.98 * uniform.bytes)
    expect(new Set(report.layers.map(({ bits }) => bits)).size).toBeGreaterThan(1)
    const steps = progress.filter(({ stage }) => stage === 'calibrate')
    expect(steps.length).toBeGreaterThan(2)
    expect(steps.map(({ loadedBytes }) => loadedBytes)).toEqual(
      steps.map(({ loadedBytes }) => loadedBytes).toSorted((a, b) => a - b),
    )
    expect(steps.at(-1)?.loadedBytes).toBe(steps.at(-1)?.totalBytes)
    expect(progress.at(-1)?.stage).toBe('convert')
    const perplexity = async (path: string): Promise<number> => {
      const model = await loadModel(path, { device: 'cpu' })
      try {
        return (await model.score(CONVERSATIONS.slice(2400, 5200))).perplexity
      } finally {
        await model.dispose()
      }
    }
    expect(await perplexity(chosen)).toBeLessThan(0.95 * (await perplexity(same)))
  }, 200_000)

  it('leave those that are said by hand', async () => {
    const target = join(folder, 'by-hand')
    const report = await convertModel(numbers, target, {
      calibrate: { text: TEXT.slice(0, 100), bits: 5 },
      layers: { 'layers.0': 8, embed_tokens: null },
    })
    const bits = new Map(report.layers.map((layer) => [layer.path, layer.bits]))
    expect(bits.get('model.layers.0.mlp.down_proj')).toBe(8)
    expect(bits.has('model.embed_tokens')).toBe(false)
  }, 100_000)

  it('end where a signal says so', async () => {
    const target = join(folder, 'calibrate-aborted')
    const controller = new AbortController()
    const converted = convertModel(numbers, target, {
      calibrate: { text: CONVERSATIONS, bits: 4 },
      signal: controller.signal,
      onProgress: ({ stage, loadedBytes }) => {
        if (stage === 'calibrate' && loadedBytes > 0) controller.abort()
      },
    })
    await expect(converted).rejects.toMatchObject({ code: 'ABORTED' })
    expect(existsSync(target)).toBe(false)
  })

  it('want a tokenizer', async () => {
    const source = join(folder, 'no-tokenizer')
    mkdirSync(source)
    for (const name of ['config.json', 'model.safetensors'])
      copyFileSync(join(numbers, name), join(source, name))
    const converted = convertModel(source, join(folder, 'mute'), {
      calibrate: { text: TEXT, bits: 4 },
    })
    await expect(converted).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/no tokenizer/) as string,
    })
  })

  it('are chosen by the command line, too', async () => {
    const [file, target] = [join(folder, 'text.txt'), join(folder, 'by-command')]
    writeFileSync(file, TEXT.slice(0, 100))
    const flags = ['--calibrate', file, '--calibrate-bits', '4', '--json']
    const { code, stdout } = await runCli(['convert', numbers, '--out', target, ...flags])
    expect(code).toBe(0)
    expect((JSON.parse(stdout) as ConvertReport).bitsPerWeight).toBeLessThanOrEqual(4)
    for (const [wrong, message] of [
      [['--calibrate-bits', '4'], /go with --calibrate/],
      [['--calibrate', file], /needs --calibrate-bits or --calibrate-bytes/],
      [['--calibrate', join(folder, 'nothing'), '--calibrate-bits', '4'], /ENOENT/],
    ] as const) {
      const refused = await runCli(['convert', numbers, '--out', join(folder, 'no'), ...wrong])
      expect(refused.code).toBe(2)
      expect(refused.stderr).toMatch(message)
    }
  }, 100_000)
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
    ['calibrate', { calibrate: { text: TEXT } }, /either bits or bytes/],
    ['calibrate', { calibrate: { text: TEXT, bits: 4, bytes: 1e6 } }, /either bits or bytes/],
    ['calibrate', { calibrate: { text: TEXT, bits: 4 }, bits: 4 }, /leave out bits/],
    ['calibrate', { calibrate: { text: TEXT, bits: 4 }, recipe: 'mixed_4_6' }, /leave out recipe/],
    ['calibrate', { calibrate: { text: TEXT, bits: 4 }, mode: 'mxfp4' }, /leave out mode/],
    ['calibrate', { calibrate: { text: TEXT, bits: 4 }, adapter: 'x' }, /fuse it first/],
    ['dequantize', { calibrate: { text: TEXT, bits: 4 }, dequantize: true }, /together/],
    ['calibrate.text', { calibrate: { bits: 4 } }, /missing/],
    ['calibrate.text', { calibrate: { text: '', bits: 4 } }, /empty/],
    ['calibrate.text', { calibrate: { text: 'Hi', bits: 4 } }, /1 tokens|tokens;/],
    ['calibrate.bits', { calibrate: { text: TEXT, bits: -4 } }, /larger than 0/],
    ['calibrate.bits', { calibrate: { text: TEXT, bits: 1.5 } }, /smallest.*2\.5\d+ bits/],
    ['calibrate.bytes', { calibrate: { text: TEXT, bytes: 1e9 } }, /largest.*8\.5\d+ bits/],
    ['calibrate.words', { calibrate: { text: TEXT, words: 4 } }, /./],
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
