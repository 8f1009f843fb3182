// How late JavaScript's timers are while a model loads and generates: the engine works on threads
// of its own, and must not hold up the event loop.
//
//     node benches/event-loop.mjs [model]
//
// A 10 ms timer runs all the time. For each phase: how long it took, and how late the timer was
// (the median, the 99th percentile and the worst), against the same timer while nothing else goes
// on.

import { setTimeout as sleep } from 'node:timers/promises'
import { loadModel } from 'nodemlx'

const PERIOD_MS = 10

/** Runs a task, and measures how late a timer is meanwhile. */
async function delaysDuring(task) {
  const delays = []
  let expected = performance.now() + PERIOD_MS
  let timer
  const tick = () => {
    const now = performance.now()
    delays.push(Math.max(0, now - expected))
    expected = now + PERIOD_MS
    timer = setTimeout(tick, PERIOD_MS)
  }
  timer = setTimeout(tick, PERIOD_MS)
  const start = performance.now()
  const value = await task()
  const ms = performance.now() - start
  // A timer that is due but was held up until the end counts, too.
  if (performance.now() > expected) tick()
  clearTimeout(timer)
  delays.sort((a, b) => a - b)
  const at = (part) => delays[Math.min(delays.length - 1, Math.floor(part * delays.length))] ?? 0
  return {
    value,
    ms,
    ticks: delays.length,
    median: at(0.5),
    p99: at(0.99),
    worst: delays.at(-1) ?? 0,
  }
}

const name = process.argv[2] ?? 'demo'
const rows = []
async function phase(label, task) {
  const { value, ms, ticks, median, p99, worst } = await delaysDuring(task)
  const [took, ...late] = [ms, median, p99, worst].map((number) => number.toFixed(1).padStart(9))
  rows.push(`${label.padEnd(28)}${took}${String(ticks).padStart(7)}${late.join('')}`)
  return value
}

await phase('nothing', () => sleep(1000))
const model = await phase('loading', () => loadModel(name))
const { contextLength = 4096, vocabularySize, eosTokens } = model.info
const endless = Object.fromEntries(eosTokens.map((token) => [token, -100]))
const long = Array.from({ length: Math.min(512, contextLength - 1) }, (_, n) => n % vocabularySize)
await phase(`reading ${long.length} tokens`, () =>
  model.generate({ tokens: long }, { maxTokens: 1 }),
)
const options = { maxTokens: 128, logitBias: endless, temperature: 1 }
await phase('writing 128 tokens', () => model.generate({ tokens: [1] }, options))
await phase('writing 128, read one by one', async () => {
  for await (const { text } of model.generate({ tokens: [1] }, options)) text.at(0)
})
await phase('4 generations at once', () =>
  Promise.all(
    [1, 2, 3, 4].map((seed) =>
      model.generate({ tokens: [1] }, { ...options, seed, maxTokens: 32 }),
    ),
  ),
)
await phase('giving back', () => model.dispose())

console.log(
  `How late a ${PERIOD_MS} ms timer is (ms), with ${name} on the ${model.info.device}, Node.js ${process.versions.node}`,
)
console.log(
  `${'while'.padEnd(28)}${'took'.padStart(9)}${'ticks'.padStart(7)}${'median'.padStart(9)}${'99 %'.padStart(9)}${'worst'.padStart(9)}`,
)
for (const row of rows) console.log(row)
