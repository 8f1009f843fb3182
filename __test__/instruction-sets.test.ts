// Each instruction set that this machine has, in a process of its own: what a generation writes
// alone is the same each time, beside others it is where the generation is deterministic, and else
// tokens are about as likely. Between instruction sets it may differ.

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
  const all = { minTokens: 20, maxTokens: 20, logprobs: 2, ...options, ...more }
  const { tokens, logprobs } = await model.generate(prompt, all)
  return { tokens, logprobs }
}
const outcome = {}
for (const [name, more] of [['usual', {}], ['deterministic', { deterministic: true }]]) {
  const [alone, again] = [[], []]
  for (const order of orders) alone.push(await run(order, more))
  for (const order of orders) again.push(await run(order, more))
  const beside = await Promise.all(orders.map((order) => run(order, more)))
  outcome[name] = { alone, again, beside }
}
await model.dispose()
say(outcome)
`

interface Written {
  tokens: number[]
  logprobs: { top: { logprob: number }[] }[]
}

interface Runs {
  alone: Written[]
  again: Written[]
  beside: Written[]
}

interface Outcome {
  code?: string
  message?: string
  usual?: Runs
  deterministic?: Runs
}

async function run(name: string): Promise<Outcome> {
  const { code, stdout, stderr } = await runModule(PROGRAM, {
    environment: { NODEMLX_SIMD: name },
    timeoutMs: 150_000,
  })
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout) as Outcome
}

/**
 * Steps that are shared round otherwise. Where two tokens are about as likely that can choose the
 * other one, and what follows says nothing any more.
 */
function expectAlike(one: Written | undefined, other: Written): void {
  const parted = other.tokens.findIndex((token, place) => token !== one?.tokens[place])
  const shared = parted === -1 ? other.tokens.length : parted + 1
  for (let place = 0; place < shared; place++) {
    const likeliest = [one, other].map((it) => it?.logprobs[place]?.top[0]?.logprob ?? NaN)
    expect(Math.abs((likeliest[0] ?? NaN) - (likeliest[1] ?? NaN))).toBeLessThan(0.02)
  }
}

describe('an instruction set', () => {
  it.each(['portable', 'avx2', 'avxvnni', 'avx512', 'neon', 'neondot'])(
    'computes the same alone and beside others: %s',
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
      if (usual === undefined || deterministic === undefined) throw new Error('there are both')
      expect(usual.alone.every(({ tokens }) => tokens.length === 20)).toBe(true)
      expect(usual.again).toEqual(usual.alone)
      for (const [place, alone] of usual.alone.entries()) expectAlike(usual.beside[place], alone)
      expect(deterministic.again).toEqual(deterministic.alone)
      expect(deterministic.beside).toEqual(deterministic.alone)
    },
  )
})
