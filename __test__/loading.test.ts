// Folders as users have them: with hints that cannot be used, and left-overs of other formats.

import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { loadModel } from '../js/index.js'
import type { ModelInfo } from '../js/types.js'
import { ROOT, runCli, runModule } from './support/child.js'

const DEMO = join(ROOT, 'models', 'demo')
const root = mkdtempSync(join(tmpdir(), 'nodemlx-loading-'))
let copies = 0

afterAll(() => {
  rmSync(root, { recursive: true })
})

/** A copy of the demo model, with other files or other content of some. */
function demoWith(files: Record<string, string> = {}): string {
  const folder = join(root, String(++copies))
  cpSync(DEMO, folder, { recursive: true })
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
  return folder
}

async function infoOf(folder: string): Promise<ModelInfo> {
  const model = await loadModel(folder, { device: 'cpu' })
  try {
    const { text } = await model.generate('What is the capital of France?', { temperature: 0 })
    expect(text).toContain('Paris')
  } finally {
    await model.dispose()
  }
  return model.info
}

describe('generation_config.json', () => {
  it.each([
    ['a trailing comma', '{"top_k": 5,}'],
    ['nothing', ''],
    ['a list', '[]'],
    ['a pointer', 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'],
  ])('is left out with a warning where it holds %s', async (_, content) => {
    const { generationDefaults, warnings, eosTokens } = await infoOf(
      demoWith({ 'generation_config.json': content }),
    )
    expect(generationDefaults).toEqual({})
    expect(eosTokens).not.toEqual([])
    expect(warnings).toMatchObject([
      {
        code: 'UNUSABLE_FILE',
        message: expect.stringContaining('generation_config.json') as string,
      },
    ])
  })

  it('is used as far as it can be', async () => {
    const hints = {
      temperature: '0.6',
      top_p: 1.5,
      top_k: -1,
      min_p: 0.05,
      max_new_tokens: -1,
      eos_token_id: [-1],
    }
    const { generationDefaults, warnings } = await infoOf(
      demoWith({ 'generation_config.json': `\uFEFF${JSON.stringify(hints)}` }),
    )
    expect(generationDefaults).toEqual({ minP: 0.05 })
    expect(warnings.map(({ code }) => code)).toEqual(Array(5).fill('UNUSABLE_FIELD'))
    for (const field of ['temperature', 'top_p', 'top_k', 'max_new_tokens', 'eos_token_id']) {
      expect(warnings.filter(({ message }) => message.includes(`"${field}"`))).toHaveLength(1)
    }
  })
})

describe('weights', () => {
  it('are read beside an index of others', async () => {
    const weight_map = { 'model.norm.weight': 'model-00001-of-00002.safetensors' }
    const index = JSON.stringify({ weight_map })
    const { warnings } = await infoOf(demoWith({ 'model.safetensors.index.json': index }))
    expect(warnings).toMatchObject([{ code: 'STALE_INDEX' }])
  })

  it.each([
    ['model-Q4_K_M.gguf', /model-Q4_K_M\.gguf.*llama\.cpp/],
    ['pytorch_model.bin', /pytorch_model\.bin.*pickle.*mlx_lm\.convert/],
    ['weights.npz', /weights\.npz.*mlx_lm\.convert/],
    ['adapters.safetensors', /adapters\.safetensors.*adapter.*nodemlx fuse/],
    ['model.onnx', /model\.onnx.*ONNX/],
    ['consolidated.safetensors', /consolidated\.safetensors.*Mistral/],
  ])('of another kind are named: %s', async (name, message) => {
    const folder = demoWith()
    renameSync(join(folder, 'model.safetensors'), join(folder, name))
    await expect(loadModel(folder)).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
      message: expect.stringMatching(message) as string,
    })
    rmSync(join(folder, 'config.json'))
    await expect(loadModel(folder)).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
      message: expect.stringMatching(message) as string,
    })
  })

  it('that were not downloaded are named', async () => {
    for (const [content, message] of [
      ['version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n', /Git LFS pointer/],
      ['<!DOCTYPE html>\n<html><body>Sign in</body></html>', /web page/],
      ['Entry not found', /"Entry not found"/],
      ['', /empty/],
    ] as const) {
      await expect(loadModel(demoWith({ 'model.safetensors': content }))).rejects.toMatchObject({
        code: 'INVALID_WEIGHTS',
        message: expect.stringMatching(message) as string,
      })
    }
  })
})

it('a quantization under its other name is read', async () => {
  const { quantization, ...config } = JSON.parse(
    readFileSync(join(DEMO, 'config.json'), 'utf8'),
  ) as Record<string, unknown>
  const { quantization: found } = await infoOf(demoWith())
  const renamed = JSON.stringify({ ...config, quantization_config: quantization })
  expect((await infoOf(demoWith({ 'config.json': renamed }))).quantization).toEqual(found)
  expect(found).not.toBeNull()
})

it('a relative path stays that of the folder that was current', async () => {
  const folder = demoWith()
  mkdirSync(join(root, 'elsewhere'), { recursive: true })
  const { stdout, stderr } = await runModule(
    `import { loadModel } from 'nodemlx'
     process.chdir(${JSON.stringify(root)})
     const loading = loadModel('./${String(copies)}', { device: 'cpu' })
     process.chdir('elsewhere')
     const model = await loading
     console.log(model.info.path)`,
  )
  expect({ stdout, stderr }).toEqual({ stdout: `${folder}\n`, stderr: '' })
})

it('the command line tells warnings once, and goes on', async () => {
  const folder = demoWith({ 'generation_config.json': '{"top_k": -1}' })
  const { code, stdout, stderr } = await runCli([
    '-m',
    folder,
    '-t0',
    '--no-stats',
    'What is the capital of France?',
  ])
  expect({ code, stdout }).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('Paris') as string,
  })
  expect(stderr).toMatch(/^warning: .*generation_config\.json: "top_k" is -1.*\n$/)
})
