import { invalidArgument, NodeMlxError } from './errors.js'
import {
  NOTHING,
  PulledGeneration,
  UserError,
  type Source,
  type SourceBatch,
} from './generation.js'
import { callId } from './pieces.js'
import { isStandardSchema } from './response-format.js'
import { toolName, toolParameters } from './tools.js'
import type {
  AnyTool,
  Chat,
  ChatJson,
  ChatOptions,
  GeneratedToolCall,
  GenerateOptions,
  Generation,
  Message,
  Model,
  ToolCall,
} from './types.js'
import { show } from './validate.js'

/** What a chat needs of a model. */
export interface ChatModel extends Pick<Model, 'info' | 'countTokens'> {
  /** Starts to generate; throws at once where an argument is invalid. */
  start(messages: readonly Message[], options: GenerateOptions): Source
}

/** How many times tools are called before an answer, where nobody says otherwise. */
const MAX_ROUNDS = 8

/** How many tokens an answer is to have room for when old turns are dropped for it. */
const ROOM = 1024

/** A conversation with a model. */
export class ModelChat implements Chat {
  system: string | undefined
  #messages: Message[]
  readonly #model: ChatModel
  readonly #options: ChatOptions
  #running = false

  constructor(model: ChatModel, options: ChatOptions) {
    this.#model = model
    this.#options = options
    this.system = options.system
    this.#messages = copy(options.messages ?? [])
  }

  get messages(): Message[] {
    return copy(this.#messages)
  }

  set messages(messages: readonly Message[]) {
    this.#checkIdle()
    this.#messages = copy(messages)
  }

  send(message: string | Message | readonly Message[], options: GenerateOptions = {}): Generation {
    const given = typeof message === 'string' ? { role: 'user', content: message } : message
    const added: readonly Message[] = Array.isArray(given) ? given : [given as Message]
    return this.#answer([...this.#messages, ...copy(added)], options)
  }

  retry(options: GenerateOptions = {}): Generation {
    const last = this.#messages.findLastIndex(({ role }) => role === 'user')
    if (last < 0) throw invalidArgument('messages', 'there is no message to answer again')
    return this.#answer(this.#messages.slice(0, last + 1), options)
  }

  continue(options: GenerateOptions = {}): Generation {
    const last = this.#messages.at(-1)
    if (last === undefined) throw invalidArgument('messages', 'there is nothing to go on with')
    if (last.role !== 'assistant' || last.tool_calls !== undefined)
      return this.#answer([...this.#messages], options)
    return this.#answer([...this.#messages], { ...options, continueFinalMessage: true })
  }

  fork(): Chat {
    const { system, ...others } = { ...this.#options, system: this.system }
    return new ModelChat(this.#model, {
      ...others,
      ...(system === undefined ? {} : { system }),
      messages: this.#messages,
    })
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
    const rounds = new Rounds({
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
    if (signal?.aborted !== true) rounds.begin()
    this.#running = true
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

interface RoundsOptions {
  model: ChatModel
  options: ChatOptions
  settings: GenerateOptions
  system: string | undefined
  messages: Message[]
  /** Called once, with the conversation as it stands then, or with nothing where it failed. */
  onEnd: (messages: Message[] | undefined) => void
}

/** An answer with the calls of tools before it, as one source of events. */
class Rounds implements Source {
  readonly #given: RoundsOptions
  readonly #messages: Message[]
  #source: Source | undefined
  #round = new Round()
  #rounds = 0
  #calls = 0
  #used = { promptTokens: 0, completionTokens: 0, cachedTokens: 0, reasoningTokens: 0 }
  #aborted = false
  #controller = new AbortController()

  constructor(given: RoundsOptions) {
    this.#given = given
    this.#messages = given.messages
  }

  /** Begins the first round at once, unless old turns may have to go first. */
  begin(): void {
    const full = this.#given.options.onContextFull
    if (full === undefined || full === 'error') this.#start()
  }

  abort(): void {
    this.#aborted = true
    this.#controller.abort()
    this.#source?.abort()
  }

  async next(): Promise<SourceBatch> {
    try {
      const batch = await this.#next()
      if (batch.done !== undefined) this.#end(true)
      return batch
    } catch (error) {
      this.#end(false)
      throw error
    }
  }

  #end(complete: boolean): void {
    const isNothing = this.#aborted && this.#rounds === 0 && this.#round.isEmpty()
    this.#given.onEnd(complete && !isNothing ? this.#messages : undefined)
  }

  async #next(): Promise<SourceBatch> {
    if (this.#source === undefined) {
      if (this.#aborted) return NOTHING.next()
      await this.#makeRoom()
      this.#start()
    }
    const source = this.#source
    if (source === undefined) return NOTHING.next()
    const made = await source.next()
    // What was made ahead of an abort was seen by nobody, and is not part of the answer.
    const batch = this.#aborted ? made : this.#round.take(made, this.#calls)
    if (batch.done === undefined) return batch
    const { usage } = batch.done
    this.#used.promptTokens += usage.promptTokens
    this.#used.completionTokens += usage.completionTokens
    this.#used.cachedTokens += usage.cachedTokens
    this.#used.reasoningTokens += usage.reasoningTokens ?? 0
    const round = this.#round
    const goOn = batch.done.finishReason === 'stop' && this.#canCall(round.calls)
    if (round.isEmpty() && this.#aborted) return batch
    this.#messages.push(...this.#written(round))
    if (!goOn) {
      const ends = { ...batch.done, usage: { ...this.#used } }
      return { ...batch, done: ends, calls: round.calls.length > 0 }
    }
    this.#messages.push(...(await this.#call(round.calls)))
    this.#rounds += 1
    this.#calls += round.count
    this.#round = new Round()
    this.#source = undefined
    const more = { ...batch }
    delete more.done
    return more
  }

  #start(): void {
    const { model, settings, system } = this.#given
    // What is continued is open only in the first round.
    const first = this.#rounds === 0
    const options = { ...settings }
    if (!first) {
      delete options.continueFinalMessage
      delete options.continueField
      // A call that was required has been made; required again, there would never be an answer.
      if (options.toolChoice !== 'none') delete options.toolChoice
    } else if (settings.continueFinalMessage === true) {
      this.#round.continues(this.#messages.at(-1))
    }
    this.#source = model.start(withSystem(system, this.#messages), options)
  }

  /** The turn that a round has written. */
  #written(round: Round): Message[] {
    if (round.open !== undefined) this.#messages.pop()
    const content = round.open === undefined ? round.text : round.open + round.text
    if (content === '' && round.calls.length === 0 && round.reasoning === '') return []
    const calls: ToolCall[] = round.calls.map(({ id, name, arguments: args }) => ({
      id,
      type: 'function',
      function: { name, arguments: args },
    }))
    return [
      {
        role: 'assistant',
        content,
        ...(round.reasoning === '' ? {} : { reasoning_content: round.reasoning }),
        ...(calls.length === 0 ? {} : { tool_calls: calls }),
      },
    ]
  }

  /** Whether the calls are answered here: where every one has a function, or names no tool. */
  #canCall(calls: readonly GeneratedToolCall[]): boolean {
    const limit = this.#given.options.maxToolRounds ?? MAX_ROUNDS
    if (calls.length === 0 || this.#rounds >= limit || this.#aborted) return false
    const tools = this.#tools()
    const runs = (tool: AnyTool): boolean => tool.execute !== undefined
    if (!tools.some(runs)) return false
    return calls.every(({ name }) => {
      const tool = tools.find((it) => toolName(it) === name)
      return tool === undefined || runs(tool)
    })
  }

  #tools(): readonly AnyTool[] {
    return this.#given.settings.tools ?? []
  }

  /** Calls the tools, all at the same time; what comes back, in the calls' order. */
  #call(calls: readonly GeneratedToolCall[]): Promise<Message[]> {
    return Promise.all(
      calls.map(async (call): Promise<Message> => {
        const content = await this.#result(call)
        return { role: 'tool', tool_call_id: call.id, name: call.name, content }
      }),
    )
  }

  /** What the model is told of a call: what goes wrong as well, so that it can do better. */
  async #result(call: GeneratedToolCall): Promise<string> {
    const tool = this.#tools().find((it) => toolName(it) === call.name)
    const { onToolCall } = this.#given.options
    try {
      const verdict = await onToolCall?.(call, { signal: this.#controller.signal })
      if (verdict === false) return 'Error: the user has refused this call'
      if (typeof verdict === 'string') return `Error: ${verdict}`
    } catch (error) {
      // The hook is the caller's own code, not the tool's.
      throw new UserError(error)
    }
    try {
      if (tool?.execute === undefined) {
        const names = this.#tools().map(toolName).join(', ')
        throw new Error(`there is no tool ${show(call.name)}; there are ${names}`)
      }
      const args = await validated(tool, call.arguments)
      const execute = tool.execute as (args: unknown, call: GeneratedToolCall) => unknown
      const value = await execute(args, call)
      return typeof value === 'string' ? value : JSON.stringify(value === undefined ? null : value)
    } catch (error) {
      return `Error: ${error instanceof Error ? error.message : String(error)}`
    }
  }

  /** Drops what does not fit, as the caller wants it. */
  async #makeRoom(): Promise<void> {
    const { model, settings, system, options } = this.#given
    const { contextLength } = model.info
    const full = options.onContextFull
    if (full === undefined || full === 'error' || contextLength === undefined) return
    const limit = Math.max(
      1,
      contextLength - Math.min(settings.maxTokens ?? ROOM, contextLength / 2),
    )
    const count = (): Promise<number> =>
      model.countTokens(withSystem(system, this.#messages), templateOnly(settings))
    for (let tokens = await count(); tokens > limit; tokens = await count()) {
      const before = this.#messages.length
      if (full === 'drop-oldest') dropOldest(this.#messages)
      else
        this.#messages.splice(0, before, ...(await full(copy(this.#messages), { tokens, limit })))
      if (this.#messages.length >= before)
        throw new NodeMlxError(
          'CONTEXT_OVERFLOW',
          `the conversation has ${tokens} tokens, and with room for an answer the context holds ${limit}; nothing more can be dropped`,
          { tokens, contextLength: limit },
        )
    }
  }
}

/** What one round of an answer has written. */
class Round {
  text = ''
  reasoning = ''
  calls: GeneratedToolCall[] = []
  /** How many calls there were, those that cannot be read included. */
  count = 0
  /** The beginning of the turn that it continues. */
  open: string | undefined
  readonly #open = new Map<number, { id: string; name: string; json: string }>()

  continues(message: Message | undefined): void {
    this.open = typeof message?.content === 'string' ? message.content : ''
  }

  isEmpty(): boolean {
    return this.text === '' && this.reasoning === '' && this.count === 0
  }

  /** Takes a batch; its calls are numbered from `first` on, and have ids. */
  take(batch: SourceBatch, first: number): SourceBatch {
    this.text += batch.text
    if (batch.pieces === undefined) return batch
    const pieces = Array.from(batch.pieces, (piece) => {
      if (piece.type === 'reasoning') this.reasoning += piece.text
      if (piece.type === 'text' || piece.type === 'reasoning') return piece
      const own = { ...piece, index: piece.index + first }
      const call = this.#open.get(piece.index)
      if (piece.type === 'tool-call-start') {
        own.id = piece.id ?? callId()
        this.#open.set(piece.index, { id: own.id, name: piece.text, json: '' })
      } else if (piece.type === 'tool-call-delta' && call !== undefined) call.json += piece.text
      else if (piece.type === 'tool-call-end' && call !== undefined) {
        const { id, name, json } = call
        this.calls.push({ id, name, arguments: JSON.parse(json) as Record<string, unknown> })
      }
      this.count = Math.max(this.count, piece.index + 1)
      return own
    })
    return { ...batch, pieces }
  }
}

/** The arguments as the tool's schema gives them, where it can check them. */
async function validated(tool: AnyTool, args: Record<string, unknown>): Promise<unknown> {
  const schema = toolParameters(tool)
  if (!isStandardSchema(schema)) return args
  const result = (await schema['~standard'].validate(args)) as {
    value?: unknown
    issues?: readonly { message: string; path?: readonly unknown[] }[]
  }
  if (result.issues === undefined) return result.value
  const problems = result.issues.map(({ message, path = [] }) => {
    const keys = path.map((key) =>
      String(typeof key === 'object' && key !== null && 'key' in key ? key.key : key),
    )
    return keys.length === 0 ? message : `${keys.join('.')}: ${message}`
  })
  throw new Error(`the arguments are invalid: ${problems.join('; ')}`)
}

function withSystem(system: string | undefined, messages: readonly Message[]): Message[] {
  return system === undefined ? [...messages] : [{ role: 'system', content: system }, ...messages]
}

/** Takes the oldest turn away: a user's message with all that answers it. */
function dropOldest(messages: Message[]): void {
  const first = messages.findIndex(({ role }) => role === 'user')
  const next = messages.findIndex(({ role }, index) => index > first && role === 'user')
  if (first >= 0 && next > first) messages.splice(first, next - first)
}

/** The options that decide what the prompt is. */
function templateOnly(settings: GenerateOptions): GenerateOptions {
  const names = [
    'tools',
    'reasoning',
    'documents',
    'templateVariables',
    'chatTemplate',
    'continueFinalMessage',
    'continueField',
    'now',
    'splitSpecialTokens',
  ] as const
  const given = names.filter((name) => settings[name] !== undefined)
  return Object.fromEntries(given.map((name) => [name, settings[name]]))
}

function copy(messages: readonly Message[]): Message[] {
  return structuredClone(messages) as Message[]
}
