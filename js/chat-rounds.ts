import { makeRoom } from './chat-context.js'
import { ChatTotals } from './chat-totals.js'
import { ChatTurn, toldOfRefused } from './chat-turn.js'
import { ABORTED, type Source, type SourceBatch, type SourceEnd } from './generation.js'
import { runTools, unanswered } from './tool-runs.js'
import { toolName } from './tools.js'
import type { AnyTool, ChatOptions, GenerateOptions, Message, Model } from './types.js'

/** What a chat needs of a model. */
export interface ChatModel extends Pick<Model, 'info' | 'countTokens'> {
  /** Checks what a generation would get; the function that comes back starts it. */
  prepare(messages: readonly Message[], options: GenerateOptions): () => Source
}

/** How many times tools are called before an answer, where nobody says otherwise. */
const MAX_ROUNDS = 8

export interface RoundsOptions {
  model: ChatModel
  options: ChatOptions
  settings: GenerateOptions
  system: string | undefined
  messages: Message[]
  /**
   * Called once, as soon as the answer has ended, failed or been aborted: with the conversation as
   * it is to stay, or with nothing where nothing was said.
   */
  onEnd: (messages: Message[] | undefined) => void
}

/** An answer with the calls of tools before it, as one source of events. */
export class ChatRounds implements Source {
  readonly #given: RoundsOptions
  #messages: Message[]
  readonly #totals = new ChatTotals()
  /** When the answer is to end at the latest. */
  readonly #deadline: number
  #source: Source | undefined
  #turn = new ChatTurn()
  #rounds = 0
  #calls = 0
  /** The conversation as the last round has left it whose calls were all answered. */
  #complete: Message[] | undefined
  /** Whether tools are under way. */
  #isCalling = false
  #aborted = false
  #hasEnded = false
  /** Until the first round may begin. */
  #beginning: Promise<void> | undefined
  #settle: () => void = () => undefined
  /** Resolves once nothing of it is under way any more. */
  readonly ended = new Promise<void>((resolve) => {
    this.#settle = resolve
  })
  /** Ends what tools do. */
  readonly #controller = new AbortController()

  constructor(given: RoundsOptions) {
    this.#given = given
    this.#messages = given.messages
    this.#deadline = performance.now() + (given.settings.maxTimeMs ?? Number.POSITIVE_INFINITY)
  }

  /**
   * Checks the first round, and begins it, behind what `before` waits for, unless old turns may
   * have to go first.
   */
  begin(before?: Promise<void>): void {
    const start = this.#prepare()
    const { onContextFull: full = 'error' } = this.#given.options
    const begin = (): void => {
      if (full === 'error' && !this.#isOver()) this.#source = start()
    }
    if (before === undefined) begin()
    else this.#beginning = before.then(begin)
    // Whoever asks for the next batch gets what goes wrong here.
    this.#beginning?.catch(() => undefined)
  }

  abort(): void {
    if (!this.#hasEnded) this.#end(this.#said())
    this.#aborted = true
    this.#controller.abort()
    this.#source?.abort()
  }

  async next(): Promise<SourceBatch> {
    try {
      const batch = await this.#next()
      if (batch.done === undefined) return batch
      this.#end(this.#messages)
      this.#settle()
      return batch
    } catch (error) {
      // Calls that were answered may have had effects: they are not to be made again.
      this.#end(this.#complete)
      this.#settle()
      throw error
    }
  }

  #end(kept: Message[] | undefined): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.#given.onEnd(kept)
  }

  /** The conversation with what has been said until now; `undefined` where that is nothing. */
  #said(): Message[] | undefined {
    const turn = this.#turn
    // What comes back from now on is not waited for.
    if (this.#isCalling) return structuredClone(this.#messages)
    if (turn.isEmpty()) return this.#complete
    const messages = turn.addTo(this.#messages)
    if (!this.#canCall(turn)) return messages
    const results = [...turn.calls.map(unanswered), ...toldOfRefused(turn)]
    // The user, who has stopped the answer, is about to say something else.
    return [...messages, ...results.filter(({ role }) => role === 'tool')]
  }

  async #next(): Promise<SourceBatch> {
    const source = (this.#source ??= await this.#begun())
    if (source === undefined) return this.#nothing()
    const made = await source.next()
    // What was made ahead of an abort was seen by nobody, and is not part of the answer.
    const batch = this.#aborted ? made : this.#turn.take(made, this.#calls)
    if (batch.done === undefined) return batch
    this.#totals.add(batch.done)
    if (this.#aborted) return { ...batch, done: this.#total(batch.done) }
    const turn = this.#turn
    this.#messages = turn.addTo(this.#messages)
    if (batch.done.finishReason !== 'stop' || !this.#canCall(turn))
      return { ...batch, done: this.#total(batch.done), calls: turn.calls.length > 0 }
    await this.#call(turn)
    this.#rounds += 1
    this.#calls += turn.count
    this.#turn = new ChatTurn()
    this.#source = undefined
    this.#complete = [...this.#messages]
    const more = { ...batch }
    delete more.done
    return more
  }

  /** The source of the next round; `undefined` where there is to be none. */
  async #begun(): Promise<Source | undefined> {
    await this.#beginning
    if (this.#source !== undefined) return this.#source
    if (!this.#isOver()) await this.#makeRoom()
    return this.#isOver() ? undefined : this.#prepare()()
  }

  #isOver(): boolean {
    return this.#aborted || performance.now() >= this.#deadline
  }

  /** The end of an answer that ends between two rounds. */
  #nothing(): SourceBatch {
    const end: SourceEnd = this.#aborted
      ? ABORTED
      : { ...ABORTED, finishReason: 'length', matched: { kind: 'time' } }
    return { text: '', tokens: new Uint32Array(), done: this.#total(end) }
  }

  #total(done: SourceEnd): SourceEnd {
    const end = this.#totals.end(done)
    if (end.matched?.kind !== 'time') return end
    // Of all rounds together, not what was left for the last.
    return { ...end, matched: { kind: 'time', number: this.#given.settings.maxTimeMs ?? 0 } }
  }

  #prepare(): () => Source {
    const { model, settings, system } = this.#given
    const options = { ...settings }
    if (this.#rounds > 0) {
      // What is continued is open only in the first round.
      delete options.continueFinalMessage
      delete options.continueField
      // A call that was required has been made; required again, there would never be an answer.
      if (options.toolChoice !== 'none') delete options.toolChoice
      if (options.maxTimeMs !== undefined)
        options.maxTimeMs = Math.max(1, Math.ceil(this.#deadline - performance.now()))
    } else if (settings.continueFinalMessage === true) {
      this.#turn.open = this.#messages.at(-1)
    }
    return model.prepare(withSystem(system, this.#messages), options)
  }

  /**
   * Whether calls are answered here: where every one that can be made has a function, or names no
   * tool.
   */
  #canCall({ calls, refused }: ChatTurn): boolean {
    const limit = this.#given.options.maxToolRounds ?? MAX_ROUNDS
    if (calls.length + refused.length === 0 || this.#rounds >= limit || this.#aborted) return false
    const tools = this.#tools()
    const runs = (tool: AnyTool): boolean => tool.execute !== undefined
    if (!tools.some(runs)) return false
    const names = [...calls, ...refused.flatMap(({ call }) => call ?? [])].map(({ name }) => name)
    return names.every((name) => {
      const tool = tools.find((it) => toolName(it) === name)
      return tool === undefined || runs(tool)
    })
  }

  #tools(): readonly AnyTool[] {
    return this.#given.settings.tools ?? []
  }

  /** Adds what tools give, and what is wrong with calls that are not made. */
  async #call(turn: ChatTurn): Promise<void> {
    const { signal } = this.#controller
    const { onToolCall } = this.#given.options
    const left = this.#deadline - performance.now()
    // Timers come a little early, and take none that is longer than 2³¹ ms, which is for ever.
    const timer =
      left < 2 ** 31 - 2
        ? setTimeout(() => {
            this.#controller.abort()
          }, left + 1)
        : undefined
    const results = turn.calls.map(unanswered)
    this.#messages.push(...results, ...toldOfRefused(turn))
    this.#isCalling = true
    try {
      await runTools(turn.calls, results, { tools: this.#tools(), onToolCall, signal })
    } finally {
      clearTimeout(timer)
      this.#isCalling = false
    }
  }

  async #makeRoom(): Promise<void> {
    const { model, settings, system, options } = this.#given
    await makeRoom(this.#messages, {
      full: options.onContextFull,
      contextLength: model.info.contextLength,
      maxTokens: settings.maxTokens,
      signal: this.#controller.signal,
      count: () =>
        model.countTokens(withSystem(system, this.#messages), templateOnly(settings, this.#rounds)),
    })
  }
}

function withSystem(system: string | undefined, messages: readonly Message[]): Message[] {
  return system === undefined ? [...messages] : [{ role: 'system', content: system }, ...messages]
}

const TEMPLATE = ['tools', 'reasoning', 'documents', 'templateVariables', 'chatTemplate'] as const
const CONTINUE = ['continueFinalMessage', 'continueField'] as const

/** The options that decide what the prompt of a round is. */
function templateOnly(settings: GenerateOptions, round: number): GenerateOptions {
  const first = round === 0 ? CONTINUE : []
  const names = [...TEMPLATE, ...first, 'now', 'splitSpecialTokens'] as const
  const given = names.filter((name) => settings[name] !== undefined)
  return Object.fromEntries(given.map((name) => [name, settings[name]]))
}
