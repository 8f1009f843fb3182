// node answers.mjs CHECKPOINT PRECISION < PROMPTS: nodemlx's greedy answers on the CPU to prompts, an
// array of arrays of tokens, in the same form, without their end tokens.

import { text } from 'node:stream/consumers'
import { loadModel } from '../../dist/index.js'

const [checkpoint, precision] = process.argv.slice(2)
const prompts = JSON.parse(await text(process.stdin)).map((tokens) => ({ tokens }))
const model = await loadModel(checkpoint, { device: 'cpu', precision })
const options = { temperature: 0, maxTokens: 220, concurrency: 16, ordered: true }
const answers = []
for await (const { result, error } of model.generateBatch(prompts, options)) {
  if (error !== undefined) throw error
  answers.push(result.tokens.filter((token) => !model.info.eosTokens.includes(token)))
}
process.stdout.write(JSON.stringify(answers))
await model.dispose()
