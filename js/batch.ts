import { codeOf, invalidArgument } from './errors.js'
import { onAbort } from './signal.js'
import type { BatchItem, Generation, Prompt } from './types.js'
import { show } from './validate.js'

/** How a batch runs. */
export interface BatchSettings {
  /** Whether items come in the order of their prompts. */
  ordered: boolean
  /** How many prompts are under way at the same time. */
  concurrency: number
  /** How many answers each prompt gets. */
  answers: number
  signal: AbortSignal | undefined
}

/**
 * How many times as many as run may have begun and not been taken: the results of a slow reader,
 * or of those who wait for an earlier one.
 */
const BEGUN = 4

/** An iterator over prompts, of either kind. */
export function iterator(
  prompts: Iterable<Prompt> | AsyncIterable<Prompt>,
): Iterator<Prompt> | AsyncIterator<Prompt> {
  // A string can be iterated, and is one prompt.
  if (typeof prompts === 'object' && (prompts as unknown) !== null) {
    if (Symbol.asyncIterator in prompts) return prompts[Symbol.asyncIterator]()
    if (Symbol.iterator in prompts) return prompts[Symbol.iterator]()
  }
  throw invalidArgument('prompts', `expected prompts that can be iterated, got ${show(prompts)}`)
}

/** Generates for all prompts, and gives what comes of each. */
export async function* runBatch(
  prompts: Iterator<Prompt> | AsyncIterator<Prompt>,
  generate: (prompt: Prompt, answer: number) => Generation,
  settings: BatchSettings,
): AsyncGenerator<BatchItem, undefined, undefined> {
  const batch = new Batch(prompts, generate, settings)
  try {
    for (;;) {
      const item = await batch.next()
      if (item === undefined) return
      yield item
    }
  } finally {
    await batch.close()
  }
}

/** The seed of an answer, of several to one prompt: the same would make them the same. */
export function seedOfAnswer(seed: number, answer: number): number {
  return seed <= Number.MAX_SAFE_INTEGER - answer ? seed + answer : answer
}

class Batch {
  readonly #prompts: Iterator<Prompt> | AsyncIterator<Prompt>
  readonly #generate: (prompt: Prompt, answer: number) => Generation
  readonly #settings: BatchSettings
  readonly #running = new Set<Generation>()
  /** What nobody has taken yet, by its number. */
  readonly #items = new Map<number, BatchItem>()
  /** The prompt that has begun last, as long as it has answers to come. */
  #prompt: Prompt | undefined
  /** How many answers have begun, and how many items were taken. */
  #begun = 0
  #taken = 0
  /** Whether a prompt is being asked for, and whether there are no more. */
  #asks = false
  #ended = false
  /** What the prompts have thrown, which comes behind what had begun. */
  #thrown: { error: unknown } | undefined
  /** What ends the whole batch: the model is no more. */
  #failure: { error: unknown } | undefined
  #wake: () => void = () => undefined
  readonly #forgetSignal: (() => void) | undefined

  constructor(
    prompts: Iterator<Prompt> | AsyncIterator<Prompt>,
    generate: (prompt: Prompt, answer: number) => Generation,
    settings: BatchSettings,
  ) {
    this.#prompts = prompts
    this.#generate = generate
    this.#settings = settings
    const { signal } = settings
    this.#ended = signal?.aborted === true
    this.#forgetSignal =
      signal &&
      onAbort(signal, () => {
        this.#ended = true
        this.#wake()
      })
  }

  /** The next item, or `undefined` at the end. */
  async next(): Promise<BatchItem | undefined> {
    for (;;) {
      this.#beginMore()
      const item = this.#take()
      if (item !== undefined) return item
      if (this.#failure !== undefined) throw this.#failure.error
      if (this.#ended && this.#taken === this.#begun) {
        if (this.#thrown !== undefined) throw this.#thrown.error
        return undefined
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** Ends what is under way, and the prompts. */
  async close(): Promise<void> {
    this.#forgetSignal?.()
    const exhausted = this.#ended && this.#settings.signal?.aborted !== true
    this.#ended = true
    for (const generation of this.#running) generation.abort()
    if (exhausted) return
    const closed = this.#prompts.return?.()
    // Prompts that are being waited for would hold up their end.
    if (!this.#asks) await closed
    else if (closed !== undefined && 'then' in closed) closed.then(undefined, () => undefined)
  }

  #take(): BatchItem | undefined {
    const [first] = this.#items.keys()
    const number = this.#settings.ordered ? this.#taken : first
    const item = number === undefined ? undefined : this.#items.get(number)
    if (number === undefined || item === undefined) return undefined
    this.#items.delete(number)
    this.#taken += 1
    return item
  }

  #hasRoom(): boolean {
    const { concurrency } = this.#settings
    const waiting = this.#begun - this.#taken
    return this.#running.size < concurrency && waiting < BEGUN * concurrency
  }

  /** Begins as many as there is room for; asynchronous prompts go on by themselves. */
  #beginMore(): void {
    while (!this.#asks && !this.#ended && this.#failure === undefined && this.#hasRoom()) {
      try {
        if (this.#prompt !== undefined) {
          this.#begin(this.#prompt)
          continue
        }
        const next = this.#prompts.next()
        if ('then' in next) this.#wait(next)
        else this.#found(next)
      } catch (error) {
        this.#endWith(error)
      }
    }
  }

  #wait(next: Promise<IteratorResult<Prompt>>): void {
    this.#asks = true
    next
      .then(
        (result) => {
          this.#asks = false
          if (!this.#ended) this.#found(result)
        },
        (error: unknown) => {
          this.#asks = false
          this.#endWith(error)
        },
      )
      .finally(() => {
        this.#beginMore()
        this.#wake()
      })
  }

  #endWith(error: unknown): void {
    this.#thrown ??= { error }
    this.#ended = true
  }

  #found(next: IteratorResult<Prompt, unknown>): void {
    if (next.done === true) this.#ended = true
    else this.#begin(next.value)
  }

  #begin(prompt: Prompt): void {
    const { answers } = this.#settings
    const number = this.#begun++
    const [index, answer] = [Math.floor(number / answers), number % answers]
    this.#prompt = answer + 1 < answers ? prompt : undefined
    let generation: Generation
    try {
      generation = this.#generate(prompt, answer)
    } catch (error) {
      this.#add(number, { index, answer, error })
      return
    }
    this.#running.add(generation)
    generation.result
      .then(
        (result) => ({ index, answer, result }),
        (error: unknown) => ({ index, answer, error }),
      )
      .then((item) => {
        this.#running.delete(generation)
        this.#add(number, item)
        this.#beginMore()
        this.#wake()
      })
      .catch((error: unknown) => {
        this.#fail(error)
      })
  }

  #add(number: number, item: BatchItem): void {
    // Every other prompt would have this error.
    if ('error' in item && codeOf(item.error) === 'DISPOSED') this.#fail(item.error)
    else this.#items.set(number, item)
  }

  #fail(error: unknown): void {
    this.#failure ??= { error }
    this.#wake()
  }
}
