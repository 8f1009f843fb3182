// Models that guess with a head of their own, as JavaScript sees them: a tiny MiMo with noise for
// weights.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadModel } from '../js/index.js'
import type { Model } from '../js/types.js'
import { noise, safetensors } from './support/adapters.js'

const SIZE = 32
const VOCABULARY = 96
const HEAD = 'model.mtp_layers.0'
const LOAD = { device: 'cpu', precision: 'exact', dtype: 'float32' } as const

const CONFIG = {
  model_type: 'mimo',
  hidden_size: SIZE,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: VOCABULARY,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  tie_word_embeddings: false,
  num_nextn_predict_layers: 1,
}

/**
 * The weights of a model. Of one that is foreseeable the layers add nothing, so that each token
 * follows from the one before, and the head says the same.
 */
function weights(foreseeable: boolean): Buffer {
  const shapes: Record<string, number[]> = {
    'model.embed_tokens.weight': [VOCABULARY, SIZE],
    'model.norm.weight': [SIZE],
    'lm_head.weight': [VOCABULARY, SIZE],
    [`${HEAD}.input_proj.weight`]: [SIZE, 2 * SIZE],
  }
  for (const norm of ['token_layernorm', 'hidden_layernorm', 'final_layernorm']) {
    shapes[`${HEAD}.${norm}.weight`] = [SIZE]
  }
  for (const layer of ['model.layers.0', 'model.layers.1', HEAD]) {
    for (const [name, outputs] of [
      ['q', SIZE],
      ['k', 16],
      ['v', 16],
    ] as const) {
      shapes[`${layer}.self_attn.${name}_proj.weight`] = [outputs, SIZE]
      shapes[`${layer}.self_attn.${name}_proj.bias`] = [outputs]
    }
    shapes[`${layer}.self_attn.o_proj.weight`] = [SIZE, SIZE]
    shapes[`${layer}.mlp.gate_proj.weight`] = [48, SIZE]
    shapes[`${layer}.mlp.up_proj.weight`] = [48, SIZE]
    shapes[`${layer}.mlp.down_proj.weight`] = [SIZE, 48]
    shapes[`${layer}.input_layernorm.weight`] = [SIZE]
    shapes[`${layer}.post_attention_layernorm.weight`] = [SIZE]
  }
  const values = (name: string, shape: number[], seed: number): Float32Array => {
    const count = shape.reduce((product, size) => product * size, 1)
    if (name.includes('norm.')) return new Float32Array(count).fill(1)
    if (foreseeable && /(?:o|down)_proj/.test(name)) return new Float32Array(count)
    if (foreseeable && name.includes('input_proj')) {
      // The embedding behind the hidden state, as it is.
      return new Float32Array(count).map((_, index) => {
        return index % (2 * SIZE) === SIZE + Math.floor(index / (2 * SIZE)) ? 1 : 0
      })
    }
    return noise(count, seed)
  }
  const tensors = Object.entries(shapes).map(([name, shape], seed) => {
    return [name, { shape, data: values(name, shape, seed + 1) }] as const
  })
  return safetensors(Object.fromEntries(tensors))
}

let root: string

function checkpoint(name: string, foreseeable: boolean): string {
  const folder = join(root, name)
  mkdirSync(folder)
  writeFileSync(join(folder, 'config.json'), JSON.stringify(CONFIG))
  writeFileSync(join(folder, 'model.safetensors'), weights(foreseeable))
  return folder
}

const models: Record<string, { plain: Model; model: Model }> = {}

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'prediction-heads-'))
  for (const name of ['foreseeable', 'surprising']) {
    const folder = checkpoint(name, name === 'foreseeable')
    models[name] = {
      plain: await loadModel(folder, { ...LOAD, predictionHeads: false }),
      model: await loadModel(folder, LOAD),
    }
  }
})

afterAll(async () => {
  const all = Object.values(models).flatMap(({ plain, model }) => [plain, model])
  await Promise.all(all.map((model) => model.dispose()))
  rmSync(root, { recursive: true })
})

const PROMPTS = [[5, 17, 40, 3, 9], [60], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]]

describe.each(['foreseeable', 'surprising'])('a model whose texts are %s', (name) => {
  it('gives the same tokens with guesses of its own head, alone and beside others', async () => {
    const { plain, model } = models[name] as { plain: Model; model: Model }
    for (const drawn of [{ temperature: 0 }, { temperature: 0.8, seed: 4 }]) {
      const options = { maxTokens: 100, ...drawn }
      for (const speculation of ['auto', { draftTokens: 3, lookup: false }] as const) {
        const results = await Promise.all(
          PROMPTS.map((tokens) => model.generate({ tokens }, { ...options, speculation })),
        )
        for (const [index, { tokens, speculation: statistics }] of results.entries()) {
          const prompt = { tokens: PROMPTS[index] ?? [] }
          expect(tokens).toEqual((await plain.generate(prompt, options)).tokens)
          const { drafted = 0, accepted = 0, steps = 0 } = statistics ?? {}
          expect(steps + accepted).toBe(100)
          if (speculation === 'auto') continue
          expect(drafted).toBeGreaterThan(50)
          if (name === 'foreseeable' && drawn.temperature === 0) expect(accepted).toBe(drafted)
        }
      }
    }
  })
})

it('does not guess by itself', async () => {
  const { model } = models['foreseeable'] as { model: Model }
  const { speculation } = await model.generate({ tokens: [1, 2] }, { maxTokens: 5 })
  expect(speculation).toBeUndefined()
})

it('has nothing to guess with where the head is not loaded', async () => {
  const { plain } = models['foreseeable'] as { plain: Model }
  const answer = plain.generate({ tokens: [1, 2] }, { speculation: { lookup: false } })
  await expect(answer.result).rejects.toThrow(/no prediction head/)
})
