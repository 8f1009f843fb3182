// A GGUF file with random weights in Q4_0 (4.5 bits per weight), of the shape of benches/common:
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

import { randomFillSync } from 'node:crypto'
import * as fs from 'node:fs'

const ALIGNMENT = 32
const F32 = 0
const Q4_0 = 2
/** Weights of a block, and its bytes: a half as the scale, then half a byte for each. */
const [BLOCK, BLOCK_BYTES] = [32, 18]

const u32 = (value) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
const u64 = (value) => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
const f32 = (value) => {
  const bytes = Buffer.alloc(4)
  bytes.writeFloatLE(value)
  return bytes
}
const text = (value) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)])

/** The numbers of GGUF's types of values. */
const TYPES = { u32: [4, u32], i32: [5, u32], f32: [6, f32], text: [8, text] }
const ARRAY = 9

function entry(key, type, value) {
  const [number, write] = TYPES[type]
  if (!Array.isArray(value)) return Buffer.concat([text(key), u32(number), write(value)])
  const head = [text(key), u32(ARRAY), u32(number), u64(value.length)]
  return Buffer.concat([...head, ...value.map(write)])
}

/** A vocabulary without a meaning: special tokens, bytes, and words. */
function vocabulary(size) {
  const tokens = ['<unk>', '<s>', '</s>']
  const kinds = [2, 3, 3]
  for (let byte = 0; byte < 256; byte++) {
    tokens.push(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
    kinds.push(6)
  }
  while (tokens.length < size) {
    tokens.push(`w${tokens.length}`)
    kinds.push(1)
  }
  return { tokens, kinds }
}

/** Writes `path` for a Llama of the `config` of a checkpoint for MLX. */
export function writeGguf(path, config) {
  const { tokens, kinds } = vocabulary(config.vocab_size)
  const entries = [
    entry('general.architecture', 'text', 'llama'),
    entry('llama.block_count', 'u32', config.num_hidden_layers),
    entry('llama.context_length', 'u32', config.max_position_embeddings),
    entry('llama.embedding_length', 'u32', config.hidden_size),
    entry('llama.feed_forward_length', 'u32', config.intermediate_size),
    entry('llama.attention.head_count', 'u32', config.num_attention_heads),
    entry('llama.attention.head_count_kv', 'u32', config.num_key_value_heads),
    entry('llama.attention.layer_norm_rms_epsilon', 'f32', config.rms_norm_eps),
    entry('llama.rope.dimension_count', 'u32', config.head_dim),
    entry('llama.rope.freq_base', 'f32', config.rope_theta),
    entry('llama.vocab_size', 'u32', config.vocab_size),
    entry('tokenizer.ggml.model', 'text', 'llama'),
    entry('tokenizer.ggml.tokens', 'text', tokens),
    entry(
      'tokenizer.ggml.scores',
      'f32',
      tokens.map((_, index) => -index),
    ),
    entry('tokenizer.ggml.token_type', 'i32', kinds),
    entry('tokenizer.ggml.bos_token_id', 'u32', 1),
    entry('tokenizer.ggml.eos_token_id', 'u32', 2),
  ]
  const hidden = config.hidden_size
  const queries = config.num_attention_heads * config.head_dim
  const keys = config.num_key_value_heads * config.head_dim
  const tensors = [
    ['token_embd.weight', Q4_0, hidden, config.vocab_size],
    ['output_norm.weight', F32, hidden],
  ]
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const add = (name, ...rest) => tensors.push([`blk.${layer}.${name}.weight`, ...rest])
    add('attn_norm', F32, hidden)
    add('attn_q', Q4_0, hidden, queries)
    add('attn_k', Q4_0, hidden, keys)
    add('attn_v', Q4_0, hidden, keys)
    add('attn_output', Q4_0, queries, hidden)
    add('ffn_norm', F32, hidden)
    add('ffn_gate', Q4_0, hidden, config.intermediate_size)
    add('ffn_up', Q4_0, hidden, config.intermediate_size)
    add('ffn_down', Q4_0, config.intermediate_size, hidden)
  }
  let offset = 0
  const infos = []
  const sizes = []
  for (const [name, type, ...dims] of tensors) {
    const elements = dims.reduce((product, dim) => product * dim, 1)
    const bytes = type === F32 ? 4 * elements : (elements / BLOCK) * BLOCK_BYTES
    infos.push(text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset))
    sizes.push([type, bytes])
    offset = aligned(offset + bytes)
  }
  const head = Buffer.concat([
    Buffer.from('GGUF'),
    u32(3),
    u64(tensors.length),
    u64(entries.length),
    ...entries,
    ...infos,
  ])
  const file = fs.openSync(path, 'w')
  try {
    let position = aligned(head.length)
    fs.writeSync(file, head)
    const blocks = randomBlocks()
    for (const [type, bytes] of sizes) {
      const source =
        type === F32 ? Buffer.concat(Array.from({ length: bytes / 4 }, () => f32(1))) : blocks
      for (let done = 0; done < bytes; done += source.length) {
        fs.writeSync(file, source, 0, Math.min(source.length, bytes - done), position + done)
      }
      position = aligned(position + bytes)
    }
  } finally {
    fs.closeSync(file)
  }
}

const aligned = (offset) => Math.ceil(offset / ALIGNMENT) * ALIGNMENT

/** Some megabytes of blocks, which tensors are filled with over and over. */
function randomBlocks() {
  const bytes = randomFillSync(Buffer.alloc(BLOCK_BYTES * 2 ** 18))
  // Scales around 2⁻⁷ of either sign, as halves.
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES)
    bytes[at + 1] = (bytes[at + 1] & 0x83) | 0x20
  return bytes
}
