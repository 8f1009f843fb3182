// node --expose-gc soak.mjs --generations 2000 --at-once 16 --seed 1 ADAPTER…: many generations of
// every kind at once, on the demo model with its draft model and adapters of it. Each ends by
// itself, is aborted, left, thrown out of or refused, as its number says. All must end as that kind
// does, those that are `deterministic` must write what they write alone, and no memory may stay
// behind: after each of four rounds, when nothing runs, it is measured. Prints its figures as JSON.

import { createRequire } from 'node:module'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { loadModel } from 'nodemlx'

const root = join(import.meta.dirname, '..', '..')

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    generations: { type: 'string', default: '2000' },
    'at-once': { type: 'string', default: '16' },
    seed: { type: 'string', default: '1' },
  },
})
const [count, atOnce, seed] = [values.generations, values['at-once'], values.seed].map(Number)
const ROUNDS = 4

/** What all generations may take: some have to wait for the memory of others. */
const MEMORY = 12e6

/**
 * How much more of it may be there at rest than after the first round: MLX keeps outputs of up to
 * 4 MiB for the next ones, and a process does not give every page back.
 */
const MOST_LEFT = { activeBytes: 2e6, rssBytes: 100e6 }

const { memoryStats, clearMemoryCache } = createRequire(import.meta.url)(
  join(root, 'dist', 'native.js'),
).getNative()

/** Numbers below what it is asked for, which follow from `start` alone. */
function random(start) {
  let state = Math.imul(start + 1, 0x9e3779b1) >>> 0 || 1
  return (below) => {
    state ^= state << 13
    state = (state ^ (state >>> 17)) >>> 0
    state = (state ^ (state << 5)) >>> 0
    return state % below
  }
}

const FORMATS = [
  { type: 'regex', pattern: '[a-z]{3,9}( [a-z]+)*' },
  { type: 'choice', options: ['yes', 'no', 'perhaps later'] },
  { type: 'grammar', lark: 'start: ("ab" | "cd")+ "."' },
  {
    type: 'json',
    schema: {
      type: 'object',
      properties: { name: { type: 'string', maxLength: 8 }, number: { type: 'integer' } },
      required: ['name', 'number'],
      additionalProperties: false,
    },
  },
]

const ENDS = ['itself', 'itself', 'itself', 'abort', 'early abort', 'leave', 'throw', 'refused']

/** What generation `number` is asked, and how it is to end. */
function order(number, { vocabularySize }, adapters) {
  const draw = random(number + 1_000_003 * seed)
  const one = (...choices) => choices[draw(choices.length)]
  const tokens = (length, from) => {
    const token = random(from)
    return Array.from({ length }, () => token(vocabularySize))
  }
  const begun = tokens(one(40, 100), draw(3))
  const prompt = one(
    { tokens: tokens(one(1, 5, 20, 90), number) },
    { tokens: [...begun, ...tokens(1 + draw(20), number)] },
    [{ role: 'user', content: one('Tell me a story.', 'Count to ten.', 'Who are you?') }],
  )
  const isFormatted = draw(6) === 0
  const options = {
    seed: draw(1000),
    temperature: one(0, 0, 0.7, 1.2),
    maxTokens: 1 + draw(one(4, 20, isFormatted ? 60 : 20)),
    priority: one(0, 0, 0, 5, -5),
    adapter: one(undefined, undefined, ...adapters),
  }
  const maybe = (chances, change) => {
    if (draw(chances) === 0) Object.assign(options, change())
  }
  maybe(4, () => ({ deterministic: true }))
  if (options.deterministic !== true) {
    maybe(2, () => ({
      speculation: one('auto', false, { draftTokens: 1 + draw(6), lookup: one(true, false) }),
    }))
  }
  if (isFormatted) options.responseFormat = one(...FORMATS)
  maybe(4, () => one({ topP: 0.9 }, { topK: 20 }, { minP: 0.05 }, { typicalP: 0.8 }))
  maybe(6, () => one({ repetitionPenalty: 1.2 }, { presencePenalty: 0.5 }, { dryMultiplier: 0.8 }))
  const byChance = () => one({ xtcProbability: 0.5 }, { dynamicTemperatureRange: 0.3 })
  maybe(8, () => (options.temperature > 0 ? byChance() : {}))
  maybe(8, () => ({ logitBias: { [draw(vocabularySize)]: 5 } }))
  maybe(5, () => ({ logprobs: draw(4) }))
  maybe(5, () => one({ kvBits: 8 }, { maxKvSize: 32 }))
  maybe(6, () => one({ stop: ['e'] }, { stop: /[,.]/ }, { stopTokens: [draw(vocabularySize)] }))
  if (!isFormatted) maybe(9, () => ({ bannedStrings: ['the', ' a'] }))
  maybe(20, () => ({ maxTimeMs: 1 + draw(200) }))
  const ends = options.maxTimeMs === undefined ? one(...ENDS) : 'itself'
  return { prompt, options, ends, after: draw(options.maxTokens), wrong: draw(2) }
}

/** The code of the error that a generation is refused with. */
async function codeOf(model, prompt, options) {
  try {
    await model.generate(prompt, options)
    return 'none'
  } catch (error) {
    return error.code
  }
}

/** Lets a generation run to its end; says what is wrong with that, and what it wrote. */
async function run(model, { prompt, options, ends, after, wrong }) {
  const says = (is, what) => (is ? undefined : what)
  if (ends === 'refused' && wrong === 0) {
    const large = { ...options, kvBits: undefined, maxTokens: 10 ** 8, maxKvSize: 10 ** 8 }
    const code = await codeOf(model, prompt, large)
    return { wrong: says(code === 'INSUFFICIENT_MEMORY', code) }
  }
  if (ends === 'refused') {
    const code = await codeOf(model, { tokens: [model.info.vocabularySize] }, options)
    return { wrong: says(code === 'INVALID_ARGUMENT', code) }
  }
  if (ends === 'itself') {
    const { finishReason, tokens, matched } = await model.generate(prompt, options)
    const isWhole =
      finishReason === 'stop' ||
      (finishReason === 'length' &&
        (tokens.length === options.maxTokens || matched?.type === 'time'))
    return { wrong: says(isWhole, `${finishReason} after ${tokens.length}`), tokens }
  }
  const controller = new AbortController()
  const generation = model.generate(prompt, { ...options, signal: controller.signal })
  if (ends === 'early abort') controller.abort()
  const thrown = new Error('thrown on purpose')
  let seen = 0
  try {
    for await (const chunk of generation) {
      seen += chunk.tokens?.length ?? 0
      if (seen <= after) continue
      if (ends === 'leave') return {}
      if (ends === 'throw') throw thrown
      controller.abort()
    }
  } catch (error) {
    return { wrong: says(error === thrown, String(error)) }
  }
  const { finishReason } = await generation
  const expected = ends === 'early abort' ? ['abort'] : ['abort', 'length', 'stop']
  return { wrong: says(expected.includes(finishReason), finishReason) }
}

/** Other work that an engine has beside generations. */
async function workBeside(model, number) {
  await model.score({ tokens: [1 + (number % 90), 2, 3, 4] }, { tokens: [5, 6] })
  const cache = model.createPromptCache()
  await model.generate({ tokens: [7, 8, 9] }, { promptCache: cache, maxTokens: 2, seed: 1 })
  await cache.dispose()
  for await (const { error } of model.generateBatch(['A', 'B', 'C'], { maxTokens: 2, n: 2 })) {
    if (error !== undefined) throw error
  }
}

/** The memory that is taken when nothing runs. */
async function memoryAtRest(model) {
  await model.clearPrefixCache()
  clearMemoryCache()
  globalThis.gc?.()
  const { activeBytes } = memoryStats()
  return { activeBytes, rssBytes: process.memoryUsage.rss() }
}

const model = await loadModel('demo', {
  device: 'cpu',
  draftModel: join(root, 'models', 'demo-draft'),
  maxSequences: Math.max(1, atOnce - 2),
  memoryBytes: MEMORY,
})
const adapters = await Promise.all(positionals.map((path) => model.loadAdapter(path)))
const ended = Object.fromEntries(ENDS.map((end) => [end, 0]))
const failures = []
const rounds = []
let [compared, tokensWritten] = [0, 0]
const started = performance.now()
for (let round = 0; round < ROUNDS; round++) {
  const promised = []
  let next = Math.floor((round * count) / ROUNDS)
  const end = Math.floor(((round + 1) * count) / ROUNDS)
  const worker = async () => {
    while (next < end) {
      const number = next++
      const asked = order(number, model.info, adapters)
      if (number % 25 === 0) await workBeside(model, number)
      const { wrong, tokens = [] } = await run(model, asked)
      ended[asked.ends]++
      tokensWritten += tokens.length
      if (wrong !== undefined) failures.push(`${number} (${asked.ends}) ended wrong: ${wrong}`)
      const { deterministic, maxTimeMs } = asked.options
      if (asked.ends === 'itself' && deterministic === true && maxTimeMs === undefined) {
        promised.push([number, tokens])
      }
    }
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  for (const [number, tokens] of promised) {
    const { prompt, options } = order(number, model.info, adapters)
    const alone = await model.generate(prompt, options)
    compared++
    if (alone.tokens.join() !== tokens.join()) failures.push(`${number} writes otherwise alone`)
  }
  rounds.push(await memoryAtRest(model))
}
const seconds = (performance.now() - started) / 1000
const [first, last] = [rounds[0], rounds[ROUNDS - 1]]
for (const [name, most] of Object.entries(MOST_LEFT)) {
  const left = last[name] - first[name]
  if (left > most) failures.push(`${name} grew by ${left} since the first round`)
}
await model.dispose()
clearMemoryCache()
const activeBytesAfter = memoryStats().activeBytes
const figures = { count, atOnce, seconds, ended, tokensWritten, compared, rounds }
console.log(JSON.stringify({ ...figures, activeBytesAfter, failures }, undefined, 2))
if (failures.length > 0) process.exitCode = 1
