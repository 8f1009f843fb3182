import { PulledGeneration } from '../generation.js'
import type { LoadedModel } from '../model.js'
import type { GenerateOptions, Model } from '../types.js'
import type { Arguments, FlagValues } from './arguments.js'
import { EXIT, UsageError } from './errors.js'
import { bytes, duration, modelLine, rate } from './format.js'
import { interruptible, loadWithBar } from './loading.js'
import { write } from './output.js'
import { loadSettings, modelName } from './settings.js'
import { styleFor } from './style.js'

const MOST = 1_000_000

interface Round {
  promptTokensPerSecond: number
  tokensPerSecond: number
  timeToFirstTokenMs: number
  completionTokens: number
  peakMemoryBytes: number
}

/** `nodemlx bench [model]`. */
export async function bench({ flags, positionals }: Arguments): Promise<number> {
  if (positionals.length > 1 || (positionals.length > 0 && flags.has('model')))
    throw new UsageError('give one model', 'bench')
  const name = positionals[0] ?? modelName(flags)
  const load = loadSettings(flags)
  const generated = flags.integer('max-tokens', 128, 2, MOST)
  const rounds = flags.integer('rounds', 3, 1, 1000)
  return interruptible(async (signal) => {
    const started = performance.now()
    // Rounds have the same prompt, which each is to read anew.
    const model = await loadWithBar(name, { ...load, prefixCache: false, signal })
    const loadMs = performance.now() - started
    try {
      const prompt = randomTokens(promptLength(flags, model, generated), model)
      const options: GenerateOptions = { maxTokens: generated, temperature: 0, signal }
      // The first round compiles kernels and touches memory for the first time.
      await measure(model, prompt, options)
      const measured: Round[] = []
      while (measured.length < rounds && !signal.aborted) {
        measured.push(await measure(model, prompt, options))
      }
      if (signal.aborted) return EXIT.interrupted
      const facts = {
        model: name,
        loadMs,
        promptTokens: prompt.length,
        rounds: measured,
        median: median(measured),
      }
      await write(
        flags.has('json')
          ? `${JSON.stringify({ ...facts, info: model.info })}\n`
          : report(facts, model),
      )
      return EXIT.ok
    } finally {
      await model.dispose()
    }
  })
}

function promptLength(flags: FlagValues, model: Model, generated: number): number {
  const { contextLength = MOST } = model.info
  const room = contextLength - generated
  if (room < 1) {
    throw new UsageError(
      `--max-tokens: the model's context holds ${contextLength} tokens, prompt included`,
    )
  }
  if (flags.has('prompt-tokens')) return flags.integer('prompt-tokens', 512, 1, room)
  return Math.min(512, room)
}

/**
 * Tokens without a meaning, the same in each run (a linear congruential generator with the
 * constants of Numerical Recipes).
 */
function randomTokens(count: number, { info }: Model): number[] {
  let state = 1
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * info.vocabularySize)
  })
}

/** End tokens do not end a round, so that all rounds are alike. */
async function measure(
  model: LoadedModel,
  tokens: number[],
  options: GenerateOptions,
): Promise<Round> {
  const start = model.prepare({ kind: 'tokens', tokens }, options, { ignoreEos: true })
  const { usage, timings, peakMemoryBytes } = await new PulledGeneration(start(), options)
  const { promptTokensPerSecond, tokensPerSecond, timeToFirstTokenMs } = timings
  return {
    promptTokensPerSecond,
    tokensPerSecond,
    timeToFirstTokenMs,
    completionTokens: usage.completionTokens,
    peakMemoryBytes,
  }
}

/** The median of each figure on its own. */
function median(rounds: readonly Round[]): Round {
  const middle = (field: keyof Round): number => {
    const values = rounds.map((round) => round[field]).sort((a, b) => a - b)
    const half = values.length / 2
    return ((values[Math.ceil(half) - 1] ?? 0) + (values[Math.floor(half)] ?? 0)) / 2
  }
  return {
    promptTokensPerSecond: middle('promptTokensPerSecond'),
    tokensPerSecond: middle('tokensPerSecond'),
    timeToFirstTokenMs: middle('timeToFirstTokenMs'),
    completionTokens: middle('completionTokens'),
    peakMemoryBytes: Math.max(...rounds.map((round) => round.peakMemoryBytes)),
  }
}

function report(
  facts: {
    model: string
    loadMs: number
    promptTokens: number
    rounds: readonly Round[]
    median: Round
  },
  model: Model,
): string {
  const style = styleFor(process.stdout)
  const { median: middle, rounds } = facts
  const spread = (field: keyof Round): string => {
    const values = rounds.map((round) => round[field])
    return rounds.length < 2
      ? ''
      : style.dim(`  (${rate(Math.min(...values))} to ${rate(Math.max(...values))})`)
  }
  const row = (label: string, amount: string, value: string, more = ''): string =>
    `${style.cyan(label.padEnd(12))}${amount.padStart(12)}  ${value.padStart(14)}${more}\n`
  return [
    `${style.bold(facts.model)}: ${modelLine(model.info)}\n`,
    row(
      'reading',
      `${facts.promptTokens} tokens`,
      `${rate(middle.promptTokensPerSecond)} tokens/s`,
      spread('promptTokensPerSecond'),
    ),
    row(
      'writing',
      `${middle.completionTokens} tokens`,
      `${rate(middle.tokensPerSecond)} tokens/s`,
      spread('tokensPerSecond'),
    ),
    row('first token', '', duration(middle.timeToFirstTokenMs)),
    row('loading', bytes(model.info.bytes), duration(facts.loadMs)),
    row('peak memory', '', bytes(middle.peakMemoryBytes)),
  ].join('')
}
