import type {
  GenerateOptions,
  GenerationResult,
  LoadModelOptions,
  Message,
  Model,
  PromptCache,
  PromptCacheOptions,
} from '../types.js'
import { fetchWithBar, loadWithBar } from './loading.js'
import { printAnswer } from './output.js'

/** A model, what was said, and how answers are generated. */
export class Conversation {
  settings: GenerateOptions
  system: string | undefined
  #messages: Message[] = []
  #model: Model
  /** What the model has read of the conversation, so that each turn reads only what is new. */
  #cache: PromptCache
  #name: string
  readonly #load: LoadModelOptions
  readonly #limits: PromptCacheOptions

  private constructor(
    name: string,
    model: Model,
    load: LoadModelOptions,
    settings: GenerateOptions,
  ) {
    this.#name = name
    this.#model = model
    this.#load = load
    const { maxKvSize, kvBits, kvGroupSize, ...rest } = settings
    this.#limits = { maxKvSize, kvBits, kvGroupSize }
    this.settings = rest
    this.#cache = model.createPromptCache(this.#limits)
  }

  static async start(
    name: string,
    load: LoadModelOptions,
    settings: GenerateOptions,
    signal: AbortSignal,
  ): Promise<Conversation> {
    return new Conversation(name, await loadWithBar(name, { ...load, signal }), load, settings)
  }

  get model(): Model {
    return this.#model
  }

  get modelName(): string {
    return this.#name
  }

  /** Says something and prints the answer. Where that fails nothing was said. */
  async say(text: string, signal: AbortSignal): Promise<GenerationResult> {
    const messages: Message[] = [...this.#messages, { role: 'user', content: text }]
    const withSystem: Message[] =
      this.system === undefined ? messages : [{ role: 'system', content: this.system }, ...messages]
    const options = { ...this.settings, promptCache: this.#cache, signal }
    const generation = this.#model.info.hasChatTemplate
      ? this.#model.generate(withSystem, options)
      : this.#model.generate(text, options)
    const result = await printAnswer(generation)
    // A stopped answer was read as far as it goes, so the model is to know of it.
    const { text: content, reasoning } = result
    const thoughts = reasoning === '' ? {} : { reasoning_content: reasoning }
    if (content !== '') this.#messages = [...messages, { role: 'assistant', content, ...thoughts }]
    return result
  }

  /** Forgets what was said. */
  clear(): void {
    this.#messages = []
  }

  /**
   * Goes on with another model. Only one is in memory at a time; where the new one cannot be
   * loaded, the old one is loaded again.
   */
  async changeModel(name: string, signal: AbortSignal): Promise<void> {
    // Most mistakes are found, and most time is spent, before anything is given up.
    await fetchWithBar(name, { ...this.#load, signal })
    await this.#model.dispose()
    try {
      this.#model = await loadWithBar(name, { ...this.#load, signal })
      this.#name = name
    } catch (error) {
      this.#model = await loadWithBar(this.#name, this.#load)
      throw error
    } finally {
      if (!this.#model.disposed) this.#cache = this.#model.createPromptCache(this.#limits)
    }
  }

  async end(): Promise<void> {
    await this.#model.dispose()
  }
}
