import { invalidArgument, NodeMlxError, type NodeMlxErrorCode } from '../errors.js'
import type { NativePiece } from '../native.js'
import type { Message, ToolDefinition } from '../types.js'
import {
  arrayOf,
  fields,
  isPlainObject,
  nonEmptyString,
  oneOf,
  show,
  string,
  type Check,
} from '../validate.js'
import { encode, pieces } from './vocabulary.js'

/** A text of an answer: a string comes word by word, an array item by item. */
export type FakeText = string | readonly string[]

/** A call of a tool in an answer. */
export interface FakeToolCall {
  name: string
  arguments?: Record<string, unknown> | undefined
  /** @defaultValue a number, such as `'call00001'` */
  id?: string | undefined
}

/** What an answer fails with. */
export interface FakeError {
  code: NodeMlxErrorCode
  message?: string | undefined
  option?: string | undefined
  path?: string | undefined
}

/** A part of an answer: exactly one of these fields. */
export interface FakePart {
  text?: FakeText | undefined
  reasoning?: FakeText | undefined
  toolCall?: FakeToolCall | undefined
  /** A call that cannot be read. */
  invalidToolCall?: { raw: string; error: string } | undefined
  /** Nothing comes for this long. */
  waitMs?: number | undefined
  /** The answer fails here. */
  error?: FakeError | Error | undefined
}

/** An answer: reasoning, text, calls and an error in this order, or in that of `parts`. */
export interface FakeAnswer {
  reasoning?: FakeText | undefined
  text?: FakeText | undefined
  /** The answer is this, as JSON. */
  object?: unknown
  toolCalls?: readonly FakeToolCall[] | undefined
  error?: FakeError | Error | undefined
  parts?: readonly FakePart[] | undefined
  /** `'length'` ends the answer as `maxTokens` does. @defaultValue 'stop' */
  finishReason?: 'stop' | 'length' | undefined
  /** Milliseconds until the prompt has been read. @defaultValue that of the model */
  promptMs?: number | undefined
  /** Milliseconds for each token. @defaultValue that of the model */
  tokenMs?: number | undefined
}

/** What a fake model was asked, as a real one reads it. */
export interface FakeRequest {
  /** Which of the model's generations this is, from 0. */
  index: number
  /** The conversation; a prompt that is a string is a user's message. */
  messages?: Message[]
  /** What goes into the chat template besides the messages. */
  tools?: ToolDefinition[]
  /** A prompt that is continued as it is. */
  text?: string
  tokens?: number[]
  /** The other options of `generate`; `stop` is an array. */
  options: Record<string, unknown>
}

/** An answer, one for each generation in turn, or a function that answers. */
export type FakeAnswers =
  | string
  | FakeAnswer
  | readonly (string | FakeAnswer)[]
  | ((request: FakeRequest) => string | FakeAnswer | Promise<string | FakeAnswer>)

/** What a fake generation does next. */
export interface Step {
  /** How long it takes. */
  ms: number
  piece?: Omit<NativePiece, 'tokens'>
  /** What the model would have written for this. */
  raw: string
  tokens: number[]
  error?: unknown
}

/** An answer, step by step. */
export interface Script {
  steps: Step[]
  finishReason: 'stop' | 'length'
  promptMs: number
}

const milliseconds: Check<number> = (value, option) => {
  if (typeof value === 'number' && value >= 0 && value <= 2 ** 31 - 1) return value
  throw invalidArgument(option, `expected a number of milliseconds, got ${show(value)}`)
}

/** How long the answers of a model take, where they do not say so. */
export const SPEED_FIELDS = { promptMs: milliseconds, tokenMs: milliseconds }

const texts: Check<FakeText> = (value, option) =>
  typeof value === 'string'
    ? string(value, option)
    : arrayOf(string, 'a string or an array of strings')(value, option)

const anObject: Check<Record<string, unknown>> = (value, option) => {
  if (isPlainObject(value)) return value
  throw invalidArgument(option, `expected an object, got ${show(value)}`)
}

const toolCall: Check<FakeToolCall> = (value, option) => {
  const call = fields(anObject(value, option), option, {
    name: nonEmptyString,
    arguments: anObject,
    id: nonEmptyString,
  })
  if (call.name === undefined) throw invalidArgument(`${option}.name`, 'is missing')
  return { ...call, name: call.name }
}

const invalidToolCall: Check<{ raw: string; error: string }> = (value, option) => {
  const { raw = '', error = '' } = fields(anObject(value, option), option, {
    raw: string,
    error: string,
  })
  return { raw, error }
}

const failure: Check<Error> = (value, option) => {
  if (value instanceof Error) return value
  const { code, message, ...details } = fields(anObject(value, option), option, {
    code: nonEmptyString,
    message: string,
    option: nonEmptyString,
    path: nonEmptyString,
  })
  if (code === undefined) throw invalidArgument(`${option}.code`, 'is missing')
  return new NodeMlxError(code, message ?? `the fake model fails with ${code}`, details)
}

const PART_FIELDS = {
  text: texts,
  reasoning: texts,
  toolCall,
  invalidToolCall,
  waitMs: milliseconds,
  error: failure,
} satisfies Record<keyof FakePart, Check<unknown>>

const part: Check<FakePart> = (value, option) => {
  const checked = fields(anObject(value, option), option, PART_FIELDS)
  const names = Object.keys(checked)
  if (names.length === 1) return checked
  throw invalidArgument(
    option,
    `expected exactly one of ${Object.keys(PART_FIELDS).join(', ')}, got ${names.join(', ') || 'none'}`,
  )
}

const ANSWER_FIELDS = {
  reasoning: texts,
  text: texts,
  object: (value: unknown) => value,
  toolCalls: arrayOf(toolCall, 'an array of calls'),
  error: failure,
  parts: arrayOf(part, 'an array of parts'),
  finishReason: oneOf('stop', 'length'),
  ...SPEED_FIELDS,
} satisfies Record<keyof FakeAnswer, Check<unknown>>

/** An answer, checked. */
export function checkAnswer(answer: unknown, option: string): FakeAnswer {
  if (typeof answer === 'string') return { text: string(answer, option) }
  const checked = fields(anObject(answer, option), option, ANSWER_FIELDS)
  if (checked.text !== undefined && checked.object !== undefined)
    throw invalidArgument(`${option}.object`, 'is the text of the answer: leave text out')
  const other = (['reasoning', 'text', 'object', 'toolCalls', 'error'] as const).find(
    (name) => checked[name] !== undefined,
  )
  if (checked.parts !== undefined && other !== undefined)
    throw invalidArgument(`${option}.${other}`, 'cannot go together with parts')
  return checked
}

function partsOf(answer: FakeAnswer): readonly FakePart[] {
  const { reasoning, object, toolCalls = [], error } = answer
  const text = object === undefined ? answer.text : JSON.stringify(object)
  return (
    answer.parts ?? [
      ...(reasoning === undefined ? [] : [{ reasoning }]),
      ...(text === undefined ? [] : [{ text }]),
      ...toolCalls.map((toolCall) => ({ toolCall })),
      ...(error === undefined ? [] : [{ error }]),
    ]
  )
}

function inPieces(text: FakeText): readonly string[] {
  return typeof text === 'string' ? pieces(text) : text
}

/**
 * The steps of an answer.
 *
 * @param speed - What the answer takes where it does not say so itself.
 */
export function script(answer: FakeAnswer, speed: { promptMs: number; tokenMs: number }): Script {
  const { finishReason = 'stop', promptMs = speed.promptMs, tokenMs = speed.tokenMs } = answer
  const steps: Step[] = []
  let calls = 0
  const add = (type: NativePiece['type'], text: string, raw = text, more: object = {}): void => {
    const index = type.startsWith('tool') ? calls : 0
    const tokens = encode(raw)
    steps.push({ ms: tokenMs * tokens.length, piece: { type, text, index, ...more }, raw, tokens })
  }
  const addText = (text: FakeText): void => {
    for (const piece of inPieces(text)) add('text', piece)
  }
  const addReasoning = (text: FakeText): void => {
    add('reasoning', '', '<think>')
    for (const piece of inPieces(text)) add('reasoning', piece)
    add('reasoning', '', '</think>')
  }
  const addCall = ({ name, arguments: args = {}, id }: FakeToolCall): void => {
    add('tool-call-start', name, `<tool_call>${name}`, {
      id: id ?? `call${String(calls + 1).padStart(5, '0')}`,
    })
    for (const piece of pieces(JSON.stringify(args))) add('tool-call-delta', piece)
    add('tool-call-end', '', '</tool_call>')
    calls++
  }
  for (const { text, reasoning, toolCall, invalidToolCall, waitMs, error } of partsOf(answer)) {
    if (text !== undefined) addText(text)
    if (reasoning !== undefined) addReasoning(reasoning)
    if (toolCall !== undefined) addCall(toolCall)
    if (invalidToolCall !== undefined) {
      const { raw, error: message } = invalidToolCall
      add('tool-call-invalid', raw, raw, { error: message })
      calls++
    }
    if (waitMs !== undefined) steps.push({ ms: waitMs, raw: '', tokens: [] })
    if (error !== undefined) steps.push({ ms: 0, raw: '', tokens: [], error })
  }
  return { steps, finishReason, promptMs }
}
