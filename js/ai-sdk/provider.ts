import type {
  EmbeddingModelV4,
  ImageModelV4,
  LanguageModelV4,
  ProviderV4,
  RerankingModelV4,
} from '@ai-sdk/provider'
import { invalidArgument, NodeMlxError } from '../errors.js'
import { ModelPool } from '../model-pool.js'
import { namedSource, sourceOf, type NamedModel } from '../model-sources.js'
import { loadOptions } from '../options.js'
import type { LoadModelOptions } from '../types.js'
import { fields, isPlainObject, nonEmptyString, show, type Check } from '../validate.js'
import { noSuchModel } from './errors.js'
import { NodeMlxEmbeddingModel } from './embedding-model.js'
import { NodeMlxLanguageModel } from './language-model.js'
import { NodeMlxRerankingModel } from './reranking-model.js'

/** Options of `createNodeMlx`. */
export interface NodeMlxProviderOptions {
  /**
   * Models by names of the program's own: what `loadModel` takes, that with options, a loaded
   * model, which is not disposed of here, or a function that loads one. Every other name is what
   * `loadModel` takes.
   */
  models?: Readonly<Record<string, NamedModel>> | undefined
  /** Options of `loadModel` for all models that are loaded by name. */
  load?: Omit<LoadModelOptions, 'signal'> | undefined
  /**
   * Dispose of a model that nobody has used for so long, in milliseconds; `Infinity` keeps it.
   *
   * @defaultValue 300000 (five minutes)
   */
  idleMs?: number | undefined
  /**
   * The most bytes of weights that stay loaded: the model that was not used for longest goes first.
   * A model that is used stays.
   *
   * @defaultValue as many as fit the memory
   */
  memoryBytes?: number | undefined
  /** The provider's name, also in `providerOptions`. @defaultValue 'nodemlx' */
  name?: string | undefined
}

/** A provider of the AI SDK whose models run in this process. */
export interface NodeMlxProvider extends ProviderV4, AsyncDisposable {
  /** The same as `languageModel`. */
  (modelId: string): LanguageModelV4
  languageModel(modelId: string): LanguageModelV4
  embeddingModel(modelId: string): EmbeddingModelV4
  /** The same, as earlier versions of the AI SDK call it. */
  textEmbeddingModel(modelId: string): EmbeddingModelV4
  /** @throws NoSuchModelError: models do not make images. */
  imageModel(modelId: string): ImageModelV4
  rerankingModel(modelId: string): RerankingModelV4
  /** Disposes of all models that were loaded here; the next call loads them again. */
  dispose(): Promise<void>
}

const DEFAULT_IDLE_MS = 300_000

const amount: Check<number> = (value, option) => {
  if (typeof value === 'number' && value >= 0) return value
  throw invalidArgument(option, `expected a number from 0, got ${show(value)}`)
}

const models: Check<Readonly<Record<string, unknown>>> = (value, option) => {
  if (isPlainObject(value)) return value
  throw invalidArgument(option, `expected an object of models by name, got ${show(value)}`)
}

const OPTION_FIELDS = {
  models,
  load: loadOptions,
  idleMs: amount,
  memoryBytes: amount,
  name: nonEmptyString,
}

/** A provider for the AI SDK 7, whose models run in this process. */
export function createNodeMlx(options?: NodeMlxProviderOptions): NodeMlxProvider {
  const checked = fields(options, '', OPTION_FIELDS)
  const { idleMs = DEFAULT_IDLE_MS, memoryBytes = Number.POSITIVE_INFINITY } = checked
  const { name = 'nodemlx', load = {}, models: named = {} } = checked
  const pool = new ModelPool({
    sources: new Map(
      Object.entries(named).map(([id, value]) => [id, namedSource(value, `models.${id}`, load)]),
    ),
    keeping: { memoryBytes, idleMs },
    other: (id) => sourceOf(id, load),
    // A program that asks one model may hold the stream of another.
    whenFull: 'load',
  })
  const languageModel = (modelId: string): LanguageModelV4 =>
    new NodeMlxLanguageModel(nonEmptyString(modelId, 'modelId'), name, pool)
  const embeddingModel = (modelId: string): EmbeddingModelV4 =>
    new NodeMlxEmbeddingModel(nonEmptyString(modelId, 'modelId'), name, pool)
  const rerankingModel = (modelId: string): RerankingModelV4 =>
    new NodeMlxRerankingModel(nonEmptyString(modelId, 'modelId'), name, pool)
  const provider = Object.assign((modelId: string) => languageModel(modelId), {
    specificationVersion: 'v4' as const,
    languageModel,
    embeddingModel,
    textEmbeddingModel: embeddingModel,
    imageModel: (modelId: string): never => {
      throw noSuchModel(modelId, 'imageModel', 'models of this provider do not make images')
    },
    rerankingModel,
    dispose: () => pool.dispose(new NodeMlxError('DISPOSED', 'the provider was disposed of')),
  })
  // Older versions of Node.js 20 have no such symbol.
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- see above
  if (Symbol.asyncDispose) Object.assign(provider, { [Symbol.asyncDispose]: provider.dispose })
  return provider as typeof provider & AsyncDisposable
}
