import type {
  EmbeddingModelV4,
  EmbeddingModelV4CallOptions,
  EmbeddingModelV4Result,
} from '@ai-sdk/provider'
import { boolean, nonEmptyString, type Check } from '../validate.js'
import type { EmbedOptions } from '../types.js'
import type { ModelPool } from '../model-pool.js'
import { headerWarnings } from './headers.js'
import { ownFields } from './own-fields.js'

/** Options for this provider alone: `providerOptions: { nodemlx: { … } }`. */
export type NodeMlxEmbeddingModelOptions = Pick<EmbedOptions, 'task' | 'normalize' | 'truncate'>

const OWN_FIELDS = {
  task: nonEmptyString,
  normalize: boolean,
  truncate: boolean,
} satisfies Record<keyof NodeMlxEmbeddingModelOptions, Check<unknown>>

/** An embedding model of the AI SDK. */
export class NodeMlxEmbeddingModel implements EmbeddingModelV4 {
  readonly specificationVersion = 'v4'
  /** A call takes as many texts as it gets, some of them at a time. */
  readonly maxEmbeddingsPerCall = Number.POSITIVE_INFINITY
  readonly supportsParallelCalls = true
  readonly provider: string
  readonly modelId: string
  readonly #pool: ModelPool

  constructor(modelId: string, provider: string, pool: ModelPool) {
    this.modelId = modelId
    this.provider = provider
    this.#pool = pool
  }

  async doEmbed(call: EmbeddingModelV4CallOptions): Promise<EmbeddingModelV4Result> {
    const { values, dimensions, abortSignal, headers, providerOptions } = call
    const own = ownFields(providerOptions, this.provider, OWN_FIELDS)
    const rows = await this.#pool.with(this.modelId, abortSignal, (model) =>
      model.embed(values, { ...own, dimensions, signal: abortSignal }),
    )
    const embeddings = rows.map((row) => Array.from(row))
    return { embeddings, usage: { tokens: rows.tokens }, warnings: headerWarnings(headers) }
  }
}
