import { NodeMlxError } from '../errors.js'
import { answerPieces } from '../generation.js'
import type { AnswerPiece, GenerateOptions, Generation, GenerationResult } from '../types.js'

/**
 * An answer that is being generated. Clients ask every model how much to think: one that knows
 * nothing of that answers as it can.
 */
export class Answering {
  readonly #begin: (options: GenerateOptions) => Generation
  readonly #options: GenerateOptions
  #generation: Generation
  #reader: AsyncIterator<AnswerPiece, undefined> | undefined
  #isPlain = false
  #isAborted = false

  constructor(begin: (options: GenerateOptions) => Generation, options: GenerateOptions) {
    this.#begin = begin
    this.#options = options
    this.#generation = begin(options)
  }

  /** The next piece. */
  async next(): Promise<IteratorResult<AnswerPiece, undefined>> {
    return this.#unlessPlainer((generation) => {
      this.#reader ??= answerPieces(generation)
      return this.#reader.next()
    })
  }

  async result(): Promise<GenerationResult> {
    return this.#unlessPlainer(({ result }) => result)
  }

  abort(): void {
    this.#isAborted = true
    this.#generation.abort()
  }

  /** Asks a generation, and where it knows nothing of thinking one that is not asked to. */
  async #unlessPlainer<T>(ask: (generation: Generation) => Promise<T>): Promise<T> {
    const generation = this.#generation
    try {
      return await ask(generation)
    } catch (error) {
      const isAsked = this.#options.reasoning !== undefined
      if (!isAsked || this.#isAborted || !knowsNoReasoning(error)) throw error
      this.#goOnPlain()
      return await ask(this.#generation)
    }
  }

  /** It is refused before there is a first piece, so nothing is lost. */
  #goOnPlain(): void {
    if (this.#isPlain) return
    this.#isPlain = true
    const others = Object.entries(this.#options).filter(([name]) => name !== 'reasoning')
    this.#generation = this.#begin(Object.fromEntries(others))
    this.#reader = undefined
  }
}

function knowsNoReasoning(error: unknown): boolean {
  return (
    error instanceof NodeMlxError && error.code === 'UNSUPPORTED' && error.option === 'reasoning'
  )
}
