import { randomUUID } from 'node:crypto'
import type { GenerationResult, Prompt } from '../../types.js'
import { boolean, integer, show, type Check, type Checked } from '../../validate.js'
import { limitedTokens } from '../ask.js'
import { answered, json, streamed, type Call } from '../call.js'
import { invalidField } from '../failure.js'
import { anything, only, readFields, required } from '../fields.js'
import { frame } from '../sse.js'
import type { Order, Turn } from '../turn.js'
import { OPENAI, unknownField } from './api.js'
import { textLogprobs } from './logprobs.js'
import { includesUsage, SAMPLING_FIELDS, samplingOptions } from './sampling.js'
import { finishReason, timings, usage } from './usage.js'

/** OpenAI's own. */
const DEFAULT_MAX_TOKENS = 16

const COMPLETION_FIELDS = {
  ...SAMPLING_FIELDS,
  prompt: anything,
  echo: boolean,
  logprobs: integer(0, 20),
  suffix: only([''], 'the models here only continue a text'),
  best_of: only([1], 'the server gives every answer that it makes; use n'),
} satisfies Record<string, Check<unknown>>

type CompletionFields = Checked<typeof COMPLETION_FIELDS>

/** `POST /v1/completions` */
export async function completions(call: Call, body: unknown): Promise<Response> {
  const fields = readFields(body, '', COMPLETION_FIELDS, unknownField)
  const { n = 1, echo = false, stream } = fields
  const { engine } = call
  const prompts = promptsOf(required(fields.prompt, 'prompt'))
  if (prompts.length * n > engine.limits.choices) {
    throw invalidField(
      'n',
      `n: ${prompts.length} prompts with ${n} answers each are more than ${engine.limits.choices}`,
    )
  }
  if (echo && (fields.logprobs !== undefined || stream === true)) {
    const other = stream === true ? 'stream' : 'logprobs'
    throw invalidField('echo', `echo: does not go with ${other}`)
  }
  const order: Order = {
    model: required(fields.model, 'model'),
    prompts,
    choices: n,
    options: {
      ...samplingOptions(fields),
      maxTokens: limitedTokens(fields.max_tokens ?? DEFAULT_MAX_TOKENS, engine.limits),
      logprobs: fields.logprobs,
    },
  }
  const head = {
    id: `cmpl-${randomUUID().replaceAll('-', '')}`,
    object: 'text_completion',
    created: Math.floor(Date.now() / 1000),
    model: order.model,
  }
  if (stream === true) {
    const withUsage = includesUsage(fields.stream_options)
    return streamed(call, OPENAI, order, (turn) => frames(turn, order, fields, head, withUsage))
  }
  return answered(call, order, async (turn) => {
    const answers = await turn.answers()
    const echoed = echo ? await Promise.all(prompts.map((prompt) => textOf(turn, prompt))) : []
    const [first] = answers
    return json({
      ...head,
      choices: answers.map((answer, index) => ({
        index,
        text: `${echoed[Math.floor(index / n)] ?? ''}${answer.text}`,
        logprobs: logprobsOf(answer, fields),
        finish_reason: finishReason(answer),
      })),
      usage: usage(answers, n),
      ...(first === undefined || answers.length > 1 ? {} : { timings: timings(first) }),
    })
  })
}

function promptsOf(value: unknown): Prompt[] {
  if (typeof value === 'string') return [{ text: value }]
  if (!Array.isArray(value) || value.length === 0) throw wrongPrompt(value)
  if (value.every((item) => typeof item === 'number')) return [{ tokens: value }]
  return value.map((item: unknown) => {
    if (typeof item === 'string') return { text: item }
    if (Array.isArray(item) && item.every((token) => typeof token === 'number'))
      return { tokens: item }
    throw wrongPrompt(item)
  })
}

function wrongPrompt(value: unknown): Error {
  return invalidField(
    'prompt',
    `prompt: expected a text, tokens, or an array of such, got ${show(value)}`,
  )
}

async function textOf({ model }: Turn, prompt: Prompt): Promise<string> {
  if (typeof prompt === 'object' && 'text' in prompt) return prompt.text
  if (typeof prompt === 'object' && 'tokens' in prompt) return model.detokenize(prompt.tokens)
  return ''
}

function logprobsOf({ logprobs = [] }: GenerationResult, fields: CompletionFields): object | null {
  return fields.logprobs === undefined ? null : textLogprobs(logprobs, 0)
}

async function* frames(
  turn: Turn,
  { choices }: Order,
  fields: CompletionFields,
  head: object,
  withUsage: boolean,
): AsyncGenerator<string, undefined> {
  const chunk = (choice: object, more: object = {}): string =>
    frame({ ...head, choices: [choice], ...(withUsage ? { usage: null } : {}), ...more })
  const offsets = new Map<number, number>()
  for await (const { index, piece } of turn.pieces()) {
    if (piece.type !== 'text') continue
    const { text } = piece
    const offset = offsets.get(index) ?? 0
    const own = piece.logprobs ?? []
    const logprobs = fields.logprobs === undefined ? null : textLogprobs(own, offset)
    offsets.set(
      index,
      own.reduce((sum, token) => sum + (token.text ?? '').length, offset),
    )
    if (text !== '' || logprobs !== null)
      yield chunk({ index, text, logprobs, finish_reason: null })
  }
  const answers = await turn.answers()
  for (const [index, answer] of answers.entries()) {
    const last = { index, text: '', logprobs: null, finish_reason: finishReason(answer) }
    yield chunk(last, { timings: timings(answer) })
  }
  if (withUsage) yield frame({ ...head, choices: [], usage: usage(answers, choices) })
  yield frame('[DONE]')
}
