// npm run bench:speculation [-- --rounds 5 --tokens 128 --device cpu --model MODEL --draft MODEL]:
// how fast a model writes with speculation, as a multiple of its speed without, through the API.
// Every round writes each text both ways, one right after the other; the figures are medians.

import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { loadModel } from 'nodemlx'
import { root } from '../scripts/lib/project.mjs'
import { median } from './common/benchmarks.mjs'

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    tokens: { type: 'string', default: '128' },
    device: { type: 'string', default: 'cpu' },
    model: { type: 'string', default: 'demo' },
    draft: { type: 'string', default: join(root, 'models', 'demo-draft') },
  },
})
const [rounds, maxTokens] = [flags.rounds, flags.tokens].map(Number)

const plain = await loadModel(flags.model, { device: flags.device })
const drafted = await loadModel(flags.model, { device: flags.device, draftModel: flags.draft })

const LIST = 'apple, bread, cheese, dog, egg, fish, garden, house, island, jacket, king, lamp, '
const TOPICS = ['a cat', 'a king', 'the sea', 'a garden']
const STORIES = TOPICS.map((topic) => `Tell me a story about ${topic}.`)
/** A small model repeats a token for ever at any temperature, unless it is kept from that. */
const NOISE = { temperature: 3, seed: 1, repetitionPenalty: 1.3, minTokens: maxTokens }

/** Texts, and how they are written. */
const CASES = [
  {
    name: 'repeats its prompt, lookup',
    model: plain,
    prompts: [{ text: LIST.repeat(4) }],
    options: { temperature: 0 },
  },
  { name: 'stories, lookup', model: plain, prompts: STORIES, options: { temperature: 0 } },
  {
    name: 'noise, lookup',
    model: plain,
    prompts: [{ text: 'Once' }, { text: 'The' }],
    options: NOISE,
  },
  {
    name: 'counting, draft model',
    model: drafted,
    prompts: ['Count from 1 to 40.'],
    options: { temperature: 0 },
  },
  { name: 'stories, draft model', model: drafted, prompts: STORIES, options: { temperature: 0 } },
  {
    name: 'noise, draft model',
    model: drafted,
    prompts: [{ text: 'Once' }, { text: 'The' }],
    options: NOISE,
  },
]

/** Tokens per second after the first token, and what came of speculation. */
async function measure({ model, prompts, options }, speculation) {
  let [tokens, seconds, steps, made] = [0, 0, 0, 0]
  for (const prompt of prompts) {
    const result = await model.generate(prompt, { ...options, maxTokens, speculation })
    const after = result.tokens.length - 1
    tokens += after
    seconds += after / result.timings.tokensPerSecond
    steps += result.speculation?.steps ?? 0
    made += result.tokens.length
  }
  return { rate: tokens / seconds, perStep: steps > 0 ? made / steps : 1 }
}

console.log('| Text | Tokens/s without | Tokens/s with | × | Tokens in a step |')
console.log('|---|---|---|---|---|')
for (const each of CASES) {
  await measure(each, 'auto')
  const [without, withIt] = [[], []]
  for (let round = 0; round < rounds; round++) {
    without.push(await measure(each, false))
    withIt.push(await measure(each, 'auto'))
  }
  const ratio = median(withIt.map(({ rate }, round) => rate / without[round].rate))
  const rates = [without, withIt].map((all) => median(all.map(({ rate }) => rate)).toFixed(0))
  const perStep = median(withIt.map((it) => it.perStep)).toFixed(2)
  console.log(`| ${each.name} | ${rates.join(' | ')} | ${ratio.toFixed(2)} | ${perStep} |`)
}
await Promise.all([plain.dispose(), drafted.dispose()])
