import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Features of the embedded model that the projections of `modules` below have. */
const SIZES: Record<string, [number, number]> = {
  'self_attn.q_proj': [384, 384],
  'self_attn.v_proj': [384, 128],
  'mlp.down_proj': [768, 384],
}
const RANK = 2

/** A safetensors file. */
export function safetensors(
  tensors: Record<string, { shape: number[]; data: Float32Array }>,
): Buffer {
  let end = 0
  const header = Object.entries(tensors).map(([name, { shape, data }]) => {
    const start = end
    end += data.byteLength
    return [name, { dtype: 'F32', shape, data_offsets: [start, end] }]
  })
  const text = Buffer.from(JSON.stringify(Object.fromEntries(header)))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  const parts = Object.values(tensors).map(({ data }) => Buffer.from(data.buffer))
  return Buffer.concat([length, text, ...parts])
}

/** Numbers between −1 and 1 that are the same every time. */
export function noise(count: number, seed: number): Float32Array {
  let state = seed
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 31 - 1
  })
}

/** The files of an adapter for the embedded model, as mlx-lm writes them. */
export function adapterFiles(
  seed: number,
  scale = 0.5,
  kind: 'lora' | 'dora' = 'lora',
  rank = RANK,
): Record<string, Buffer | string> {
  const tensors: Record<string, { shape: number[]; data: Float32Array }> = {}
  for (let layer = 0; layer < 8; layer++) {
    for (const [name, [inputs, outputs]] of Object.entries(SIZES)) {
      const path = `model.layers.${layer}.${name}`
      const of = seed * 1000 + layer * 10 + inputs + outputs
      tensors[`${path}.lora_a`] = { shape: [inputs, rank], data: noise(inputs * rank, of) }
      tensors[`${path}.lora_b`] = { shape: [rank, outputs], data: noise(rank * outputs, of + 1) }
      if (kind === 'lora') continue
      const magnitudes = noise(outputs, of + 2).map((value) => 1 + 0.2 * value)
      tensors[`${path}.m`] = { shape: [outputs], data: magnitudes }
    }
  }
  const config = {
    fine_tune_type: kind,
    num_layers: 8,
    lora_parameters: { rank, scale, dropout: 0, keys: Object.keys(SIZES) },
  }
  return {
    'adapter_config.json': JSON.stringify(config),
    'adapters.safetensors': safetensors(tensors),
  }
}

/** Writes files into a new folder. */
export function writeFiles(folder: string, files: Record<string, Buffer | string>): string {
  mkdirSync(folder)
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
  return folder
}
