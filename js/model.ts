import { AsyncResource } from 'node:async_hooks'
import { resolve } from 'node:path'
import { LoadedAdapter } from './adapter.js'
import { unpacked } from './asar.js'
import { iterator, runBatch, seedOfAnswer } from './batch.js'
import { ModelChat } from './chat.js'
import { CheckedSource } from './checked-source.js'
import { checkInputs, embedOrder, embeddings } from './embed.js'
import { aborted, codeOf, fromNative, NodeMlxError } from './errors.js'
import { callBack } from './callbacks.js'
import { checkMemory } from './estimate.js'
import { NOTHING, PulledGeneration, type Source } from './generation.js'
import { adapterFolder } from './hub/adapter.js'
import { RepositoryCache } from './hub/cache.js'
import { ensure } from './hub/download.js'
import { locate } from './hub/locate.js'
import {
  getNative,
  type Native,
  type NativeEmbeddings,
  type NativeJudgements,
  type NativeLoad,
  type NativeLoadRequest,
  type NativeModel,
  type NativeScores,
} from './native.js'
import { checkOptionRanges } from './option-ranges.js'
import {
  adapterOptions,
  booleanOption,
  chatOptions,
  chatTemplateOptions,
  embedOptions,
  generateBatchOptions,
  generateOptions,
  loadOptions,
  nativeSettings,
  promptCacheOptions,
  promptOptions,
  rerankOptions,
  decideOptions,
  scoreOptions,
  tokenizeOptions,
  checkForModel,
} from './options.js'
import { nativePrefixCache } from './prefix-cache.js'
import { HeldPromptCache } from './prompt-cache.js'
import {
  ANY_TOKEN,
  checkPrompt,
  checkText,
  messagesJson,
  nativePrompt,
  templateJson,
  tokenArray,
  tokenList,
  type CheckedPrompt,
} from './prompt.js'
import { answered, answerOrders, checkDocuments, judgeOrder, rankings } from './rerank.js'
import { decideOrder, decision, score, scoreOrder, type ScoreOrder } from './score.js'
import { onAbort } from './signal.js'
import type {
  Adapter,
  AnyTool,
  BatchItem,
  Chat,
  ChatTemplateOptions,
  Decision,
  DecideOptions,
  DetokenizeOptions,
  EmbedInput,
  EmbedOptions,
  Embeddings,
  FormatValue,
  GenerateBatchOptions,
  GenerateOptions,
  Generation,
  InlineCall,
  InlineChatOptions,
  HubOptions,
  LoadAdapterOptions,
  LoadModelOptions,
  LoadProgress,
  Logits,
  Message,
  Model,
  ModelInfo,
  Prompt,
  PromptCache,
  PromptCacheOptions,
  PromptOptions,
  Rankings,
  RerankOptions,
  ResponseFormat,
  SchemaOutput,
  Score,
  ScoreOptions,
  StandardSchema,
  TokenizeOptions,
  ToolCallOf,
  WithSchema,
  WithTools,
} from './types.js'
import { nonEmptyString } from './validate.js'

/**
 * Loads a model.
 *
 * @param model - A folder with a checkpoint in Hugging Face's layout, `'demo'` for the small model
 *   that comes with this package, an alias of `RECOMMENDED_MODELS`, or `'owner/name'` or
 *   `'owner/name@revision'` for a model on the Hugging Face hub, of which what the cache lacks is
 *   downloaded first.
 */
export function loadModel(model: string, options?: LoadModelOptions): Promise<Model> {
  return load(model, options)
}

/** `loadModel`, for those who need more of the model than everyone does. */
export async function load(model: string, options?: LoadModelOptions): Promise<LoadedModel> {
  const checked = loadOptions(options)
  const { signal } = checked
  const name = nonEmptyString(model, 'model')
  if (signal?.aborted === true) throw aborted('Loading the model', signal.reason)
  const loading = new Loading(name, checked)
  const forget =
    signal &&
    onAbort(signal, () => {
      loading.abort(signal.reason)
    })
  try {
    return await loading.model
  } finally {
    forget?.()
  }
}

/** The addon's form of a load. */
export function loadRequest(
  path: string,
  options: LoadModelOptions,
  draftPath?: string,
): NativeLoadRequest {
  const { device = 'auto', dtype = 'auto', threads, precision } = options
  const { maxSequences, maxStallMs, memoryBytes, predictionHeads, contextLength } = options
  return {
    path,
    device,
    dtype,
    ...(threads === undefined ? {} : { threads }),
    ...(precision === undefined ? {} : { precision }),
    ...(maxSequences === undefined ? {} : { maxSequences }),
    ...(maxStallMs === undefined ? {} : { maxStallMs }),
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
    ...nativePrefixCache(options.prefixCache),
    ...(draftPath === undefined ? {} : { draftPath }),
    ...(predictionHeads === undefined ? {} : { predictionHeads }),
    ...(contextLength === undefined ? {} : { contextLength }),
  }
}

/** The folder of a model's files, which are downloaded where they are missing. */
export async function modelFolder(name: string, options: LoadModelOptions): Promise<string> {
  const { folder, repository } = await locate(name, options.revision, options.cacheDir)
  if (folder !== undefined) return folder
  return ensure(repository, options, async (snapshot, weightsBytes) => {
    await checkMemory(snapshot, options, weightsBytes)
  })
}

/** Where to look for an adapter that goes with a model. */
export function hubOptions(options: LoadModelOptions): HubOptions {
  const { token, endpoint, cacheDir, offline, fetch } = options
  return { token, endpoint, cacheDir, offline, fetch }
}

/** What files that are damaged are told from. */
const DAMAGED = new Set(['INVALID_WEIGHTS', 'INVALID_CONFIG', 'INVALID_TOKENIZER'])

/** Says how files of the cache are mended that may have been damaged since they came. */
function withAdvice(error: NodeMlxError, folder: string): NodeMlxError {
  const id = RepositoryCache.idOfSnapshot(folder)
  if (id !== undefined && DAMAGED.has(error.code))
    error.message += `. "nodemlx download --verify ${id}" mends files that are damaged.`
  return error
}

/** A model that is being loaded, with a name and options that have been checked. */
export class Loading {
  readonly model: Promise<LoadedModel>
  #native: NativeLoad | undefined
  /** Why the loading was ended, where it was. */
  #ended: { error: unknown } | undefined
  readonly #controller = new AbortController()

  constructor(name: string, options: LoadModelOptions) {
    this.model = this.#run(name, options)
  }

  abort(reason?: unknown): void {
    this.#end(aborted('Loading the model', reason))
  }

  #end(error: unknown): void {
    this.#ended ??= { error }
    this.#controller.abort()
    this.#native?.abort()
  }

  async #run(name: string, options: LoadModelOptions): Promise<LoadedModel> {
    try {
      // First: without the addon nothing else matters.
      const native = getNative()
      const onProgress = (progress: LoadProgress): void => {
        this.#report(progress, options.onProgress)
      }
      const { signal } = this.#controller
      const hub = { ...options, onProgress, signal }
      const path = await modelFolder(name, hub)
      const { adapter, draftModel, device, force } = options
      // The revision is that of the model.
      const beside = { ...hubOptions(options), onProgress, signal }
      const draft =
        draftModel &&
        (await modelFolder(typeof draftModel === 'string' ? draftModel : draftModel.info.path, {
          ...beside,
          device,
          force,
        }))
      const folder = adapter === undefined ? undefined : await adapterFolder(adapter, beside)
      return await this.#load(native, path, options, folder, draft)
    } catch (error) {
      this.#native = undefined
      throw this.#ended === undefined ? fromNative(error) : this.#ended.error
    }
  }

  async #load(
    native: Native,
    path: string,
    options: LoadModelOptions,
    adapter: string | undefined,
    draft: string | undefined,
  ): Promise<LoadedModel> {
    this.#goOn()
    const { onProgress } = options
    // The addon calls it from outside of all calls, where there is no AsyncLocalStorage's store.
    const report = AsyncResource.bind((progress: LoadProgress): void => {
      this.#report(progress, onProgress)
    })
    const maxContextLength = await checkMemory(path, options)
    if (draft !== undefined) await checkMemory(draft, options)
    this.#goOn()
    this.#native = native.loadModel(
      loadRequest(path, options, draft),
      onProgress === undefined ? undefined : report,
    )
    const model = await this.#native.promise().catch((error: unknown) => {
      throw withAdvice(fromNative(error), path)
    })
    this.#native = undefined
    try {
      this.#goOn()
      const loaded = new LoadedModel(model, maxContextLength)
      if (adapter !== undefined) await loaded.useAdapter(adapter)
      this.#goOn()
      return loaded
    } catch (error) {
      await model.dispose()
      throw error
    }
  }

  #report(progress: LoadProgress, onProgress: LoadModelOptions['onProgress']): void {
    // Reports can come late.
    if (this.#ended !== undefined) return
    callBack(onProgress, { ...progress }, (error) => {
      this.#end(error)
    })
  }

  /** Throws where the loading was ended. */
  #goOn(): void {
    if (this.#ended !== undefined) throw this.#ended.error
  }
}

/** The number of the last evaluation, by which it is cancelled. */
let evaluations = 0

let models = 0

/** How many models there have been: the number of the latest one. */
export function modelsMade(): number {
  return models
}

export class LoadedModel implements Model {
  readonly info: ModelInfo
  readonly #native: NativeModel
  readonly #number = ++models
  /** That of generations which name no other. */
  #adapter: LoadedAdapter | undefined
  #disposing: Promise<void> | undefined;
  // Defined below, because older versions of Node.js 20 have no such symbol.
  declare [Symbol.asyncDispose]: () => Promise<void>

  constructor(native: NativeModel, maxContextLength?: number) {
    this.#native = native
    const info = native.info()
    this.info = frozenCopy(maxContextLength === undefined ? info : { ...info, maxContextLength })
  }

  /** The addon's model, for those who wrap it. */
  get native(): NativeModel {
    return this.#native
  }

  /** Which one it is of all that there have been. */
  get number(): number {
    return this.#number
  }

  get disposed(): boolean {
    return this.#disposing !== undefined
  }

  generate<Schema extends StandardSchema, const Tools extends readonly AnyTool[] = AnyTool[]>(
    prompt: Prompt,
    options: WithTools<WithSchema<GenerateOptions, Schema>, Tools>,
  ): Generation<SchemaOutput<Schema>, ToolCallOf<Tools>>
  generate<const Tools extends readonly AnyTool[] = AnyTool[]>(
    prompt: Prompt,
    options?: WithTools<GenerateOptions, Tools>,
  ): Generation<unknown, ToolCallOf<Tools>>
  generate(prompt: Prompt, options?: GenerateOptions): Generation {
    const checked = generateOptions(options)
    const { signal, onPrefill, responseFormat } = checked
    const start = this.prepare(checkPrompt(prompt, checked), checked)
    const source = signal?.aborted === true ? NOTHING : start()
    return new PulledGeneration(source, { signal, onPrefill, responseFormat })
  }

  generateBatch<Schema extends StandardSchema, const Tools extends readonly AnyTool[] = AnyTool[]>(
    prompts: Iterable<Prompt> | AsyncIterable<Prompt>,
    options: WithTools<WithSchema<GenerateBatchOptions, Schema>, Tools>,
  ): AsyncIterableIterator<BatchItem<SchemaOutput<Schema>, ToolCallOf<Tools>>>
  generateBatch<const Tools extends readonly AnyTool[] = AnyTool[]>(
    prompts: Iterable<Prompt> | AsyncIterable<Prompt>,
    options?: WithTools<GenerateBatchOptions, Tools>,
  ): AsyncIterableIterator<BatchItem<unknown, ToolCallOf<Tools>>>
  generateBatch(
    prompts: Iterable<Prompt> | AsyncIterable<Prompt>,
    options?: GenerateBatchOptions,
  ): AsyncIterableIterator<BatchItem> {
    const { ordered, concurrency, n, generate } = generateBatchOptions(options)
    const source = iterator(prompts)
    this.#alive()
    checkForModel(generate, this.info)
    checkOptionRanges(nativeSettings(generate))
    const { seed } = generate
    const settings = (answer: number): GenerateOptions =>
      seed === undefined ? generate : { ...generate, seed: seedOfAnswer(seed, answer) }
    return runBatch(source, (prompt, answer) => this.generate(prompt, settings(answer)), {
      ordered,
      concurrency: concurrency ?? this.info.maxSequences,
      answers: n,
      signal: generate.signal,
    })
  }

  chat<
    const Schemas extends readonly unknown[] | [] = [],
    const Names extends readonly string[] = [],
    Format extends ResponseFormat | undefined = undefined,
  >(
    options?: InlineChatOptions<Schemas, Names, Format>,
  ): Chat<FormatValue<Format>, InlineCall<Schemas, Names>>
  chat(options?: unknown): Chat {
    const checked = chatOptions(options)
    const { messages = [] } = checked
    if (messages.length > 0) messagesJson(messages, 'messages')
    this.#alive()
    checkOptionRanges(nativeSettings(checked))
    return new ModelChat(
      {
        info: this.info,
        countTokens: (messages, options) => this.countTokens(messages, options),
        prepare: (messages, options) => {
          const all = generateOptions(options)
          checkOptionRanges(nativeSettings(all))
          return this.prepare(checkPrompt(messages, all), all)
        },
      },
      checked,
    )
  }

  /** Checks what needs the model; the function that comes back starts to generate. */
  prepare(
    prompt: CheckedPrompt,
    options: GenerateOptions,
    more: { ignoreEos?: boolean } = {},
  ): () => Source {
    const native = this.#alive()
    checkForModel(options, this.info)
    const request = {
      prompt: nativePrompt(prompt, this.info, options),
      ...nativeSettings(this.#adapted(options)),
      ...more,
    }
    return () =>
      new CheckedSource(
        coded(() => native.generate(request)),
        options,
        this.info,
      )
  }

  async tokenize(prompt: Prompt, options?: TokenizeOptions): Promise<number[]> {
    const checked = tokenizeOptions(options)
    const text = checkText(prompt, checked)
    return Array.from(
      await this.#call((native) => native.tokenize(nativePrompt(text, this.info, checked))),
    )
  }

  async countTokens(prompt: Prompt, options?: PromptOptions): Promise<number> {
    const checked = promptOptions(options)
    const counted = checkPrompt(prompt, checked)
    return this.#call((native) => native.countTokens(nativePrompt(counted, this.info, checked)))
  }

  async detokenize(tokens: ArrayLike<number>, options?: DetokenizeOptions): Promise<string> {
    const skipSpecialTokens = booleanOption(options, 'skipSpecialTokens', false)
    // The tokenizer may have more tokens than the model.
    const all = tokenArray(tokenList(tokens, 'tokens'), 'tokens', ANY_TOKEN)
    return this.#call((native) => native.detokenize(all, skipSpecialTokens))
  }

  async applyChatTemplate(
    messages: readonly Message[],
    options?: ChatTemplateOptions,
  ): Promise<string> {
    const template = chatTemplateOptions(options)
    return this.#call((native) =>
      native.applyChatTemplate(messagesJson(messages, 'messages'), templateJson(template)),
    )
  }

  clearPrefixCache(): Promise<void> {
    return this.#call((native) => native.clearPrefixCache())
  }

  createPromptCache(options?: PromptCacheOptions): PromptCache {
    const limits = promptCacheOptions(options)
    const native = this.#alive()
    return new HeldPromptCache(coded(() => native.promptCache(limits)))
  }

  async loadPromptCache(path: string): Promise<PromptCache> {
    const absolute = unpacked(resolve(nonEmptyString(path, 'path')), 'IO_ERROR')
    return new HeldPromptCache(await this.#call((native) => native.loadPromptCache(absolute)))
  }

  async loadAdapter(adapter: string, options?: LoadAdapterOptions): Promise<Adapter> {
    const checked = adapterOptions(options)
    const name = nonEmptyString(adapter, 'adapter')
    this.#alive()
    return this.#loadAdapter(await adapterFolder(name, checked))
  }

  /** Loads an adapter of a folder, for generations that name no other. */
  async useAdapter(folder: string): Promise<void> {
    this.#adapter = await this.#loadAdapter(folder)
  }

  async #loadAdapter(folder: string): Promise<LoadedAdapter> {
    return new LoadedAdapter(await this.#call((native) => native.loadAdapter(folder)))
  }

  async logits(tokens: ArrayLike<number>): Promise<Logits> {
    const all = tokenArray(tokenList(tokens, 'tokens'), 'tokens', this.info.vocabularySize)
    const { data, shape } = await this.#call((native) => native.logits(all))
    const [rows = 0, vocabulary = 0] = shape
    // The same numbers, without a copy, as an array of this realm.
    const local = new Float32Array(data.buffer, data.byteOffset, data.length)
    return { data: local, shape: [rows, vocabulary] }
  }

  async score(
    prompt: Prompt,
    continuation?: string | { tokens: ArrayLike<number> },
    options?: ScoreOptions,
  ): Promise<Score> {
    const checked = scoreOptions(options)
    const order = scoreOrder(prompt, continuation, this.#adapted(checked), this.info)
    return score(await this.#scores(order, checked.signal))
  }

  async decide<const Choice extends string>(
    prompt: Prompt,
    choices: readonly Choice[],
    options?: DecideOptions,
  ): Promise<Decision<Choice>> {
    const checked = decideOptions(options)
    const order = decideOrder(prompt, choices, this.#adapted(checked), this.info)
    return decision(choices, await this.#scores(order, checked.signal))
  }

  async embed(
    texts: EmbedInput | readonly EmbedInput[],
    options?: EmbedOptions,
  ): Promise<Embeddings> {
    const checked = embedOptions(options)
    const inputs = checkInputs(texts)
    this.#alive()
    const order = embedOrder(inputs, this.#adapted(checked), this.info)
    const embed = async (native: NativeModel, evaluation: number): Promise<NativeEmbeddings> =>
      native.embed({ ...order, evaluation })
    return embeddings(inputs.length, await this.#evaluate(checked.signal, embed))
  }

  async rerank(
    query: string,
    documents: readonly string[],
    options?: RerankOptions,
  ): Promise<Rankings> {
    const checked = this.#adapted(rerankOptions(options))
    const asked = nonEmptyString(query, 'query')
    const all = checkDocuments(documents, 'documents')
    this.#alive()
    const { generate, rerank } = this.info.capabilities
    if (!rerank) throw new NodeMlxError('UNSUPPORTED', 'the model judges no texts: load a reranker')
    const { signal, topN } = checked
    if (!generate) {
      const order = judgeOrder(asked, all, checked)
      const judge = async (native: NativeModel, evaluation: number): Promise<NativeJudgements> =>
        native.judge({ ...order, evaluation })
      return rankings(await this.#evaluate(signal, judge), topN)
    }
    const orders = answerOrders(asked, all, checked, this.info)
    return rankings(await answered(orders, async (order) => this.#scores(order, signal)), topN)
  }

  #adapted<Options extends { adapter?: Adapter | null | undefined }>(options: Options): Options {
    return options.adapter === undefined ? { ...options, adapter: this.#adapter } : options
  }

  /** Lets the addon evaluate something, by a number by which `signal` cancels it. */
  async #evaluate<T>(
    signal: AbortSignal | undefined,
    run: (native: NativeModel, evaluation: number) => Promise<T>,
  ): Promise<T> {
    const ended = (): NodeMlxError => aborted('the evaluation', signal?.reason)
    const isEnded = (): boolean => signal?.aborted === true
    if (isEnded()) throw ended()
    const evaluation = ++evaluations
    const forget =
      signal &&
      onAbort(signal, () => {
        this.#native.cancel(evaluation)
      })
    try {
      return await this.#call((native) => run(native, evaluation))
    } catch (error) {
      throw isEnded() && codeOf(error) === 'ABORTED' ? ended() : error
    } finally {
      forget?.()
    }
  }

  async #scores(order: ScoreOrder, signal: AbortSignal | undefined): Promise<NativeScores> {
    return this.#evaluate(signal, (native, evaluation) => native.score({ ...order, evaluation }))
  }

  async dispose(): Promise<void> {
    this.#disposing ??= this.#native.dispose()
    await this.#disposing.catch((error: unknown) => {
      throw fromNative(error)
    })
  }

  #alive(): NativeModel {
    if (this.disposed) throw new NodeMlxError('DISPOSED', 'the model has been disposed of')
    return this.#native
  }

  async #call<T>(method: (native: NativeModel) => Promise<T>): Promise<T> {
    try {
      return await method(this.#alive())
    } catch (error) {
      throw fromNative(error)
    }
  }
}

// eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- see the field's comment
if (Symbol.asyncDispose) {
  Object.defineProperty(LoadedModel.prototype, Symbol.asyncDispose, {
    value: function (this: LoadedModel) {
      return this.dispose()
    },
    configurable: true,
    writable: true,
  })
}

function coded<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}

/** A copy all of this realm's objects: in jest and vm the addon's are of another one. */
function frozenCopy<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return Object.freeze(Array.from(value, frozenCopy)) as T
  const fields = Object.entries(value).map(([name, item]) => [name, frozenCopy(item)] as const)
  return Object.freeze(Object.fromEntries(fields)) as T
}
