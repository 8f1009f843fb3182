import { randomUUID } from 'node:crypto'
import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4GenerateResult,
  LanguageModelV4StreamPart,
  LanguageModelV4StreamResult,
  SharedV4Warning,
} from '@ai-sdk/provider'
import { NodeMlxError } from '../errors.js'
import { answerPieces } from '../generation.js'
import type { Lease, ModelPool } from '../model-pool.js'
import type { AnswerPiece, Generation, GenerationResult } from '../types.js'
import { byCalledName, toOrder, type Order } from './call-options.js'
import { Parts, toContent, toFinishReason, toMetadata, toUsage } from './parts.js'

/** An answer that is being generated, by a model that stays until it ends. */
class Running {
  readonly lease: Lease
  readonly #order: Order
  #generation: Generation

  constructor(lease: Lease, order: Order) {
    this.lease = lease
    this.#order = order
    this.#generation = lease.model.generate(order.messages, order.options)
  }

  /** Complete when there is a first chunk. */
  get warnings(): SharedV4Warning[] {
    return this.#order.warnings
  }

  get result(): Promise<GenerationResult> {
    return this.#generation.result
  }

  abort(): void {
    this.#generation.abort()
  }

  /** What comes; an option that the model cannot honour and need not is warned of and left out. */
  async *chunks(): AsyncGenerator<AnswerPiece, undefined> {
    for (;;) {
      let hasBegun = false
      try {
        for await (const chunk of answerPieces(this.#generation)) {
          hasBegun = true
          yield chunk
        }
        return
      } catch (error) {
        const option = hasBegun ? undefined : dispensableOf(error, this.#order)
        if (option === undefined) throw error
        const { messages, options } = this.#order
        const others = Object.entries(options).filter(([name]) => name !== option)
        this.#order.options = Object.fromEntries(others)
        this.#generation = this.lease.model.generate(messages, this.#order.options)
      }
    }
  }
}

/** Options that a call can do without, where a model does not have what they need. */
const DISPENSABLE = new Set(['reasoning'])

/** The option because of which an order failed, where it can do without; there is a warning then. */
function dispensableOf(error: unknown, { options, warnings }: Order): string | undefined {
  if (!(error instanceof NodeMlxError) || error.code !== 'UNSUPPORTED') return undefined
  const { option, message } = error
  if (option === undefined || !DISPENSABLE.has(option) || !(option in options)) return undefined
  warnings.push({ type: 'unsupported', feature: option, details: message })
  return option
}

/** A language model of the AI SDK. */
export class NodeMlxLanguageModel implements LanguageModelV4 {
  readonly specificationVersion = 'v4'
  readonly provider: string
  readonly modelId: string
  /** Files reach the model as text only. */
  readonly supportedUrls: Record<string, RegExp[]> = {}
  readonly #pool: ModelPool

  constructor(modelId: string, provider: string, pool: ModelPool) {
    this.modelId = modelId
    this.provider = provider
    this.#pool = pool
  }

  async doGenerate(call: LanguageModelV4CallOptions): Promise<LanguageModelV4GenerateResult> {
    const response = this.#response()
    const running = await this.#begin(call)
    const { warnings, lease } = running
    try {
      const parts = new Parts()
      const all: LanguageModelV4StreamPart[] = []
      for await (const chunk of running.chunks()) all.push(...parts.of(chunk))
      const result = await running.result
      throwIfAborted(call.abortSignal)
      return {
        content: toContent(all),
        finishReason: toFinishReason(result),
        usage: toUsage(result),
        providerMetadata: toMetadata(result, this.provider),
        response,
        warnings,
      }
    } catch (error) {
      lease.discardDead(error)
      throw error
    } finally {
      lease.release()
    }
  }

  async doStream(call: LanguageModelV4CallOptions): Promise<LanguageModelV4StreamResult> {
    const response = this.#response()
    const running = await this.#begin(call)
    const { warnings, lease } = running
    const { provider } = this
    async function* parts(): AsyncGenerator<LanguageModelV4StreamPart, undefined> {
      const made = new Parts()
      const chunks = running.chunks()
      try {
        // Before it a model may yet refuse an option.
        const first = await settled(chunks.next())
        yield { type: 'stream-start', warnings }
        yield { type: 'response-metadata', ...response }
        for (let next = first(); next.done !== true; next = await chunks.next()) {
          if (call.includeRawChunks === true) yield { type: 'raw', rawValue: next.value }
          yield* made.of(next.value)
        }
      } catch (error) {
        lease.discardDead(error)
        throw error
      } finally {
        await chunks.return(undefined)
      }
      const result = await running.result
      throwIfAborted(call.abortSignal)
      yield* made.end()
      yield {
        type: 'finish',
        finishReason: toFinishReason(result),
        usage: toUsage(result),
        providerMetadata: toMetadata(result, provider),
      }
    }
    return { stream: toStream(parts(), call.abortSignal, running) }
  }

  #response(): { id: string; timestamp: Date; modelId: string } {
    return { id: randomUUID(), timestamp: new Date(), modelId: this.modelId }
  }

  async #begin(call: LanguageModelV4CallOptions): Promise<Running> {
    const order = toOrder(call, this.provider)
    const start = (lease: Lease): Running => new Running(lease, order)
    try {
      return (await this.#pool.start(this.modelId, call.abortSignal, start)).value
    } catch (error) {
      throw byCalledName(error)
    }
  }
}

/** Waits for a promise; what comes back gives its value, or throws what it was rejected with. */
async function settled<T>(promise: Promise<T>): Promise<() => T> {
  try {
    const value = await promise
    return () => value
  } catch (error) {
    return () => {
      throw error
    }
  }
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  signal?.throwIfAborted()
}

/** A stream that waits for its reader. */
function toStream(
  parts: AsyncGenerator<LanguageModelV4StreamPart, undefined>,
  signal: AbortSignal | undefined,
  running: Running,
): ReadableStream<LanguageModelV4StreamPart> {
  const onEnd = (): void => {
    running.lease.release()
  }
  return new ReadableStream<LanguageModelV4StreamPart>(
    {
      async pull(controller) {
        try {
          const { value, done } = await parts.next()
          if (done !== true) {
            controller.enqueue(value)
            return
          }
        } catch (error) {
          if (signal?.aborted === true) {
            onEnd()
            throw error
          }
          controller.enqueue({ type: 'error', error })
          controller.enqueue(failed(error))
        }
        onEnd()
        controller.close()
      },
      async cancel() {
        // What is being waited for ends, too.
        running.abort()
        await parts.return(undefined)
        onEnd()
      },
    },
    { highWaterMark: 0 },
  )
}

function failed(error: unknown): LanguageModelV4StreamPart {
  const nothing = {
    total: undefined,
    noCache: undefined,
    cacheRead: undefined,
    cacheWrite: undefined,
  }
  return {
    type: 'finish',
    finishReason: { unified: 'error', raw: error instanceof NodeMlxError ? error.code : undefined },
    usage: {
      inputTokens: nothing,
      outputTokens: { total: undefined, text: undefined, reasoning: undefined },
    },
  }
}
