import { ChatRounds, type ChatModel } from './chat-rounds.js'
import { isAsked, openField } from './chat-turn.js'
import { invalidArgument } from './errors.js'
import { PulledGeneration } from './generation.js'
import { messagesJson } from './prompt.js'
import type {
  Chat,
  ChatJson,
  ChatOptions,
  ChatTurnOptions,
  GenerateOptions,
  Generation,
  Message,
} from './types.js'
import { fields, integer, nonEmptyString } from './validate.js'

/** The place of a message. */
const place = integer(-(2 ** 31), 2 ** 31 - 1)

/** A conversation with a model. */
export class ModelChat implements Chat {
  #system: string | undefined
  #messages: Message[]
  readonly #model: ChatModel
  readonly #options: ChatOptions
  #running = false
  /** Resolves when the last answer has ended, which one that was aborted does a little later. */
  #last: Promise<void> | undefined

  constructor(model: ChatModel, options: ChatOptions) {
    this.#model = model
    this.#options = options
    this.#system = options.system
    this.#messages = copy(options.messages ?? [])
  }

  get system(): string | undefined {
    return this.#system
  }

  set system(system: string | undefined) {
    this.#system = system === undefined ? undefined : nonEmptyString(system, 'system')
  }

  get messages(): Message[] {
    return copy(this.#messages)
  }

  set messages(messages: readonly Message[]) {
    this.#checkIdle()
    if (!Array.isArray(messages) || messages.length > 0) messagesJson(messages, 'messages')
    this.#messages = copy(messages)
  }

  send(message: string | Message | readonly Message[], options: GenerateOptions = {}): Generation {
    const given = typeof message === 'string' ? { role: 'user', content: message } : message
    const added: readonly Message[] = Array.isArray(given) ? given : [given as Message]
    return this.#answer([...this.#messages, ...copy(added)], options)
  }

  retry({ at, ...options }: ChatTurnOptions = {}): Generation {
    const messages = this.#upTo(at)
    const last = messages.findLastIndex(isAsked)
    if (last < 0) throw invalidArgument('messages', 'there is no message to answer again')
    return this.#answer(messages.slice(0, last + 1), options)
  }

  continue({ at, ...options }: ChatTurnOptions = {}): Generation {
    const messages = this.#upTo(at)
    const last = messages.at(-1)
    if (last === undefined) throw invalidArgument('messages', 'there is nothing to go on with')
    if (last.role !== 'assistant' || last.tool_calls !== undefined)
      return this.#answer(messages, options)
    const field = openField(last)
    return this.#answer(messages, {
      ...options,
      continueFinalMessage: true,
      ...(field === 'content' ? {} : { continueField: field }),
    })
  }

  fork(options?: { at?: number }): Chat {
    const { at } = fields(options, '', { at: place })
    const { system, ...others } = { ...this.#options, system: this.system }
    return new ModelChat(this.#model, {
      ...others,
      ...(system === undefined ? {} : { system }),
      messages: this.#upTo(at),
    })
  }

  /** The messages up to a place, which may be counted from the end. */
  #upTo(at: unknown): Message[] {
    if (at === undefined) return [...this.#messages]
    const { length } = this.#messages
    const index = place(at, 'at')
    if (index >= length || index < -length)
      throw invalidArgument('at', `there is no message ${index}: the chat has ${length}`)
    return this.#messages.slice(0, index < 0 ? length + index + 1 : index + 1)
  }

  toJSON(): ChatJson {
    const messages = this.messages
    return this.system === undefined ? { messages } : { system: this.system, messages }
  }

  #checkIdle(): void {
    if (this.#running)
      throw invalidArgument('chat', 'is answering: await that answer first, or abort it')
  }

  #answer(messages: Message[], options: GenerateOptions): Generation {
    this.#checkIdle()
    const { onPrefill, signal, ...settings } = { ...generateDefaults(this.#options), ...options }
    const { responseFormat } = settings
    const rounds = new ChatRounds({
      model: this.#model,
      options: this.#options,
      settings,
      system: this.system,
      messages,
      onEnd: (kept) => {
        this.#running = false
        if (kept !== undefined) this.#messages = kept
      },
    })
    // What is wrong with the arguments is thrown here, and nothing has been said then.
    if (signal?.aborted !== true) rounds.begin(this.#last)
    this.#running = true
    const last = rounds.ended.then(() => {
      if (this.#last === last) this.#last = undefined
    })
    this.#last = last
    return new PulledGeneration(rounds, { onPrefill, signal, responseFormat })
  }
}

/** The options that are `generate`'s. */
function generateDefaults(options: ChatOptions): GenerateOptions {
  return Object.fromEntries(
    Object.entries(options).filter(([name]) => !CHAT_OPTIONS.includes(name)),
  )
}

const CHAT_OPTIONS: readonly string[] = [
  'system',
  'messages',
  'maxToolRounds',
  'onToolCall',
  'onContextFull',
]

function copy(messages: readonly Message[]): Message[] {
  return structuredClone(messages) as Message[]
}
