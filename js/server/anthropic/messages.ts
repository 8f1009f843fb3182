import type { AnswerPiece, GenerationResult, PrefillProgress } from '../../types.js'
import { randomUUID } from 'node:crypto'
import { nucleus } from '../../nucleus.js'
import { limitedTokens } from '../ask.js'
import { answered, json, streamed, type Call } from '../call.js'
import { readFields, required } from '../fields.js'
import { frame } from '../sse.js'
import type { Order, Turn } from '../turn.js'
import { unknownField } from './api.js'
import {
  asked,
  COUNT_FIELDS,
  MESSAGE_FIELDS,
  thinkingOptions,
  type MessageFields,
} from './request.js'

/** `POST /v1/messages` */
export async function messages(call: Call, body: unknown): Promise<Response> {
  const fields = readFields(body, '', MESSAGE_FIELDS, unknownField)
  const order = orderOf(call, fields)
  const id = `msg_${randomUUID().replaceAll('-', '')}`
  const head = { id, type: 'message', role: 'assistant', model: order.model }
  if (fields.stream === true) return streamed(call, order, (turn) => frames(turn, head))
  return answered(call, order, async (turn) => {
    const answer = await turn.answer(0)
    return json({ ...head, content: content(answer), ...ending(answer), usage: usage(answer) })
  })
}

/** `POST /v1/messages/count_tokens` */
export async function countTokens(call: Call, body: unknown): Promise<Response> {
  const fields = readFields(body, '', COUNT_FIELDS, unknownField)
  const { messages: conversation, options } = asked(fields)
  const name = required(fields.model, 'model')
  const { tools, splitSpecialTokens, continueFinalMessage } = options
  const count = await call.engine.models.with(name, call.lifetime.signal, (model) =>
    model.countTokens(conversation, { tools, splitSpecialTokens, continueFinalMessage }),
  )
  return json({ input_tokens: count })
}

function orderOf({ engine }: Call, fields: MessageFields): Order {
  const model = required(fields.model, 'model')
  const maxTokens = required(fields.max_tokens, 'max_tokens')
  const { messages: conversation, options } = asked(fields)
  const stop = fields.stop_sequences?.filter((text) => text !== '')
  // Where nothing else says how much to think.
  const byEffort = fields.thinking === undefined || fields.thinking['type'] === 'adaptive'
  return {
    model,
    prompts: [conversation],
    choices: 1,
    ...(byEffort ? { names: { reasoning: 'output_config.effort' } } : {}),
    options: {
      ...options,
      ...thinkingOptions(fields),
      maxTokens: limitedTokens(maxTokens, engine.limits),
      temperature: fields.temperature,
      topP: nucleus(fields.top_p),
      topK: fields.top_k,
      stop: stop === undefined || stop.length === 0 ? undefined : stop,
    },
  }
}

function content({ reasoning, text, toolCalls, invalidToolCalls }: GenerationResult): object[] {
  const said = [text, ...invalidToolCalls.map(({ raw }) => raw)].join('')
  return [
    // Signatures are for the provider that made them.
    ...(reasoning === '' ? [] : [{ type: 'thinking', thinking: reasoning, signature: '' }]),
    ...(said === '' ? [] : [{ type: 'text', text: said, citations: null }]),
    ...toolCalls.map(({ id, name, arguments: input }) => ({ type: 'tool_use', id, name, input })),
  ]
}

/** Why an answer ended, as this API calls it. */
function ending({ finishReason, stopString }: GenerationResult): object {
  const stop_sequence = stopString ?? null
  if (finishReason === 'tool-calls') return { stop_reason: 'tool_use', stop_sequence }
  if (finishReason === 'length') return { stop_reason: 'max_tokens', stop_sequence }
  return {
    stop_reason: stopString === undefined ? 'end_turn' : 'stop_sequence',
    stop_sequence,
  }
}

function usage({ usage }: GenerationResult): object {
  const { promptTokens: total, cachedTokens: cached, completionTokens } = usage
  return { ...inputUsage({ total, cached }), output_tokens: completionTokens }
}

/** The tokens of a prompt are told in two parts: those that were read, and those known before. */
function inputUsage({ total, cached }: Pick<PrefillProgress, 'total' | 'cached'>): object {
  return {
    input_tokens: total - cached,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cached,
  }
}

/** Of a model that does not tell how it reads its prompt. */
const NOTHING_TOLD = { total: 0, cached: 0 }

async function* frames(turn: Turn, head: object): AsyncGenerator<string, undefined> {
  const event = (type: string, fields: object): string => frame({ type, ...fields }, type)
  const blocks = new Blocks()
  const pieces = turn.pieces()
  let next = pieces.next()
  // It also rejects where nobody waits any more.
  next.catch(() => undefined)
  // What fails before the prompt is read is thrown by the pieces.
  const prompt = await Promise.race([turn.begun, next.then(() => NOTHING_TOLD)])
  const message = {
    ...head,
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: { ...inputUsage(prompt), output_tokens: 0 },
  }
  yield event('message_start', { message })
  for (let read = await next; read.done !== true; read = await next) {
    for (const [type, fields] of blocks.events(read.value.piece)) yield event(type, fields)
    next = pieces.next()
  }
  const answer = await turn.answer(0)
  for (const [type, fields] of blocks.end()) yield event(type, fields)
  yield event('message_delta', { delta: ending(answer), usage: usage(answer) })
  yield event('message_stop', {})
}

type Event = [type: string, fields: object]

/** The blocks of an answer: one at a time is open, and a piece of another kind ends it. */
class Blocks {
  #index = -1
  /** The kind of the open block, and for a tool the call's id. */
  #open: string | undefined

  events(piece: AnswerPiece): Event[] {
    switch (piece.type) {
      case 'text':
        if (piece.text === '') return []
        return this.#say('text', { type: 'text', text: '', citations: null }, [
          { type: 'text_delta', text: piece.text },
        ])
      case 'tool-call-invalid':
        return this.#say('text', { type: 'text', text: '', citations: null }, [
          { type: 'text_delta', text: piece.raw },
        ])
      case 'reasoning':
        if (piece.text === '') return []
        return this.#say('thinking', { type: 'thinking', thinking: '', signature: '' }, [
          { type: 'thinking_delta', thinking: piece.text },
        ])
      case 'tool-call-start': {
        const { id, name } = piece
        return this.#say(`tool ${id}`, { type: 'tool_use', id, name, input: {} }, [])
      }
      case 'tool-call-delta': {
        const delta = { type: 'input_json_delta', partial_json: piece.argumentsText }
        return [['content_block_delta', { index: this.#index, delta }]]
      }
      case 'tool-call-end':
        return this.end()
    }
  }

  end(): Event[] {
    if (this.#open === undefined) return []
    const index = this.#index
    const delta = { type: 'signature_delta', signature: '' }
    const signature: Event[] =
      this.#open === 'thinking' ? [['content_block_delta', { index, delta }]] : []
    this.#open = undefined
    return [...signature, ['content_block_stop', { index }]]
  }

  #say(kind: string, content_block: object, deltas: readonly object[]): Event[] {
    const started: Event[] = []
    if (this.#open !== kind) {
      started.push(...this.end())
      this.#index++
      this.#open = kind
      started.push(['content_block_start', { index: this.#index, content_block }])
    }
    const index = this.#index
    return [...started, ...deltas.map((delta): Event => ['content_block_delta', { index, delta }])]
  }
}
