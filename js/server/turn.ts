import { seedOfAnswer } from '../batch.js'
import { NodeMlxError, optionError } from '../errors.js'
import type { Lease, ModelPool } from '../model-pool.js'
import { onAbort } from '../signal.js'
import type {
  AnswerPiece,
  GenerateOptions,
  GenerationResult,
  Model,
  PrefillProgress,
  Prompt,
} from '../types.js'
import { Failure, type Names } from './failure.js'
import type { Limits } from './limits.js'
import type { Metrics } from './metrics.js'
import type { Queue } from './queue.js'
import { Answering } from './answering.js'
import type { ResponseStore } from './responses/store.js'

/** What answers requests. */
export interface Engine {
  readonly models: ModelPool
  readonly queue: Queue
  readonly limits: Limits
  readonly metrics: Metrics
  readonly responses: ResponseStore
  /** Tells of an error, where it is the server's own. */
  report(failure: Failure): void
}

/** What an API asks of a model. */
export interface Order {
  model: string
  /** Each is answered `choices` times; 0 for what is done with the model alone. */
  prompts: readonly Prompt[]
  choices: number
  options: GenerateOptions
  /** What the request calls options, where that is not what its API most often does. */
  names?: Names
}

/** Ends when the client leaves, when time is up, or when the server stops. */
export class Lifetime {
  /** Kept here: the signal of a request that is garbage is not aborted any more. */
  readonly request: Request
  readonly #controller = new AbortController()
  readonly #forget: () => void
  readonly #timer: NodeJS.Timeout

  constructor(request: Request, ms: number) {
    this.request = request
    this.#forget = onAbort(request.signal, () => {
      this.end(new Failure('timeout', 'the client has gone'))
    })
    if (request.signal.aborted) this.end(new Failure('timeout', 'the client has gone'))
    this.#timer = setTimeout(() => {
      this.end(new Failure('unavailable', `the answer took longer than ${ms} ms`))
    }, ms)
    this.#timer.unref()
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  end(reason: Failure): void {
    this.#controller.abort(reason)
  }

  /** Nothing waits any more. */
  done(): void {
    clearTimeout(this.#timer)
    this.#forget()
  }
}

/** The generations of a request, while they have places and their model stays loaded. */
export class Turn {
  readonly #metrics: Metrics
  readonly #answers: readonly Answering[]
  readonly #lease: Lease
  readonly #lifetime: Lifetime
  readonly #leave: () => void
  readonly #begun: Promise<PrefillProgress>
  #begin: (progress: PrefillProgress) => void = () => undefined

  private constructor(
    { metrics }: Engine,
    order: Order,
    lease: Lease,
    lifetime: Lifetime,
    leave: () => void,
  ) {
    this.#metrics = metrics
    this.#lease = lease
    this.#lifetime = lifetime
    this.#leave = leave
    this.#begun = new Promise((resolve) => {
      this.#begin = resolve
    })
    const answers: Answering[] = []
    this.#answers = answers
    const { model } = lease
    try {
      for (const [index, prompt] of order.prompts.entries()) {
        for (let choice = 0; choice < order.choices; choice++) {
          const options = this.#options(order, choice)
          const begin = (): Answering =>
            new Answering((options) => model.generate(prompt, options), options)
          answers.push(order.prompts.length === 1 ? begin() : aboutPrompt(index, begin))
        }
      }
    } catch (error) {
      for (const answer of answers) answer.abort()
      throw error
    }
  }

  /** Waits for places and for the model, and begins to generate. */
  static async begin(engine: Engine, order: Order, lifetime: Lifetime): Promise<Turn> {
    engine.models.find(order.model)
    const { signal } = lifetime
    const places = order.prompts.length * Math.max(order.choices, 1)
    const leave = await engine.queue.enter(places, signal)
    try {
      const start = (lease: Lease): Turn => new Turn(engine, order, lease, lifetime, leave)
      const { value } = await engine.models.start(order.model, signal, start)
      return value
    } catch (error) {
      leave()
      throw error
    }
  }

  get model(): Model {
    return this.#lease.model
  }

  get signal(): AbortSignal {
    return this.#lifetime.signal
  }

  /** Settles when one of the prompts begins to be read, while somebody waits for the answers. */
  get begun(): Promise<PrefillProgress> {
    return this.#begun
  }

  /** The pieces of all answers as they come, with the number of the answer. */
  async *pieces(): AsyncGenerator<{ index: number; piece: AnswerPiece }, undefined> {
    const next = (index: number) =>
      this.#answers[index]?.next().then((result) => ({ index, result })) ??
      Promise.reject(new Error())
    const waiting = new Map(this.#answers.map((_, index) => [index, next(index)]))
    while (waiting.size > 0) {
      const { index, result } = await this.#checked(Promise.race(waiting.values()))
      if (result.done === true) {
        waiting.delete(index)
      } else {
        waiting.set(index, next(index))
        yield { index, piece: result.value }
      }
      this.#throwWhereEnded()
    }
  }

  /** A finished answer. */
  async answer(index: number): Promise<GenerationResult> {
    const answering = this.#answers[index]
    if (answering === undefined) throw new Error(`there is no answer ${index}`)
    const answer = await this.#checked(answering.result())
    this.#throwWhereEnded()
    this.#count(answer)
    return answer
  }

  /** All answers. */
  answers(): Promise<GenerationResult[]> {
    return Promise.all(this.#answers.map((_, index) => this.answer(index)))
  }

  /** Ends what still runs, and gives the places and the model back. */
  async end(): Promise<void> {
    for (const answer of this.#answers) answer.abort()
    // Until then the engine works for it.
    const ends = await Promise.allSettled(this.#answers.map((answer) => answer.result()))
    for (const end of ends) {
      if (end.status === 'fulfilled' && end.value.finishReason === 'abort')
        this.#metrics.aborted.add(1)
    }
    this.#lease.release()
    this.#leave()
    this.#lifetime.done()
  }

  #options({ options }: Order, choice: number): GenerateOptions {
    const { seed } = options
    // Options that were left out may be none of this version's.
    const given = Object.entries(options).filter(([, value]) => value !== undefined)
    return {
      ...(Object.fromEntries(given) as GenerateOptions),
      ...(seed === undefined ? {} : { seed: seedOfAnswer(seed, choice) }),
      signal: this.#lifetime.signal,
      onPrefill: this.#begin,
    }
  }

  async #checked<T>(promise: Promise<T>): Promise<T> {
    try {
      return await promise
    } catch (error) {
      this.#lease.discardDead(error)
      throw error
    }
  }

  #throwWhereEnded(): void {
    this.#lifetime.signal.throwIfAborted()
  }

  #count({ usage, timings }: GenerationResult): void {
    this.#metrics.promptTokens.add(usage.promptTokens)
    this.#metrics.cachedTokens.add(usage.cachedTokens)
    this.#metrics.generatedTokens.add(usage.completionTokens)
    this.#metrics.firstToken.observe(timings.timeToFirstTokenMs / 1000)
    this.#metrics.duration.observe(timings.totalMs / 1000)
  }
}

/** Of several prompts an error says which one it is about. */
function aboutPrompt<T>(index: number, use: () => T): T {
  try {
    return use()
  } catch (error) {
    if (!(error instanceof NodeMlxError) || error.option === undefined) throw error
    const { code, option, problem = error.message } = error
    throw optionError(code, option.replace(/^prompt(?:\.\w+)?/, `prompt[${index}]`), problem)
  }
}
