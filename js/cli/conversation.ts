import type {
  Chat,
  ChatJson,
  GenerateOptions,
  Generation,
  GenerationResult,
  LoadModelOptions,
  Model,
  PromptCacheOptions,
} from '../types.js'
import { fetchWithBar, loadWithBar } from './loading.js'
import { printAnswer } from './output.js'

/** A model, conversations with it, of which one goes on, and how answers are generated. */
export class Conversation {
  settings: GenerateOptions
  #model: Model
  #name: string
  /** The conversation and its forks. */
  #chats: Chat[]
  #current = 0
  readonly #load: LoadModelOptions
  readonly #limits: PromptCacheOptions
  readonly #markdown: boolean

  private constructor(
    name: string,
    model: Model,
    { load, settings, markdown }: ConversationOptions,
  ) {
    this.#name = name
    this.#model = model
    this.#load = load
    this.#markdown = markdown
    const { maxKvSize, kvBits, kvGroupSize, ...rest } = settings
    this.#limits = { maxKvSize, kvBits, kvGroupSize }
    this.settings = rest
    this.#chats = [model.chat(this.#limits)]
  }

  static async start(
    name: string,
    options: ConversationOptions,
    signal: AbortSignal,
  ): Promise<Conversation> {
    const model = await loadWithBar(name, { ...options.load, signal })
    return new Conversation(name, model, options)
  }

  get model(): Model {
    return this.#model
  }

  get modelName(): string {
    return this.#name
  }

  get chat(): Chat {
    const chat = this.#chats[this.#current]
    if (chat === undefined) throw new RangeError(`there is no conversation ${this.#current}`)
    return chat
  }

  /** The number of the conversation that goes on, and how many there are. */
  get place(): { number: number; count: number } {
    return { number: this.#current + 1, count: this.#chats.length }
  }

  /** Says something and prints the answer. Where that fails nothing was said. */
  say(text: string, signal: AbortSignal): Promise<GenerationResult> {
    const options = { ...this.settings, signal }
    // Without a template every text is continued by itself.
    return this.#print(
      this.#model.info.hasChatTemplate
        ? this.chat.send(text, options)
        : this.#model.generate(text, options),
    )
  }

  /** Answers the last message again and prints that. */
  retry(signal: AbortSignal): Promise<GenerationResult> {
    return this.#print(this.chat.retry({ ...this.settings, signal }))
  }

  /** Goes on in a copy of the conversation. */
  fork(): void {
    this.#current = this.#chats.push(this.chat.fork()) - 1
  }

  /** Goes on in another conversation; whether there is one of this number. */
  goTo(number: number): boolean {
    const isThere = Number.isInteger(number) && number >= 1 && number <= this.#chats.length
    if (isThere) this.#current = number - 1
    return isThere
  }

  /** Goes on with a conversation that was saved. */
  restore(json: ChatJson): void {
    this.#chats[this.#current] = this.#model.chat({ ...this.#limits, ...json })
  }

  /**
   * Goes on with another model. Only one is in memory at a time; where the new one cannot be
   * loaded, the old one is loaded again.
   */
  async changeModel(name: string, signal: AbortSignal): Promise<void> {
    // Most mistakes are found, and most time is spent, before anything is given up.
    await fetchWithBar(name, { ...this.#load, signal })
    const said = this.#chats.map((chat) => chat.toJSON())
    await this.#model.dispose()
    try {
      this.#model = await loadWithBar(name, { ...this.#load, signal })
      this.#name = name
    } catch (error) {
      this.#model = await loadWithBar(this.#name, this.#load)
      throw error
    } finally {
      if (!this.#model.disposed)
        this.#chats = said.map((json) => this.#model.chat({ ...this.#limits, ...json }))
    }
  }

  async end(): Promise<void> {
    await this.#model.dispose()
  }

  #print(generation: Generation): Promise<GenerationResult> {
    return printAnswer(generation, { markdown: this.#markdown })
  }
}

export interface ConversationOptions {
  load: LoadModelOptions
  settings: GenerateOptions
  /** Show Markdown on a terminal as what it means. */
  markdown: boolean
}
