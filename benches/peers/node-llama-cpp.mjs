// One round of node-llama-cpp: node node-llama-cpp.mjs FOLDER MODEL PROMPT TOKENS THREADS
// [STREAMS], where FOLDER has it installed. Prints JSON; of several streams, sequences of one
// batch, the tokens per second of all together while all of them write.

import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const [folder, modelPath, prompt, tokens, threads, streams] = process.argv.slice(2)
const entry = createRequire(resolve(folder, 'package.json')).resolve('node-llama-cpp')
const { getLlama } = await import(pathToFileURL(entry).href)

const started = performance.now()
const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error' })
const model = await llama.loadModel({ modelPath })
const promptLength = Number(prompt)
const contextSize = promptLength + Number(tokens) + 64
const context = await model.createContext({
  contextSize,
  threads: Number(threads),
  sequences: Number(streams ?? 1),
})

/** A prompt of a stream's own. */
const words = (stream) =>
  Array.from({ length: promptLength }, (_, index) => 300 + ((stream * 101 + index * 37) % 30000))

/** When each token was there. */
async function written(sequence, prompt) {
  const times = []
  const options = { temperature: 0, yieldEogToken: true }
  for await (const token of sequence.evaluate(prompt, options)) {
    times.push(performance.now())
    if (token === undefined || times.length > Number(tokens)) break
  }
  return times
}

async function one() {
  const sequence = context.getSequence()
  const prompt = words(0)
  const loaded = performance.now()
  await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, -1))
  const read = performance.now()
  const times = await written(sequence, prompt.slice(-1))
  return {
    load: (loaded - started) / 1000,
    prefill: ((promptLength - 1) * 1000) / (read - loaded),
    decode: ((times.length - 1) * 1000) / (times.at(-1) - times[0]),
    resident: process.memoryUsage.rss() / 1e6,
  }
}

async function several() {
  const sequences = Array.from({ length: Number(streams) }, () => context.getSequence())
  const all = await Promise.all(
    sequences.map((sequence, stream) => written(sequence, words(stream))),
  )
  const from = Math.max(...all.map((times) => times[0]))
  const to = Math.min(...all.map((times) => times.at(-1)))
  const count = all.flat().filter((time) => time > from && time <= to).length
  return { decode: (1000 * count) / (to - from) }
}

const figures = await (streams === undefined ? one() : several())
process.stdout.write(`${JSON.stringify(figures)}\n`)
await llama.dispose()
