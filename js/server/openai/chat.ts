import { randomUUID } from 'node:crypto'
import type {
  AnswerPiece,
  GenerateOptions,
  GeneratedLogprob,
  GenerationResult,
} from '../../types.js'
import { boolean, integer, number, oneOf, type Check, type Checked } from '../../validate.js'
import { answered, json, streamed, type Call } from '../call.js'
import { invalidField } from '../failure.js'
import { anything, only, readFields, record, records, required } from '../fields.js'
import { frame } from '../sse.js'
import type { Order, Turn } from '../turn.js'
import { limitedTokens } from '../ask.js'
import { unknownField } from './api.js'
import { effort } from './effort.js'
import { responseFormat } from './format.js'
import { chatLogprobs } from './logprobs.js'
import { chatMessages } from './messages.js'
import { includesUsage, SAMPLING_FIELDS, samplingOptions } from './sampling.js'
import { madeCalls, toolChoice, toolOptions, tools } from './tools.js'
import { finishReason, timings, usage } from './usage.js'

const CHAT_FIELDS = {
  ...SAMPLING_FIELDS,
  messages: anything,
  max_completion_tokens: number,
  logprobs: boolean,
  top_logprobs: integer(0, 20),
  tools,
  tool_choice: toolChoice,
  parallel_tool_calls: boolean,
  response_format: record,
  reasoning_effort: oneOf('none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'),
  modalities: only([['text']], 'this server answers with text'),
  store: only([false], 'this server keeps no completions'),
  verbosity: oneOf('low', 'medium', 'high'),
  prediction: anything,
  functions: only([[]], 'is of an earlier version of the API; use tools'),
  function_call: only(['none', 'auto'], 'is of an earlier version of the API; use tool_choice'),
  // Of other servers of local models.
  chat_template_kwargs: record,
  documents: records,
  add_generation_prompt: boolean,
  continue_final_message: boolean,
} satisfies Record<string, Check<unknown>>

type ChatFields = Checked<typeof CHAT_FIELDS>

/** `POST /v1/chat/completions` */
export async function chatCompletions(call: Call, body: unknown): Promise<Response> {
  const fields = readFields(body, '', CHAT_FIELDS, unknownField)
  const order = chatOrder(call, fields)
  const head = {
    id: `chatcmpl-${randomUUID().replaceAll('-', '')}`,
    created: Math.floor(Date.now() / 1000),
    model: order.model,
    system_fingerprint: null,
  }
  if (fields.stream !== true) {
    return answered(call, order, async (turn) => {
      const answers = await turn.answers()
      return json({ ...head, object: 'chat.completion', ...completion(answers, fields) })
    })
  }
  const withUsage = includesUsage(fields.stream_options)
  const chunk = { ...head, object: 'chat.completion.chunk' }
  return streamed(call, order, (turn) => chatFrames(turn, order, fields, chunk, withUsage))
}

function chatOrder({ engine }: Call, fields: ChatFields): Order {
  const { n = 1, top_logprobs: top, logprobs } = fields
  if (n > engine.limits.choices)
    throw invalidField('n', `n: expected a whole number from 1 to ${engine.limits.choices}`)
  if (top !== undefined && logprobs !== true)
    throw invalidField('top_logprobs', 'top_logprobs: only goes with logprobs: true')
  const options: GenerateOptions = {
    ...samplingOptions(fields),
    ...toolOptions(fields),
    maxTokens: limitedTokens(fields.max_completion_tokens ?? fields.max_tokens, engine.limits),
    logprobs: logprobs === true ? (top ?? 0) : undefined,
    responseFormat: responseFormat(fields.response_format),
    reasoning: effort(fields.reasoning_effort),
    documents: fields.documents,
    templateVariables: fields.chat_template_kwargs,
    addGenerationPrompt: fields.add_generation_prompt,
    continueFinalMessage: fields.continue_final_message,
    splitSpecialTokens: true,
  }
  return {
    model: required(fields.model, 'model'),
    prompts: [chatMessages(required(fields.messages, 'messages'))],
    choices: n,
    options,
    ...(fields.max_completion_tokens === undefined
      ? {}
      : { names: { maxTokens: 'max_completion_tokens' } }),
  }
}

function completion(answers: readonly GenerationResult[], { n = 1, logprobs }: ChatFields): object {
  const [first] = answers
  return {
    choices: answers.map((answer, index) => ({
      index,
      message: message(answer),
      logprobs: logprobs === true ? logprobsOf(answer.logprobs) : null,
      finish_reason: finishReason(answer),
    })),
    usage: usage(answers, n),
    ...(first === undefined || n > 1 ? {} : { timings: timings(first) }),
  }
}

function message(answer: GenerationResult): object {
  const { reasoning, toolCalls, invalidToolCalls } = answer
  // A call that cannot be read is something that the model said.
  const text = [answer.text, ...invalidToolCalls.map(({ raw }) => raw)].join('')
  return {
    role: 'assistant',
    content: text === '' && toolCalls.length > 0 ? null : text,
    refusal: null,
    ...(reasoning === '' ? {} : reasoningFields(reasoning)),
    ...(toolCalls.length === 0 ? {} : { tool_calls: madeCalls(toolCalls) }),
  }
}

/** Some clients read the one name, some the other. */
function reasoningFields(text: string): object {
  return { reasoning_content: text, reasoning: text }
}

function logprobsOf(logprobs: readonly GeneratedLogprob[] = []): object {
  return { content: chatLogprobs(logprobs), refusal: null }
}

async function* chatFrames(
  turn: Turn,
  { choices }: Order,
  { logprobs }: ChatFields,
  head: object,
  withUsage: boolean,
): AsyncGenerator<string, undefined> {
  const chunk = (choice: object, more: object = {}): string =>
    frame({ ...head, choices: [choice], ...(withUsage ? { usage: null } : {}), ...more })
  const begun = new Set<number>()
  const places = new CallPlaces()
  const begin = (index: number): string[] => {
    if (begun.has(index)) return []
    begun.add(index)
    const delta = { role: 'assistant', content: '' }
    return [chunk({ index, delta, logprobs: null, finish_reason: null })]
  }
  for await (const { index, piece } of turn.pieces()) {
    yield* begin(index)
    const tokens = logprobs === true && 'logprobs' in piece ? logprobsOf(piece.logprobs) : null
    const delta =
      deltaOf(piece, (call) => places.of(index, call)) ?? (tokens === null ? undefined : {})
    if (delta !== undefined) yield chunk({ index, delta, logprobs: tokens, finish_reason: null })
  }
  const answers = await turn.answers()
  for (const [index, answer] of answers.entries()) {
    yield* begin(index)
    const last = { index, delta: {}, logprobs: null, finish_reason: finishReason(answer) }
    yield chunk(last, { timings: timings(answer) })
  }
  if (withUsage) yield frame({ ...head, choices: [], usage: usage(answers, choices) })
  yield frame('[DONE]')
}

/** The places of calls among those that can be read, which is what clients collect them by. */
class CallPlaces {
  readonly #places = new Map<string, number>()
  readonly #next = new Map<number, number>()

  of(choice: number, call: number): number {
    const known = this.#places.get(`${choice} ${call}`)
    if (known !== undefined) return known
    const place = this.#next.get(choice) ?? 0
    this.#next.set(choice, place + 1)
    this.#places.set(`${choice} ${call}`, place)
    return place
  }
}

function deltaOf(piece: AnswerPiece, placeOf: (call: number) => number): object | undefined {
  switch (piece.type) {
    case 'text':
      return piece.text === '' ? undefined : { content: piece.text }
    case 'reasoning':
      return piece.text === '' ? undefined : reasoningFields(piece.text)
    case 'tool-call-start': {
      const { id, name } = piece
      const index = placeOf(piece.index)
      const call = { index, id, type: 'function', function: { name, arguments: '' } }
      return { tool_calls: [call] }
    }
    case 'tool-call-delta': {
      const call = { index: placeOf(piece.index), function: { arguments: piece.argumentsText } }
      return { tool_calls: [call] }
    }
    case 'tool-call-invalid':
      return { content: piece.raw }
    case 'tool-call-end':
      return undefined
  }
}
