import type {
  NativeAdapter,
  NativeBatch,
  NativeCacheLimits,
  NativeEmbeddings,
  NativeEmbedRequest,
  NativeGenerateRequest,
  NativeGeneration,
  NativeJudgements,
  NativeJudgeRequest,
  NativeModel,
  NativeModelInfo,
  NativePrompt,
  NativePromptCache,
  NativeScoreRequest,
  NativeScores,
} from '../native.js'
import { checkOptionRanges } from '../option-ranges.js'
import type { ModelInfo } from '../types.js'
import type { Connection } from './connection.js'

// The addon's classes, with the work done at the other end of a port.

/** A model that a host has loaded. */
export class RemoteModel implements NativeModel {
  readonly #connection: Connection
  readonly #id: number
  readonly #info: ModelInfo

  constructor(connection: Connection, id: number, info: ModelInfo) {
    this.#connection = connection
    this.#id = id
    this.#info = info
    connection.forgetWith(this, id)
  }

  info(): NativeModelInfo {
    return this.#info as NativeModelInfo
  }

  generate(request: NativeGenerateRequest): NativeGeneration {
    checkOptionRanges(request)
    this.#connection.check()
    const generation = this.#connection.newId()
    this.#connection.order({ order: 'generate', model: this.#id, generation, request })
    return new RemoteGeneration(this.#connection, generation, this)
  }

  promptCache(limits: NativeCacheLimits): NativePromptCache {
    checkOptionRanges(limits)
    this.#connection.check()
    const cache = this.#connection.newId()
    this.#connection.order({ order: 'promptCache', model: this.#id, cache, limits })
    return new RemotePromptCache(this.#connection, cache)
  }

  async loadPromptCache(path: string): Promise<NativePromptCache> {
    const cache = this.#connection.newId()
    await this.#connection.call({ method: 'loadPromptCache', model: this.#id, cache, path })
    return new RemotePromptCache(this.#connection, cache)
  }

  async loadAdapter(path: string): Promise<NativeAdapter> {
    const adapter = this.#connection.newId()
    const call = { method: 'loadAdapter' as const, model: this.#id, adapter, path }
    return new RemoteAdapter(this.#connection, adapter, await this.#connection.call(call))
  }

  async clearPrefixCache(): Promise<void> {
    await this.#connection.call({ method: 'clearPrefixCache', model: this.#id })
  }

  tokenize(prompt: NativePrompt): Promise<Uint32Array> {
    return this.#connection.call({ method: 'tokenize', model: this.#id, prompt })
  }

  countTokens(prompt: NativePrompt): Promise<number> {
    return this.#connection.call({ method: 'countTokens', model: this.#id, prompt })
  }

  detokenize(tokens: Uint32Array, skipSpecialTokens: boolean): Promise<string> {
    return this.#connection.call({
      method: 'detokenize',
      model: this.#id,
      tokens,
      skipSpecialTokens,
    })
  }

  applyChatTemplate(messages: string, options: string): Promise<string> {
    return this.#connection.call({
      method: 'applyChatTemplate',
      model: this.#id,
      messages,
      options,
    })
  }

  logits(tokens: Uint32Array): Promise<{ data: Float32Array; shape: number[] }> {
    return this.#connection.call({ method: 'logits', model: this.#id, tokens })
  }

  score(request: NativeScoreRequest): Promise<NativeScores> {
    return this.#connection.call({ method: 'score', model: this.#id, request })
  }

  embed(request: NativeEmbedRequest): Promise<NativeEmbeddings> {
    return this.#connection.call({ method: 'embed', model: this.#id, request })
  }

  judge(request: NativeJudgeRequest): Promise<NativeJudgements> {
    return this.#connection.call({ method: 'judge', model: this.#id, request })
  }

  cancel(evaluation: number): void {
    this.#connection.order({ order: 'cancel', model: this.#id, evaluation })
  }

  async dispose(): Promise<void> {
    // With the host the model has gone, too.
    if (this.#connection.isOpen)
      await this.#connection.call({ method: 'disposeModel', model: this.#id })
  }
}

class RemoteGeneration implements NativeGeneration {
  readonly #connection: Connection
  readonly #id: number
  /** A model lives as long as its generations. */
  readonly #model: RemoteModel

  constructor(connection: Connection, id: number, model: RemoteModel) {
    this.#connection = connection
    this.#id = id
    this.#model = model
    connection.forgetWith(this, id)
  }

  get model(): RemoteModel {
    return this.#model
  }

  next(): Promise<NativeBatch> {
    return this.#connection.call({ method: 'next', generation: this.#id })
  }

  abort(): void {
    this.#connection.order({ order: 'abort', target: this.#id })
  }
}

class RemotePromptCache implements NativePromptCache {
  readonly #connection: Connection
  readonly #id: number

  constructor(connection: Connection, id: number) {
    this.#connection = connection
    this.#id = id
    connection.forgetWith(this, id)
  }

  id(): number {
    return this.#id
  }

  size(): Promise<{ tokens: number; bytes: number }> {
    return this.#connection.call({ method: 'cacheSize', cache: this.#id })
  }

  async save(path: string): Promise<void> {
    await this.#connection.call({ method: 'saveCache', cache: this.#id, path })
  }

  dispose(): void {
    this.#connection.order({ order: 'forget', target: this.#id })
  }
}

class RemoteAdapter implements NativeAdapter {
  readonly #connection: Connection
  readonly #id: number
  readonly #info: ReturnType<NativeAdapter['info']>

  constructor(connection: Connection, id: number, info: ReturnType<NativeAdapter['info']>) {
    this.#connection = connection
    this.#id = id
    this.#info = info
    connection.forgetWith(this, id)
  }

  id(): number {
    return this.#id
  }

  info(): ReturnType<NativeAdapter['info']> {
    return this.#info
  }

  dispose(): void {
    this.#connection.order({ order: 'forget', target: this.#id })
  }
}
