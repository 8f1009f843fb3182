import { setImmediate as realTurn } from 'node:timers'
import { NodeMlxError } from '../errors.js'
import type {
  NativeBatch,
  NativeGeneration,
  NativeLogprob,
  NativePiece,
  NativeResult,
} from '../native.js'
import type { Step } from './answers.js'
import type { Play } from './limits.js'
import { decode } from './vocabulary.js'

/** How far the work goes on while nobody takes what was made: as far as the engine's. */
const AHEAD = 256

/** What a generation is about to do. */
export interface Plan extends Play {
  /** What of an answer in a format the prompt has begun. */
  openText: string
  promptTokens: number
  cachedTokens: number
  /** With how many candidates each token comes; `undefined` for none at all. */
  logprobs: number | undefined
  /** Whether it says what came of speculation: nothing, for nothing is guessed. */
  speculates: boolean
  /** How long it may take. */
  maxTimeMs: number | undefined
}

/** A generation of a fake model: the addon's side of one. */
export class ScriptedGeneration implements NativeGeneration {
  readonly #plan: Promise<Plan>
  readonly #onEnd: (tokens?: readonly number[]) => void
  readonly #started = performance.now()
  readonly #made: number[] = []
  #reasoningTokens = 0
  #firstToken: number | undefined
  #promptRead: number | undefined
  /** The next step. */
  #at = 0
  /** When the last step was done. */
  #clock = 0
  #ended: { aborted: true } | { error: unknown } | undefined
  #reported = false
  #wake: () => void = () => undefined
  readonly #interrupted = new Promise<void>((resolve) => {
    this.#wake = resolve
  })

  /** `onEnd` is called once, with the tokens that were made; without them after a failure. */
  constructor(plan: Promise<Plan>, onEnd: (tokens?: readonly number[]) => void) {
    this.#plan = plan
    this.#onEnd = onEnd
    // Nobody may ever ask.
    plan.catch(() => {
      this.#report(true)
    })
  }

  async next(): Promise<NativeBatch> {
    await this.#unlessEnded(new Promise<void>((resolve) => void realTurn(resolve)))
    const plan = await this.#unlessEnded(this.#plan)
    if (this.#hasEnded()) return this.#end(plan)
    if (plan === undefined) throw new NodeMlxError('INTERNAL_ERROR', 'the plan is missing')
    if (this.#promptRead === undefined) return this.#readPrompt(plan)
    const step = plan.steps[this.#at]
    if (step === undefined) return this.#end(plan)
    return (await this.#wait(plan, this.#clock + step.ms)) ?? this.#take(plan)
  }

  abort(): void {
    this.#interrupt({ aborted: true })
  }

  /** Ends it with an error. */
  fail(error: unknown): void {
    this.#interrupt({ error })
  }

  #hasEnded(): boolean {
    return this.#ended !== undefined
  }

  #interrupt(end: { aborted: true } | { error: unknown }): void {
    if (this.#ended !== undefined || this.#reported) return
    this.#ended = end
    this.#wake()
    // What it holds is free at once, whether anyone asks for more or not.
    this.#report('error' in end || this.#promptRead === undefined)
  }

  #report(failed: boolean): void {
    if (this.#reported) return
    this.#reported = true
    if (failed) this.#onEnd()
    else this.#onEnd(this.#made)
  }

  /** What comes of a promise, or `undefined` where the generation ends before. */
  async #unlessEnded<T>(promise: Promise<T>): Promise<T | undefined> {
    return Promise.race([promise, this.#interrupted.then(() => undefined)])
  }

  async #until(time: number): Promise<void> {
    // Timers can be a little early.
    for (let ms = time - performance.now(); ms > 0; ms = time - performance.now()) {
      if (this.#hasEnded()) return
      let timer: NodeJS.Timeout | undefined
      await this.#unlessEnded(
        new Promise<void>((resolve) => {
          timer = setTimeout(resolve, Math.ceil(ms))
        }),
      )
      clearTimeout(timer)
    }
  }

  /** Waits until something is due; gives the end where the generation ends before. */
  async #wait(plan: Plan, due: number): Promise<NativeBatch | undefined> {
    const deadline = this.#deadline(plan)
    await this.#until(Math.min(due, deadline))
    if (this.#hasEnded()) return this.#end(plan)
    if (due <= deadline) return undefined
    const { maxTimeMs: number = 0 } = plan
    return this.#end({ ...plan, finishReason: 'length', matched: { kind: 'time', number } })
  }

  #deadline({ maxTimeMs = Number.POSITIVE_INFINITY }: Plan): number {
    return this.#started + maxTimeMs
  }

  async #readPrompt(plan: Plan): Promise<NativeBatch> {
    const end = await this.#wait(plan, this.#started + plan.promptMs)
    if (end !== undefined) return end
    this.#promptRead = this.#clock = performance.now()
    const { promptTokens: total, cachedTokens: cached, openText } = plan
    return {
      text: '',
      tokens: new Uint32Array(),
      ...(openText === '' ? {} : { openText }),
      prefill: { processed: total, total, cached },
    }
  }

  /** All steps that are done by now; steps that take no time come one by one. */
  #take(plan: Plan): NativeBatch {
    const { steps, logprobs } = plan
    const now = Math.min(performance.now(), this.#deadline(plan))
    const taken: Step[] = []
    let tokens = 0
    for (;;) {
      const step = steps[this.#at]
      if (step === undefined || tokens >= AHEAD) break
      const isFirst = taken.length === 0
      if (!isFirst && (step.ms === 0 || step.error !== undefined || this.#clock + step.ms > now))
        break
      if (step.error !== undefined) {
        this.#report(true)
        throw step.error as Error
      }
      this.#clock += step.ms
      this.#at++
      tokens += step.tokens.length
      taken.push(step)
    }
    // Who comes late finds no more than was made ahead.
    if (tokens >= AHEAD || taken.every(({ ms }) => ms === 0)) this.#clock = performance.now()
    this.#firstToken ??= tokens > 0 ? now : undefined
    return this.#batch(taken, logprobs)
  }

  #batch(steps: readonly Step[], logprobs: number | undefined): NativeBatch {
    const tokens = steps.flatMap((step) => step.tokens)
    const pieces: NativePiece[] = steps.flatMap((step) =>
      step.piece === undefined ? [] : [{ ...step.piece, tokens: step.tokens.length }],
    )
    this.#made.push(...tokens)
    for (const piece of pieces)
      if (piece.type === 'reasoning') this.#reasoningTokens += piece.tokens
    return {
      text: pieces.map(({ type, text }) => (type === 'text' ? text : '')).join(''),
      tokens: Uint32Array.from(tokens),
      ...(logprobs === undefined
        ? {}
        : { logprobs: tokens.map((token) => logprob(token, logprobs)) }),
      pieces,
      rawText: steps.map(({ raw }) => raw).join(''),
    }
  }

  #end(plan: Plan | undefined): NativeBatch {
    this.#report(false)
    if (this.#ended !== undefined && 'error' in this.#ended) throw this.#ended.error as Error
    const finishReason = this.#ended === undefined ? (plan?.finishReason ?? 'stop') : 'abort'
    return { text: '', tokens: new Uint32Array(), done: this.#result(plan, finishReason) }
  }

  #result(plan: Plan | undefined, finishReason: NativeResult['finishReason']): NativeResult {
    const now = performance.now()
    const { promptTokens = 0, cachedTokens = 0, matched, rawLength } = plan ?? {}
    const promptRead = this.#promptRead ?? now
    const first = this.#firstToken ?? now
    const perSecond = (tokens: number, ms: number): number =>
      tokens > 0 && ms > 0 ? (tokens * 1000) / ms : 0
    return {
      finishReason,
      ...(matched === undefined || finishReason === 'abort' ? {} : { matched }),
      ...(rawLength === undefined || finishReason === 'abort' ? {} : { rawLength }),
      usage: {
        promptTokens,
        completionTokens: this.#made.length,
        cachedTokens,
        reasoningTokens: this.#reasoningTokens,
      },
      timings: {
        queueMs: 0,
        prepareMs: 0,
        prefillMs: promptRead - this.#started,
        timeToFirstTokenMs: first - this.#started,
        promptTokensPerSecond: perSecond(promptTokens, promptRead - this.#started),
        tokensPerSecond: perSecond(this.#made.length - 1, now - first),
        totalMs: now - this.#started,
      },
      ...(plan?.speculates === true
        ? { speculation: { drafted: 0, accepted: 0, steps: this.#made.length } }
        : {}),
      peakMemoryBytes: 1_000_000,
    }
  }
}

/** A token that was certain, and others that were not. */
function logprob(token: number, candidates: number): NativeLogprob {
  const candidate = (number: number, probability: number): Omit<NativeLogprob, 'top'> => ({
    token: number,
    logprob: Math.log(probability),
    text: decode([number]),
  })
  const top = Array.from({ length: candidates }, (_, rank) =>
    candidate(rank === 0 ? token : rank - 1 < token ? rank - 1 : rank, 0.9 / 10 ** rank),
  )
  return { ...candidate(token, 0.9), top }
}
