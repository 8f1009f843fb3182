import type {
  RerankingModelV4,
  RerankingModelV4CallOptions,
  RerankingModelV4Result,
} from '@ai-sdk/provider'
import type { RerankOptions } from '../types.js'
import { boolean, nonEmptyString, type Check } from '../validate.js'
import type { ModelPool } from '../model-pool.js'
import { headerWarnings } from './headers.js'
import { ownFields } from './own-fields.js'

/** Options for this provider alone: `providerOptions: { nodemlx: { … } }`. */
export type NodeMlxRerankingModelOptions = Pick<RerankOptions, 'instruction' | 'truncate'>

const OWN_FIELDS = {
  instruction: nonEmptyString,
  truncate: boolean,
} satisfies Record<keyof NodeMlxRerankingModelOptions, Check<unknown>>

/** A reranking model of the AI SDK. */
export class NodeMlxRerankingModel implements RerankingModelV4 {
  readonly specificationVersion = 'v4'
  readonly provider: string
  readonly modelId: string
  readonly #pool: ModelPool

  constructor(modelId: string, provider: string, pool: ModelPool) {
    this.modelId = modelId
    this.provider = provider
    this.#pool = pool
  }

  async doRerank(call: RerankingModelV4CallOptions): Promise<RerankingModelV4Result> {
    const { query, documents, topN, abortSignal, headers, providerOptions } = call
    const own = ownFields(providerOptions, this.provider, OWN_FIELDS)
    const isText = documents.type === 'text'
    const texts = isText ? documents.values : documents.values.map((it) => JSON.stringify(it))
    const ranked = await this.#pool.with(this.modelId, abortSignal, (model) =>
      model.rerank(query, texts, { ...own, topN, signal: abortSignal }),
    )
    const details = 'objects are judged as their JSON'
    return {
      ranking: ranked.map(({ index, score }) => ({ index, relevanceScore: score })),
      warnings: [
        ...headerWarnings(headers),
        ...(isText
          ? []
          : [{ type: 'compatibility' as const, feature: 'object documents', details }]),
      ],
    }
  }
}
