import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { RECOMMENDED_MODELS } from '../js/index.js'
import { parseRepository } from '../js/hub/repository.js'
import { getNative } from '../js/native.js'

/** What the config.json of these repositories has as `model_type`. */
const MODEL_TYPES: readonly (readonly [RegExp, string])[] = [
  [/^Qwen3-(Coder-)?\d+B-A\dB/, 'qwen3_moe'],
  [/^Qwen3-[\d.]+B-(?!A)/, 'qwen3'],
  [/^Qwen3-Next-/, 'qwen3_next'],
  [/^Qwen3\.5-\d+B-A\dB/, 'qwen3_5_moe'],
  [/^Qwen3\.5-[\d.]+B-(?!A)/, 'qwen3_5'],
  [/^(Qwen2\.5-|DeepSeek-R1-Distill-Qwen-)/, 'qwen2'],
  [/^phi-4-4bit|^Phi-(3|3\.5|4)-mini-/, 'phi3'],
  [/^(Meta-)?Llama-3\.[123]-/, 'llama'],
  [/^Llama-4-/, 'llama4'],
  [/^gemma-2-/, 'gemma2'],
  [/^gemma-3-1b-/, 'gemma3_text'],
  [/^gemma-3-\d+b-(?<!-1b-)/, 'gemma3'],
  [/^gemma-3n-/, 'gemma3n'],
  [/^gemma-4-/, 'gemma4'],
  [/^(Mistral|Ministral)-/, 'mistral'],
  [/^gpt-oss-/, 'gpt_oss'],
  [/^GLM-4-9B-/, 'glm4'],
  [/^GLM-4\.5-Air-/, 'glm4_moe'],
  [/^SmolLM3-/, 'smollm3'],
  [/^SmolLM2-/, 'llama'],
  [/^LFM2-/, 'lfm2'],
]

const folder = mkdtempSync(join(tmpdir(), 'nodemlx-'))
afterAll(() => {
  rmSync(folder, { recursive: true })
})

describe('the recommended models', () => {
  it.each(Object.entries(RECOMMENDED_MODELS))('%s is %s, whose architecture runs', (_, id) => {
    expect(parseRepository(id)).toEqual({ id, revision: 'main' })
    const types = MODEL_TYPES.filter(([name]) => name.test(id.replace('mlx-community/', '')))
    expect(types.map(([, type]) => type)).toHaveLength(1)
    writeFileSync(join(folder, 'config.json'), JSON.stringify({ model_type: types[0]?.[1] }))
    expect(getNative().architectureOf(folder)).not.toBe('')
  })

  it('begin with those that people typed in earlier versions', () => {
    for (const name of [
      'qwen',
      'phi',
      'llama',
      'gemma',
      'gemma3n',
      'ministral',
      'gptoss',
      'smollm',
    ])
      expect(RECOMMENDED_MODELS).toHaveProperty(name)
  })
})
