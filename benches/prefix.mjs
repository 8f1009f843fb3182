// npm run bench:prefix [-- --tokens 4096 --new 32 --rounds 5 --conversations 100 --shared 2000
// --device cpu --model FOLDER]: how long the first token of a conversation takes that goes on from
// one which was read before, against the same without that; what keeping what is read costs a
// stream that finds nothing; and how often a beginning is read that many conversations have, all of
// which come at once.
//
// Without a model it is small ones with weights that mean nothing, one for each kind of cache: keys
// and values of every position, windows, the same with sinks, chunks, latent vectors, states of
// recurrences and of convolutions, and both in one layer or in several.

import * as fs from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { loadModel } from 'nodemlx'
import { buildDir, root } from '../scripts/lib/project.mjs'
import { median, safetensorsHeader } from './common/benchmarks.mjs'

const FIXTURES = [
  'llama',
  'gemma3-text',
  'gpt-oss',
  'llama4-text',
  'deepseek-v3',
  'mamba2',
  'rwkv7',
  'lfm2',
  'falcon-h1',
  'qwen3-next',
]

const { values: flags } = parseArgs({
  options: {
    tokens: { type: 'string', default: '4096' },
    new: { type: 'string', default: '32' },
    rounds: { type: 'string', default: '5' },
    conversations: { type: 'string', default: '100' },
    shared: { type: 'string', default: '2000' },
    device: { type: 'string', default: 'cpu' },
    model: { type: 'string' },
  },
})
const [length, added, rounds] = [flags.tokens, flags.new, flags.rounds].map(Number)
const [conversations, shared] = [flags.conversations, flags.shared].map(Number)
const ANSWER = 16

/** Numbers from 0 to 1: a linear congruential generator, the constants of Numerical Recipes. */
function randomNumbers(seed) {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

/** The bytes of a fixture's tensor, of numbers in the range that it names. */
function bytes([dtype, shape, rule], random) {
  const [low, high, step] = rule.uniform ?? rule.grid
  const count = shape.reduce((a, b) => a * b)
  const numbers = Float32Array.from({ length: count }, () =>
    step === undefined
      ? low + (high - low) * random()
      : low + step * Math.floor(random() * ((high - low) / step + 1)),
  )
  if (dtype === 'F32') return Buffer.from(numbers.buffer)
  return Buffer.from(
    Uint16Array.from(new Uint32Array(numbers.buffer), (bits) => bits >>> 16).buffer,
  )
}

/** A fixture with other weights and a longer context. */
function writeModel(name, folder) {
  const path = join(root, 'tests', 'fixtures', 'models', `${name}.json`)
  const { config, files } = JSON.parse(fs.readFileSync(path, 'utf8'))
  const { tensors } = files['model.safetensors']
  const random = randomNumbers(1)
  const data = Object.values(tensors).map((facts) => bytes(facts, random))
  const sized = Object.entries(tensors).map(([tensor, [dtype, shape]], index) => {
    return [tensor, dtype, shape, data[index].length]
  })
  const header = safetensorsHeader(sized, { format: 'mlx' })
  fs.mkdirSync(folder, { recursive: true })
  fs.writeFileSync(join(folder, 'model.safetensors'), Buffer.concat([header, ...data]))
  fs.writeFileSync(
    join(folder, 'config.json'),
    JSON.stringify({ ...config, max_position_embeddings: 131_072 }),
  )
  return folder
}

async function measure(folder) {
  const load = (prefixCache) => loadModel(folder, { device: flags.device, prefixCache })
  const [model, plain] = [await load({}), await load(false)]
  const { vocabularySize, eosTokens } = model.info
  const options = {
    temperature: 0,
    maxTokens: ANSWER,
    logitBias: Object.fromEntries(eosTokens.map((token) => [token, -100])),
  }
  const samples = { cold: [], warm: [], ratio: [], overhead: [] }
  for (let round = 0; round <= rounds; round++) {
    const random = randomNumbers(round)
    const tokens = (count) =>
      Array.from({ length: count }, () => Math.floor(random() * vocabularySize))
    const beginning = tokens(length)
    const read = (one) => one.generate({ tokens: beginning }, options)
    const first = round % 2 === 0 ? await read(plain) : undefined
    const reading = await read(model)
    const without = first ?? (await read(plain))
    const next = [...beginning, ...reading.tokens, ...tokens(added)]
    const cold = await plain.generate({ tokens: next }, options)
    const warm = await model.generate({ tokens: next }, options)
    if (reading.usage.cachedTokens >= added || warm.usage.cachedTokens < length)
      throw new Error(`${folder}: ${warm.usage.cachedTokens} tokens were cached`)
    // The first round touches memory for the first time.
    if (round === 0) continue
    const [slow, fast] = [cold, warm].map(({ timings }) => timings.timeToFirstTokenMs)
    samples.cold.push(slow)
    samples.warm.push(fast)
    samples.ratio.push(fast / slow)
    samples.overhead.push(reading.timings.totalMs / without.timings.totalMs - 1)
  }
  await model.dispose()
  await plain.dispose()
  return Object.fromEntries(Object.entries(samples).map(([name, all]) => [name, median(all)]))
}

/** How often the beginning of conversations that all come at once is read. */
async function readings(folder) {
  const model = await loadModel(folder, { device: flags.device, prefixCache: {} })
  const random = randomNumbers(rounds + 1)
  const tokens = (count) =>
    Array.from({ length: count }, () => Math.floor(random() * model.info.vocabularySize))
  const beginning = tokens(shared)
  const prompts = Array.from({ length: conversations }, () => [...beginning, ...tokens(added)])
  const answer = (prompt) => model.generate({ tokens: prompt }, { maxTokens: 2 })
  const answers = await Promise.all(prompts.map(answer))
  await model.dispose()
  const read = answers.map(({ usage }) => usage.promptTokens - usage.cachedTokens)
  return read.reduce((sum, count) => sum + Math.max(0, count - added), 0) / shared
}

const models =
  flags.model === undefined
    ? FIXTURES.map((name) => [name, writeModel(name, join(buildDir, 'prefix', name))])
    : [[flags.model, flags.model]]
console.log(
  `| Model | ${length} + ${added} tokens, cold | warm | warm / cold | a single stream | ${shared} tokens of ${conversations} are read |`,
)
console.log('|---|---|---|---|---|---|')
for (const [name, folder] of models) {
  const { cold, warm, ratio, overhead } = await measure(folder)
  const percent = (part) => `${(100 * part).toFixed(1)} %`
  const times = [cold, warm].map((ms) => `${ms.toFixed(1)} ms`)
  const cost = `${overhead < 0 ? '' : '+'}${percent(overhead)}`
  const often = `${(await readings(folder)).toFixed(2)} times`
  console.log(`| ${name} | ${times.join(' | ')} | ${percent(ratio)} | ${cost} | ${often} |`)
}
