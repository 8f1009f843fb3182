import { adapterPart } from './adapter.js'
import { invalidArgument } from './errors.js'
import type { NativeScored, NativeScores, NativeScoreRequest } from './native.js'
import {
  ANY_TOKEN,
  checkPrompt,
  checkText,
  nativePrompt,
  nativeTextOrTokens,
  textOrTokens,
  type TextOrTokens,
} from './prompt.js'
import type {
  DecideOptions,
  Decision,
  ModelInfo,
  Score,
  ScoredToken,
  ScoreOptions,
} from './types.js'
import { nonEmptyString, show } from './validate.js'

/** What {@link scoreOrder} and {@link decideOrder} give: all but the number of the evaluation. */
export type ScoreOrder = Omit<NativeScoreRequest, 'evaluation'>

/** Checks what may follow a prompt. */
function checkContinuation(value: unknown, where: string): TextOrTokens {
  const checked = textOrTokens(value, where)
  if (typeof checked === 'string') return nonEmptyString(checked, where)
  if (checked.tokens.length === 0) throw invalidArgument(`${where}.tokens`, 'is empty')
  return checked
}

/** The order of `model.score`. */
export function scoreOrder(
  prompt: unknown,
  continuation: unknown,
  options: ScoreOptions,
  info: ModelInfo,
): ScoreOrder {
  const { top, ...others } = options
  const alternatives = top === undefined ? {} : { top }
  if (continuation !== undefined) {
    const checked = checkContinuation(continuation, 'continuation')
    const scored = order(checkPrompt(prompt, others), [checked], others, info)
    return { ...scored, ...alternatives }
  }
  return { ...order(checkText(prompt, promptPart(others)), [], others, info), ...alternatives }
}

/** The order of `model.decide`. */
export function decideOrder(
  prompt: unknown,
  choices: unknown,
  options: DecideOptions,
  info: ModelInfo,
): ScoreOrder {
  return order(checkPrompt(prompt, options), checkChoices(choices), options, info)
}

function checkChoices(choices: unknown): string[] {
  if (!Array.isArray(choices) || choices.length === 0)
    throw invalidArgument('choices', `expected an array of strings, got ${show(choices)}`)
  const checked = Array.from(choices, (choice: unknown, index) =>
    nonEmptyString(choice, `choices[${index}]`),
  )
  const again = checked.findIndex((choice, index) => checked.indexOf(choice) !== index)
  if (again !== -1) throw invalidArgument(`choices[${again}]`, 'is there twice')
  return checked
}

function order(
  prompt: ReturnType<typeof checkPrompt>,
  continuations: readonly TextOrTokens[],
  options: DecideOptions,
  info: ModelInfo,
): ScoreOrder {
  return {
    prompt: nativePrompt(prompt, info, promptPart(options)),
    continuations: continuations.map((it) => nativeTextOrTokens(it, 'continuation', info)),
    ...adapterPart(options),
  }
}

/** Those of the options that are about the prompt. */
function promptPart(options: DecideOptions): DecideOptions {
  const part = { ...options }
  delete part.signal
  delete part.adapter
  return part
}

/** What `model.score` gives. */
export function score({ promptTokens, continuations }: NativeScores): Score {
  const [scored] = continuations
  const logprobs = Array.from(scored?.logprobs ?? [])
  const logprob = sum(logprobs)
  return {
    logprob,
    perplexity: Math.exp(-logprob / logprobs.length),
    promptTokens,
    tokens: logprobs.map((logprob, index) => ({
      token: scored?.tokens[index] ?? ANY_TOKEN,
      ...text(scored, index),
      logprob,
      ...top(scored, index),
    })),
  }
}

function text(scored: NativeScored | undefined, index: number): { text?: string } {
  const text = scored?.texts?.[index]
  return text === undefined ? {} : { text }
}

// Objects of the addon are made again, as they may be of another realm.
function top(scored: NativeScored | undefined, index: number): Pick<ScoredToken, 'top'> {
  const top = scored?.top?.[index] ?? []
  return top.length === 0 ? {} : { top: Array.from(top, (candidate) => ({ ...candidate })) }
}

/** What `model.decide` gives. */
export function decision<Choice extends string>(
  choices: readonly Choice[],
  { continuations }: NativeScores,
): Decision<Choice> {
  const logprobs = continuations.map(({ logprobs }) => sum(Array.from(logprobs)))
  const most = Math.max(...logprobs)
  const weights = logprobs.map((logprob) => Math.exp(logprob - most))
  const total = sum(weights)
  const index = logprobs.indexOf(most)
  const choice = choices.reduce((best, each, at) => (at === index ? each : best))
  const byChoice = (values: readonly number[]): Record<Choice, number> =>
    Object.fromEntries(choices.map((choice, at) => [choice, values[at]])) as Record<Choice, number>
  return {
    choice,
    index,
    probabilities: byChoice(weights.map((weight) => weight / total)),
    logprobs: byChoice(logprobs),
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0)
}
