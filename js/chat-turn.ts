import type { SourceBatch, SourcePiece } from './generation.js'
import { callId } from './pieces.js'
import type { GeneratedToolCall, Message, ToolCall } from './types.js'

/** A call that is not made: what the model is told of it, and the call where it could be read. */
export interface RefusedCall {
  raw: string
  error: string
  call?: GeneratedToolCall
}

/** What one round of an answer has written. */
export class ChatTurn {
  text = ''
  reasoning = ''
  readonly calls: GeneratedToolCall[] = []
  readonly refused: RefusedCall[] = []
  /** How many calls there were, those that are refused included. */
  count = 0
  /** The message that it continues. */
  open: Message | undefined
  readonly #open = new Map<number, { id: string; name: string; json: string }>()

  isEmpty(): boolean {
    return this.text === '' && this.reasoning === '' && this.count === 0
  }

  /** Takes a batch; its calls are numbered from `first` on, and have ids. */
  take(batch: SourceBatch, first: number): SourceBatch {
    this.text += batch.text
    if (batch.pieces === undefined) return batch
    return { ...batch, pieces: Array.from(batch.pieces, (piece) => this.#take(piece, first)) }
  }

  #take(piece: SourcePiece, first: number): SourcePiece {
    const { type, index, text } = piece
    if (type === 'reasoning') this.reasoning += text
    if (type === 'text' || type === 'reasoning') return piece
    const own = { ...piece, index: index + first }
    const open = this.#open.get(index)
    if (type === 'tool-call-start') {
      own.id = piece.id ?? callId()
      this.#open.set(index, { id: own.id, name: text, json: '' })
    } else if (type === 'tool-call-delta' && open !== undefined) open.json += text
    else if (type === 'tool-call-end' && open !== undefined) {
      const { id, name, json } = open
      this.calls.push({ id, name, arguments: JSON.parse(json) as Record<string, unknown> })
    } else if (type === 'tool-call-invalid') {
      const { error = '', call } = piece
      this.refused.push({ raw: text, error, ...(call === undefined ? {} : { call }) })
    }
    this.count = Math.max(this.count, index + 1)
    return own
  }

  /** The conversation with the message that the turn is, in the place of the one it continues. */
  addTo(messages: readonly Message[]): Message[] {
    const said = this.#message()
    const before = this.open === undefined ? messages : messages.slice(0, -1)
    return said === undefined ? [...before] : [...before, said]
  }

  /** The message, with what it continues; `undefined` where there is nothing to say. */
  #message(): Message | undefined {
    const { open, reasoning } = this
    const unreadable = this.refused.filter(({ call }) => call === undefined)
    // What the model has written stays, as text.
    const text = [this.text, ...unreadable.map(({ raw }) => raw)].filter((it) => it !== '')
    const said = text.join('\n')
    const refused = this.refused.flatMap(({ call }) => (call === undefined ? [] : [call]))
    const calls = [...this.calls, ...refused].map(toHistory)
    if (open === undefined && said === '' && calls.length === 0 && reasoning === '')
      return undefined
    const thought = textOf(open?.['reasoning_content']) + reasoning
    return {
      role: 'assistant',
      ...open,
      content: withText(open?.content, said),
      ...(thought === '' ? {} : { reasoning_content: thought }),
      ...(calls.length === 0 ? {} : { tool_calls: calls }),
    }
  }
}

/** A call as the history has it. */
function toHistory({ id, name, arguments: args }: GeneratedToolCall): ToolCall {
  return { id, type: 'function', function: { name, arguments: args } }
}

/** A content that goes on with a text. */
function withText(content: Message['content'], text: string): NonNullable<Message['content']> {
  if (!Array.isArray(content)) return textOf(content) + text
  const parts = content as readonly { type: string; text?: unknown }[]
  const last = parts.at(-1)
  if (text === '') return [...parts]
  if (last?.type !== 'text') return [...parts, { type: 'text', text }]
  return [...parts.slice(0, -1), { ...last, text: textOf(last.text) + text }]
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

/** Which field of an answer is open: its reasoning, where it was cut off within. */
export function openField(message: Message): 'content' | 'reasoning_content' {
  const { content } = message
  const isEmpty = content === undefined || content === null || content.length === 0
  const thinks = textOf(message['reasoning_content']) !== ''
  return isEmpty && thinks ? 'reasoning_content' : 'content'
}

const UNREADABLE = 'Error: the call cannot be read: '

/**
 * What the model is told of calls that it made badly. Templates know no result without a call: where
 * none can be read, the message is the user's.
 */
export function toldOfRefused(turn: ChatTurn): Message[] {
  const hasCalls = turn.calls.length > 0 || turn.refused.some(({ call }) => call !== undefined)
  return turn.refused.map(({ call, error }): Message => {
    if (call !== undefined)
      return { role: 'tool', tool_call_id: call.id, name: call.name, content: `Error: ${error}` }
    const content = UNREADABLE + error
    return hasCalls ? { role: 'tool', tool_call_id: callId(), content } : { role: 'user', content }
  })
}

/** Whether a message is what a user has asked. */
export function isAsked({ role, content }: Message): boolean {
  return role === 'user' && !(typeof content === 'string' && content.startsWith(UNREADABLE))
}
