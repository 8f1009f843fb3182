import { AsyncResource } from 'node:async_hooks'
import { callBack } from './callbacks.js'
import { codeOf, fromNative, invalidArgument } from './errors.js'
import type { NativeBatch, NativePiece, NativeResult } from './native.js'
import { Pieces } from './pieces.js'
import {
  checkedFormat,
  partialObjects,
  readAnswer,
  type CheckedFormat,
  type ReadAnswer,
} from './response-format.js'
import { onAbort } from './signal.js'
import type {
  AnswerPiece,
  AsyncIterableStream,
  DeepPartial,
  GeneratedToolCall,
  Generation,
  GenerationChunk,
  GenerationResult,
  MatchedStop,
  PrefillProgress,
  ResponseFormat,
} from './types.js'

/** A piece, which may be a call that could be read, and is invalid all the same. */
export type SourcePiece = NativePiece & { call?: GeneratedToolCall }

/** The end of a generation, which may be that of the context. */
export type SourceEnd = Omit<NativeResult, 'matched'> & {
  matched?: NativeResult['matched'] | { kind: 'context'; number: number }
}

/** Events, of which the last may say whether the answer ends with calls of tools. */
export type SourceBatch = Omit<NativeBatch, 'pieces' | 'done'> & {
  pieces?: SourcePiece[]
  done?: SourceEnd
  calls?: boolean
}

/**
 * Where a generation's events come from: the addon's generation, a model that is loaded first, or a
 * chat that calls tools in between.
 */
export interface Source {
  /** The next events. A source whose last batch was `done` is not asked again. */
  next(): Promise<SourceBatch>
  /** Makes the source end soon, with the finish reason `'abort'`. */
  abort(): void
}

/** The end of a generation of which nothing more is known. */
export const ABORTED: NativeResult = {
  finishReason: 'abort',
  usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
  timings: {
    queueMs: 0,
    prepareMs: 0,
    prefillMs: 0,
    timeToFirstTokenMs: 0,
    promptTokensPerSecond: 0,
    tokensPerSecond: 0,
    totalMs: 0,
  },
  peakMemoryBytes: 0,
}

/** The source of a generation that is aborted before it begins. */
export const NOTHING: Source = {
  next: () => Promise.resolve({ text: '', tokens: new Uint32Array(), done: ABORTED }),
  abort() {
    // It has ended already.
  },
}

/** What goes with a generation besides its source. */
export interface GenerationHooks {
  onPrefill?: ((progress: PrefillProgress) => void) | undefined
  signal?: AbortSignal | undefined
  responseFormat?: ResponseFormat | undefined
}

/**
 * Pulls a source's events when someone wants them, one pull at a time, and keeps them, so that
 * everyone who reads sees all of them. How far the engine runs ahead is therefore bound by the
 * fastest reader, and nothing is pulled where nobody reads.
 */
export class PulledGeneration<Value = unknown> implements Generation<Value> {
  readonly [Symbol.toStringTag] = 'Generation'
  readonly #source: Source
  readonly #onPrefill: GenerationHooks['onPrefill']
  readonly #chunks: AnswerPiece[] = []
  /** The same and what the value came to, as far as anyone has asked for that. */
  readonly #withObjects: GenerationChunk<Value>[] = []
  #nextObject: ((text: string) => { object: unknown } | undefined) | undefined
  #seen = 0
  readonly #pieces = new Pieces()
  readonly #readers = new Set<Reader<GenerationChunk>>()
  #end: { result: GenerationResult<Value> } | { error: unknown } | undefined
  /** What a callback has thrown. */
  #thrown: UserError | undefined
  #pulling: Promise<void> | undefined
  #result: Promise<GenerationResult<Value>> | undefined
  #stream: AsyncIterableStream<GenerationChunk<Value>> | undefined
  #textStream: AsyncIterableStream<string> | undefined
  #objectStream: AsyncIterableStream<DeepPartial<Value>> | undefined
  readonly #format: CheckedFormat | undefined
  /** What of an answer in a format the prompt has begun. */
  #open = ''
  #abort: { reason: unknown } | undefined
  #interrupt: () => void = () => undefined
  readonly #aborted = new Promise<void>((resolve) => {
    this.#interrupt = resolve
  })
  #forgetSignal: (() => void) | undefined

  constructor(source: Source, { onPrefill, signal, responseFormat }: GenerationHooks = {}) {
    this.#source = source
    this.#format = responseFormat && checkedFormat(responseFormat)
    // It is called for whoever pulls, and is to see the caller's AsyncLocalStorage.
    this.#onPrefill = onPrefill && AsyncResource.bind(onPrefill)
    if (signal?.aborted === true) this.abort(signal.reason)
    else if (signal !== undefined) this.#listen(signal)
  }

  /**
   * A signal can live for long, so it must not keep a generation alive that everyone has forgotten.
   */
  #listen(signal: AbortSignal): void {
    const self = new WeakRef(this)
    this.#forgetSignal = onAbort(signal, () => self.deref()?.abort(signal.reason))
  }

  abort(reason?: unknown): void {
    if (this.#end !== undefined || this.#abort !== undefined) return
    this.#abort = { reason }
    this.#interrupt()
    this.#forgetSignal?.()
    this.#source.abort()
    // It comes to its end, and what it holds is free, whether anyone reads on or not.
    this.result.catch(() => undefined)
  }

  [Symbol.asyncIterator](): AsyncIterator<GenerationChunk<Value>, undefined> {
    return this.#read(() => this.#all())
  }

  /** What the model wrote, without the values that come of it. */
  pieces(): AsyncIterableIterator<AnswerPiece, undefined> {
    return this.#read(() => this.#chunks)
  }

  get stream(): AsyncIterableStream<GenerationChunk<Value>> {
    return (this.#stream ??= toStream(
      this.#read(() => this.#all()),
      (chunk) => [chunk],
    ))
  }

  get textStream(): AsyncIterableStream<string> {
    return (this.#textStream ??= toStream(
      this.#read(() => this.#chunks),
      (chunk) => (chunk.type === 'text' && chunk.text !== '' ? [chunk.text] : []),
    ))
  }

  get partialObjectStream(): AsyncIterableStream<DeepPartial<Value>> {
    if (this.#format?.json !== true) {
      throw invalidArgument('responseFormat', "partialObjectStream needs the type 'json'")
    }
    return (this.#objectStream ??= toStream(
      this.#read(() => this.#all()),
      (chunk) => (chunk.type === 'object' ? [chunk.object] : []),
    ))
  }

  /** All pieces that there are, and what the value has come to with them. */
  #all(): readonly GenerationChunk<Value>[] {
    if (this.#format?.json !== true) return this.#chunks
    for (const chunk of this.#chunks.slice(this.#seen)) {
      this.#withObjects.push(chunk)
      if (chunk.type !== 'text') continue
      const partial = (this.#nextObject ??= partialObjects(this.#open))(chunk.text)
      if (partial === undefined) continue
      const object = partial.object as DeepPartial<Value>
      this.#withObjects.push({ type: 'object', object, tokens: [] })
    }
    this.#seen = this.#chunks.length
    return this.#withObjects
  }

  get result(): Promise<GenerationResult<Value>> {
    return (this.#result ??= this.#drain())
  }

  then<T = GenerationResult<Value>, E = never>(
    onFulfilled?: ((value: GenerationResult<Value>) => T | PromiseLike<T>) | null,
    onRejected?: ((reason: unknown) => E | PromiseLike<E>) | null,
  ): Promise<T | E> {
    return this.result.then(onFulfilled, onRejected)
  }

  catch<T = never>(
    onRejected?: ((reason: unknown) => T | PromiseLike<T>) | null,
  ): Promise<GenerationResult<Value> | T> {
    return this.then(undefined, onRejected)
  }

  finally(onFinally?: (() => void) | null): Promise<GenerationResult<Value>> {
    return this.result.finally(onFinally)
  }

  async #drain(): Promise<GenerationResult<Value>> {
    while (this.#end === undefined) await this.#pull()
    if ('error' in this.#end) throw this.#end.error
    return this.#end.result
  }

  /** Reads a list of chunks that grows with what is pulled. */
  #read<Chunk extends GenerationChunk>(chunks: () => readonly Chunk[]): Reader<Chunk> {
    const reader: Reader<Chunk> = new Reader<Chunk>(
      async (index) => {
        this.#readers.add(reader)
        while (index >= chunks().length && this.#end === undefined) await this.#pull()
        const chunk = chunks()[index]
        if (chunk !== undefined) return chunk
        this.#readers.delete(reader)
        if (this.#end !== undefined && 'error' in this.#end) throw this.#end.error
        return undefined
      },
      () => {
        this.#readers.delete(reader)
        if (this.#readers.size === 0 && this.#result === undefined) this.abort()
      },
    )
    return reader
  }

  /**
   * Takes the source's next batch; whoever comes while that is under way waits for the same one.
   * Never rejects: see `#end`.
   */
  #pull(): Promise<void> {
    this.#pulling ??= this.#take().finally(() => {
      this.#pulling = undefined
    })
    return this.#pulling
  }

  async #take(): Promise<void> {
    try {
      const batch = await this.#source.next()
      if (batch.openText !== undefined) this.#open = batch.openText
      if (batch.prefill !== undefined && this.#abort === undefined)
        this.#reportPrefill(batch.prefill)
      if (this.#thrown !== undefined) {
        await toEnd(this.#source, batch)
        throw this.#thrown
      }
      // What the engine had done ahead of an abort was seen by nobody, and is not part of the
      // answer.
      if (this.#abort === undefined) this.#chunks.push(...this.#pieces.chunks(batch))
      if (batch.done !== undefined)
        this.#finish({ result: await this.#toAnswer(batch.done, batch.calls) })
    } catch (error) {
      this.#finish(this.#toEnd(error))
    }
  }

  #toEnd(error: unknown): { result: GenerationResult<Value> } | { error: unknown } {
    if (error instanceof UserError) return { error: error.cause }
    const failure = fromNative(error)
    // Who has aborted has ended the generation, whether the model is still there or not.
    const ended = this.#abort !== undefined && failure.code === 'DISPOSED'
    return ended ? { result: this.#toResult(ABORTED) } : { error: failure }
  }

  #reportPrefill(progress: PrefillProgress): void {
    const { processed, total, cached } = progress
    callBack(this.#onPrefill, { processed, total, cached }, (error) => {
      this.#thrown = new UserError(error)
      this.#source.abort()
    })
  }

  #finish(end: { result: GenerationResult<Value> } | { error: unknown }): void {
    this.#end = end
    this.#forgetSignal?.()
  }

  /** The result, with the value of an answer in JSON. */
  async #toAnswer(done: SourceEnd, calls?: boolean): Promise<GenerationResult<Value>> {
    const result = this.#toResult(done, calls)
    const { text, toolCalls, invalidToolCalls } = result
    const called = text.trim() === '' && toolCalls.length + invalidToolCalls.length > 0
    if (this.#format?.json !== true || called) return result
    const cut = result.finishReason === 'length' || result.finishReason === 'abort'
    const answer = await this.#readAnswer(this.#open + text, this.#format, cut)
    if (answer === undefined) return this.#toResult(done, calls)
    return { ...result, ...(answer as { object?: Value }) }
  }

  /** What an answer came to; nothing where an abort ends the checks of the schema's own code. */
  async #readAnswer(
    text: string,
    format: CheckedFormat,
    cut: boolean,
  ): Promise<ReadAnswer | undefined> {
    try {
      return await Promise.race([
        readAnswer(text, format, cut),
        this.#aborted.then((): undefined => undefined),
      ])
    } catch (error) {
      throw codeOf(error) === 'INVALID_OUTPUT' ? error : new UserError(error)
    }
  }

  #toResult(done: SourceEnd, calls?: boolean): GenerationResult<Value> {
    const chunks = this.#chunks
    const tokens = chunks.flatMap((chunk) => chunk.tokens)
    const logprobs = chunks.flatMap((chunk) => chunk.logprobs ?? [])
    const aborted = this.#abort !== undefined
    const { warnings, usage, timings, speculation, peakMemoryBytes } = done
    const matched = toMatched(done.matched)
    const completionTokens = aborted ? tokens.length : usage.completionTokens
    const content = this.#pieces.content(chunks, done.rawLength)
    const called = done.finishReason === 'stop' && (calls ?? content.toolCalls.length > 0)
    return {
      ...content,
      tokens,
      ...(logprobs.length > 0 || chunks.some((chunk) => chunk.logprobs !== undefined)
        ? { logprobs }
        : {}),
      finishReason: aborted ? 'abort' : called ? 'tool-calls' : done.finishReason,
      ...(matched?.type === 'string' && !aborted ? { stopString: matched.value } : {}),
      ...(matched === undefined || aborted ? {} : { matched }),
      ...(warnings === undefined ? {} : { warnings: Array.from(warnings) }),
      ...(this.#abort?.reason === undefined ? {} : { abortReason: this.#abort.reason }),
      usage: {
        promptTokens: usage.promptTokens,
        completionTokens,
        totalTokens: usage.promptTokens + completionTokens,
        cachedTokens: usage.cachedTokens,
        reasoningTokens: Math.min(usage.reasoningTokens ?? 0, completionTokens),
      },
      timings: { ...timings, prefillMs: timings.prefillMs ?? 0 },
      ...(speculation === undefined ? {} : { speculation: { ...speculation } }),
      peakMemoryBytes,
    }
  }
}

/** An exception of the user's own code, which is to come out as it is. */
export class UserError extends Error {
  constructor(cause: unknown) {
    super('a callback has thrown', { cause })
  }
}

/** What the model writes, without the values that come of it: to make these takes time. */
export function answerPieces(
  generation: Generation,
): AsyncIterableIterator<AnswerPiece, undefined> {
  return generation instanceof PulledGeneration
    ? (generation as PulledGeneration).pieces()
    : withoutObjects(generation)
}

async function* withoutObjects(generation: Generation): AsyncGenerator<AnswerPiece, undefined> {
  for await (const chunk of generation) if (chunk.type !== 'object') yield chunk
}

/** Someone who reads a generation from its beginning. */
class Reader<Chunk> implements AsyncIterableIterator<Chunk, undefined> {
  readonly #at: (index: number) => Promise<Chunk | undefined>
  readonly #leave: () => void
  #index = 0
  #done = false

  constructor(at: (index: number) => Promise<Chunk | undefined>, leave: () => void) {
    this.#at = at
    this.#leave = leave
  }

  async next(): Promise<IteratorResult<Chunk, undefined>> {
    if (this.#done) return { done: true, value: undefined }
    try {
      // The place is taken before waiting, so that calls that do not wait for each other get
      // different pieces.
      const value = await this.#at(this.#index++)
      if (value !== undefined) return { done: false, value }
      this.#done = true
      return { done: true, value: undefined }
    } catch (error) {
      // Who has left does not want to hear of what came later.
      if (this.#done) return { done: true, value: undefined }
      this.#done = true
      throw error
    }
  }

  return(): Promise<IteratorResult<Chunk, undefined>> {
    if (!this.#done) {
      this.#done = true
      this.#leave()
    }
    return Promise.resolve({ done: true, value: undefined })
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}

/** A stream that pulls only when it is read, so that the engine waits for who reads it. */
function toStream<T, Chunk>(
  reader: Reader<Chunk>,
  values: (chunk: Chunk) => T[],
): AsyncIterableStream<T> {
  const stream = new ReadableStream<T>(
    {
      async pull(controller) {
        for (;;) {
          const { value } = await reader.next()
          if (value === undefined) {
            controller.close()
            return
          }
          const given = values(value)
          for (const item of given) controller.enqueue(item)
          if (given.length > 0) return
        }
      },
      async cancel() {
        await reader.return()
      },
    },
    { highWaterMark: 0 },
  )
  return stream as AsyncIterableStream<T>
}

/** Takes a source that was aborted to its end, whatever that is. */
async function toEnd(source: Source, batch: SourceBatch): Promise<void> {
  try {
    for (let last = batch; last.done === undefined;) last = await source.next()
  } catch {
    // The generation ends with another error.
  }
}

/** What ended an answer, in our words. */
function toMatched(native: SourceEnd['matched']): MatchedStop | undefined {
  if (native === undefined) return undefined
  const { kind, text = '', number = 0 }: { text?: string } & typeof native = native
  return kind === 'string' || kind === 'pattern'
    ? { type: kind, value: text }
    : { type: kind, value: number }
}
