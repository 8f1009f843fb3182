// One round of node-llama-cpp: node node-llama-cpp.mjs FOLDER MODEL PROMPT TOKENS THREADS, where
// FOLDER has it installed. Prints JSON.

import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const [folder, modelPath, prompt, tokens, threads] = process.argv.slice(2)
const entry = createRequire(resolve(folder, 'package.json')).resolve('node-llama-cpp')
const { getLlama } = await import(pathToFileURL(entry).href)

const started = performance.now()
const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error' })
const model = await llama.loadModel({ modelPath })
const promptLength = Number(prompt)
const contextSize = promptLength + Number(tokens) + 64
const context = await model.createContext({ contextSize, threads: Number(threads) })
const sequence = context.getSequence()
const words = Array.from({ length: promptLength }, (_, index) => 300 + ((index * 37) % 30000))

const loaded = performance.now()
await sequence.evaluateWithoutGeneratingNewTokens(words.slice(0, -1))
const read = performance.now()
let count = 0
let first
for await (const token of sequence.evaluate(words.slice(-1), {
  temperature: 0,
  yieldEogToken: true,
})) {
  first ??= performance.now()
  if (token === undefined || count++ === Number(tokens)) break
}
const end = performance.now()
process.stdout.write(
  `${JSON.stringify({
    load: (loaded - started) / 1000,
    prefill: ((promptLength - 1) * 1000) / (read - loaded),
    decode: ((count - 1) * 1000) / (end - first),
    resident: process.memoryUsage.rss() / 1e6,
  })}\n`,
)
await llama.dispose()
