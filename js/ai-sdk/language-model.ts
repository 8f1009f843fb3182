import { randomUUID } from 'node:crypto'
import type {
  LanguageModelV4,
  LanguageModelV4CallOptions,
  LanguageModelV4GenerateResult,
  LanguageModelV4StreamPart,
  LanguageModelV4StreamResult,
  SharedV4Warning,
} from '@ai-sdk/provider'
import { codeOf, NodeMlxError } from '../errors.js'
import type { Lease, ModelPool } from '../model-pool.js'
import type { Generation, GenerationChunk, Model } from '../types.js'
import { toOrder, type Order } from './call-options.js'
import { Parts, toContent, toFinishReason, toMetadata, toUsage } from './parts.js'

/** An answer that is being generated, by a model that stays until it ends. */
interface Running {
  generation: Generation
  warnings: SharedV4Warning[]
  lease: Lease
}

/** Options that a call can do without, where a model does not have what they need. */
const DISPENSABLE = new Set(['reasoning', 'parallelToolCalls'])

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
    const { generation, warnings, lease } = await this.#begin(call)
    try {
      const parts = new Parts()
      const all: LanguageModelV4StreamPart[] = []
      for await (const chunk of generation) all.push(...parts.of(chunk))
      const result = await generation.result
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
      discardDead(lease, error)
      throw error
    } finally {
      lease.release()
    }
  }

  async doStream(call: LanguageModelV4CallOptions): Promise<LanguageModelV4StreamResult> {
    const response = this.#response()
    const { generation, warnings, lease } = await this.#begin(call)
    const { provider } = this
    async function* parts(): AsyncGenerator<LanguageModelV4StreamPart, undefined> {
      yield { type: 'stream-start', warnings }
      yield { type: 'response-metadata', ...response }
      const made = new Parts()
      try {
        for await (const chunk of generation as AsyncIterable<GenerationChunk>) {
          if (call.includeRawChunks === true) yield { type: 'raw', rawValue: chunk }
          yield* made.of(chunk)
        }
      } catch (error) {
        discardDead(lease, error)
        throw error
      }
      const result = await generation.result
      throwIfAborted(call.abortSignal)
      yield* made.end()
      yield {
        type: 'finish',
        finishReason: toFinishReason(result),
        usage: toUsage(result),
        providerMetadata: toMetadata(result, provider),
      }
    }
    return {
      stream: toStream(parts(), call.abortSignal, () => {
        lease.release()
      }),
    }
  }

  #response(): { id: string; timestamp: Date; modelId: string } {
    return { id: randomUUID(), timestamp: new Date(), modelId: this.modelId }
  }

  async #begin(call: LanguageModelV4CallOptions): Promise<Running> {
    const order = toOrder(call, this.provider)
    const lease = await this.#pool.use(this.modelId, call.abortSignal)
    try {
      return { generation: generate(lease.model, order), warnings: order.warnings, lease }
    } catch (error) {
      lease.release()
      throw error
    }
  }
}

/** Begins to generate; an option that the model cannot honour and need not is warned of. */
function generate(model: Model, { messages, options, warnings }: Order): Generation {
  try {
    return model.generate(messages, options)
  } catch (error) {
    const option = error instanceof NodeMlxError ? (error.option ?? '') : ''
    if (!(error instanceof NodeMlxError) || error.code !== 'UNSUPPORTED') throw error
    if (!DISPENSABLE.has(option) || !(option in options)) throw error
    warnings.push({ type: 'unsupported', feature: option, details: error.message })
    const others = Object.entries(options).filter(([name]) => name !== option)
    return generate(model, { messages, options: Object.fromEntries(others), warnings })
  }
}

/** The next call gets a model that lives. */
function discardDead(lease: Lease, error: unknown): void {
  if (codeOf(error) === 'ENGINE_FAILED') lease.discard()
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  signal?.throwIfAborted()
}

/** A stream that waits for its reader. */
function toStream(
  parts: AsyncGenerator<LanguageModelV4StreamPart, undefined>,
  signal: AbortSignal | undefined,
  onEnd: () => void,
): ReadableStream<LanguageModelV4StreamPart> {
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
        // Leaving the loop in it ends the generation.
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
