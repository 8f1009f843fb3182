// Each instruction set that this machine has, in a process of its own: what a generation writes is
// the same alone and beside others. Between instruction sets it may differ.

import { describe, expect, it } from 'vitest'
import { runModule } from './support/child.js'

const PROGRAM = `
import { loadModel } from 'nodemlx'

const say = (value) => console.log(JSON.stringify(value))
let model
try {
  model = await loadModel('demo', { device: 'cpu', prefixCache: false, maxSequences: 8 })
} catch ({ code, message }) {
  say({ code, message })
  process.exit()
}
const orders = [
  ['What is the capital of France?', { temperature: 0 }],
  ['Tell me a story.', { temperature: 0.8, seed: 1 }],
  ['Count from 1 to 20.', { temperature: 0 }],
  [{ tokens: Array.from({ length: 40 }, (_, place) => 300 + 7 * place) }, { temperature: 0.8, seed: 2 }],
  ['Name three animals.', { temperature: 1, seed: 3, topP: 0.9 }],
]
const run = async ([prompt, options], more) => {
  const all = { minTokens: 20, maxTokens: 20, ...options, ...more }
  const { tokens, logprobs } = await model.generate(prompt, all)
  return { tokens, logprobs }
}
const outcome = {}
for (const [name, more] of [['usual', {}], ['deterministic', { deterministic: true, logprobs: 2 }]]) {
  const alone = []
  for (const order of orders) alone.push(await run(order, more))
  outcome[name] = { alone, beside: await Promise.all(orders.map((order) => run(order, more))) }
}
await model.dispose()
say(outcome)
`

interface Written {
  tokens: number[]
  logprobs?: unknown
}

interface Outcome {
  code?: string
  message?: string
  usual?: { alone: Written[]; beside: Written[] }
  deterministic?: { alone: Written[]; beside: Written[] }
}

async function run(name: string): Promise<Outcome> {
  const { code, stdout, stderr } = await runModule(PROGRAM, {
    environment: { NODEMLX_SIMD: name },
    timeoutMs: 150_000,
  })
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout) as Outcome
}

describe('an instruction set', () => {
  it.each(['portable', 'avx2', 'avxvnni', 'avx512', 'neon', 'neondot'])(
    'writes the same alone and beside others: %s',
    { timeout: 160_000 },
    async (name) => {
      const { code, message, usual, deterministic } = await run(name)
      if (code !== undefined) {
        // This machine has it not, and says which ones it has.
        expect({ name, code }).not.toEqual({ name: 'portable', code })
        expect(code).toBe('INVALID_ARGUMENT')
        expect(message).toMatch(/NODEMLX_SIMD.*portable/)
        expect(message).not.toMatch(new RegExp(`but .*\\b${name}\\b`))
        return
      }
      expect(usual?.alone.every(({ tokens }) => tokens.length === 20)).toBe(true)
      expect(usual?.beside).toEqual(usual?.alone)
      expect(deterministic?.beside).toEqual(deterministic?.alone)
    },
  )
})
