// npm run bench:serve [-- --streams 1,4,8,16 --prompt 32 --tokens 96 --rounds 3 --device cpu
// --precision fast --model FOLDER --json]: how many tokens per second one model generates for
// several streams at once, through the API: while all of them write, and from the call to the end,
// with the prompts, which are read meanwhile. Every round has all numbers of streams, so that the
// ratios are those of one run.
//
// Without a model it is one of the shape of Llama 3.2 1B in 4 bits with a vocabulary of 32000 and
// weights that mean nothing, which is written once (0.7 GB).

import { randomFillSync } from 'node:crypto'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { loadModel } from 'nodemlx'
import { buildDir } from '../scripts/lib/project.mjs'
import { median, safetensorsHeader } from './common/benchmarks.mjs'

const [HIDDEN, LAYERS, INTERMEDIATE, VOCABULARY, GROUP] = [2048, 16, 8192, 32_000, 64]
const [HEADS, KV_HEADS, HEAD_DIM] = [32, 8, 64]

const CONFIG = {
  model_type: 'llama',
  hidden_size: HIDDEN,
  num_hidden_layers: LAYERS,
  intermediate_size: INTERMEDIATE,
  num_attention_heads: HEADS,
  num_key_value_heads: KV_HEADS,
  head_dim: HEAD_DIM,
  vocab_size: VOCABULARY,
  rms_norm_eps: 1e-5,
  rope_theta: 500_000,
  max_position_embeddings: 131_072,
  tie_word_embeddings: true,
  quantization: { group_size: GROUP, bits: 4 },
}

/** Names, types and shapes of the tensors. */
function tensors() {
  const all = []
  const matrix = (name, outputs, inputs) => {
    all.push([`${name}.weight`, 'U32', [outputs, inputs / 8]])
    all.push([`${name}.scales`, 'BF16', [outputs, inputs / GROUP]])
    all.push([`${name}.biases`, 'BF16', [outputs, inputs / GROUP]])
  }
  matrix('model.embed_tokens', VOCABULARY, HIDDEN)
  for (let layer = 0; layer < LAYERS; layer++) {
    const at = `model.layers.${layer}`
    matrix(`${at}.self_attn.q_proj`, HEADS * HEAD_DIM, HIDDEN)
    matrix(`${at}.self_attn.k_proj`, KV_HEADS * HEAD_DIM, HIDDEN)
    matrix(`${at}.self_attn.v_proj`, KV_HEADS * HEAD_DIM, HIDDEN)
    matrix(`${at}.self_attn.o_proj`, HIDDEN, HEADS * HEAD_DIM)
    matrix(`${at}.mlp.gate_proj`, INTERMEDIATE, HIDDEN)
    matrix(`${at}.mlp.up_proj`, INTERMEDIATE, HIDDEN)
    matrix(`${at}.mlp.down_proj`, HIDDEN, INTERMEDIATE)
    all.push([`${at}.input_layernorm.weight`, 'BF16', [HIDDEN]])
    all.push([`${at}.post_attention_layernorm.weight`, 'BF16', [HIDDEN]])
  }
  all.push(['model.norm.weight', 'BF16', [HIDDEN]])
  return all
}

/** What numbers of 16 bits are: 1 for norms, and what keeps 4-bit weights small and centered. */
function bfloat16(name) {
  if (name.endsWith('.scales')) return 0x3ac0
  if (name.endsWith('.biases')) return 0xbc30
  return 0x3f80
}

function writeModel(folder) {
  fs.mkdirSync(folder, { recursive: true })
  const sized = tensors().map(([name, dtype, shape]) => {
    return [name, dtype, shape, shape.reduce((a, b) => a * b) * (dtype === 'U32' ? 4 : 2)]
  })
  const partial = join(folder, 'model.partial')
  const file = fs.openSync(partial, 'w')
  fs.writeSync(file, safetensorsHeader(sized))
  for (const [name, dtype, , bytes] of sized) {
    const data =
      dtype === 'U32'
        ? randomFillSync(Buffer.alloc(bytes))
        : Buffer.from(new Uint16Array(bytes / 2).fill(bfloat16(name)).buffer)
    fs.writeSync(file, data)
  }
  fs.closeSync(file)
  fs.writeFileSync(join(folder, 'config.json'), JSON.stringify(CONFIG))
  fs.renameSync(partial, join(folder, 'model.safetensors'))
}

const { values: flags } = parseArgs({
  options: {
    streams: { type: 'string', default: '1,4,8,16' },
    prompt: { type: 'string', default: '32' },
    tokens: { type: 'string', default: '96' },
    rounds: { type: 'string', default: '3' },
    device: { type: 'string', default: 'cpu' },
    precision: { type: 'string' },
    model: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const counts = flags.streams.split(',').map(Number)
const [promptTokens, maxTokens, rounds] = [flags.prompt, flags.tokens, flags.rounds].map(Number)

const synthetic = join(buildDir, 'serve', 'llama-4bit')
if (flags.model === undefined && !fs.existsSync(join(synthetic, 'model.safetensors'))) {
  writeModel(synthetic)
}
const model = await loadModel(flags.model ?? synthetic, {
  device: flags.device,
  precision: flags.precision,
  maxSequences: Math.max(...counts),
  // Rounds have the same prompts, which each is to read anew.
  prefixCache: false,
})
const { vocabularySize, eosTokens } = model.info
const logitBias = Object.fromEntries(eosTokens.map((token) => [token, -100]))

/** Tokens per second of all streams together, while all of them write and of the whole. */
async function measure(streams) {
  const begun = performance.now()
  const written = await Promise.all(
    Array.from({ length: streams }, async (_, stream) => {
      const prompt = Array.from(
        { length: promptTokens },
        (_, index) => (1000 + 37 * stream + 11 * index) % vocabularySize,
      )
      const times = []
      const options = { temperature: 0, maxTokens, logitBias }
      for await (const chunk of model.generate({ tokens: prompt }, options)) {
        times.push(...chunk.tokens.map(() => performance.now()))
      }
      return times
    }),
  )
  const from = Math.max(...written.map((times) => times[0]))
  const to = Math.min(...written.map((times) => times.at(-1)))
  const all = written.flat()
  const rate = (count, ms) => (ms > 0 ? (1000 * count) / ms : NaN)
  return {
    writing: rate(all.filter((time) => time > from && time <= to).length, to - from),
    whole: rate(all.length, Math.max(...all) - begun),
  }
}

await measure(1)
const samples = counts.map(() => [])
for (let round = 0; round < rounds; round++) {
  for (const [index, streams] of counts.entries()) samples[index].push(await measure(streams))
  const rates = samples.map((it) => it.at(-1)).map((it) => [it.writing, it.whole])
  process.stderr.write(
    `round ${round + 1}: ${rates.map((it) => it.map((rate) => rate.toFixed(1)).join('/')).join(' ')}\n`,
  )
}
/** The medians of a number of streams, and how many times those of one stream they are. */
const medians = counts.map((streams, index) => {
  const kinds = ['writing', 'whole'].map((kind) => {
    const rates = samples[index].map((sample) => sample[kind])
    const ratios = rates.map((rate, round) => rate / samples[0][round][kind])
    return [kind, { rate: median(rates), ratio: counts[0] === 1 ? median(ratios) : undefined }]
  })
  return { streams, ...Object.fromEntries(kinds) }
})
if (flags.json) {
  console.log(JSON.stringify(medians))
} else {
  console.log(
    '| Streams | Tokens/s while all write | × one stream | with the prompts | × one stream |',
  )
  console.log('|---|---|---|---|---|')
  for (const { streams, writing, whole } of medians) {
    const cells = [writing, whole].flatMap(({ rate, ratio }) => [
      rate.toFixed(1),
      ratio?.toFixed(2) ?? '–',
    ])
    console.log(`| ${[streams, ...cells].join(' | ')} |`)
  }
}
await model.dispose()
