import { randomUUID } from 'node:crypto'
import type { GenerationResult, Prompt } from '../../types.js'
import { boolean, integer, show, type Check, type Checked } from '../../validate.js'
import { limitedTokens } from '../ask.js'
import { answered, json, streamed, type Call } from '../call.js'
import { invalidField } from '../failure.js'
import { anything, only, readFields, required } from '../fields.js'
import { frame } from '../sse.js'
import type { Order, Turn } from '../turn.js'
import { unknownField } from './api.js'
import { readEchoes, type Echo } from './echo.js'
import { textLength, textLogprobs, type TextLogprobs } from './logprobs.js'
import { includesUsage, SAMPLING_FIELDS, samplingOptions } from './sampling.js'
import { finishReason, readUsage, timings, usage } from './usage.js'

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

/** An answer to a prompt, and what is given of the prompt itself. */
interface Choice {
  echo: Echo
  /** `undefined` where nothing is to be generated. */
  answer: GenerationResult | undefined
}

/** `POST /v1/completions` */
export async function completions(call: Call, body: unknown): Promise<Response> {
  const fields = readFields(body, '', COMPLETION_FIELDS, unknownField)
  const order = completionOrder(call, fields)
  const head = {
    id: `cmpl-${randomUUID().replaceAll('-', '')}`,
    object: 'text_completion',
    created: Math.floor(Date.now() / 1000),
    model: order.model,
  }
  if (fields.stream === true) {
    const withUsage = includesUsage(fields.stream_options)
    return streamed(call, order, (turn) => frames(turn, order, fields, head, withUsage))
  }
  return answered(call, order, async (turn) => {
    const [answers, echoes] = await Promise.all([turn.answers(), readEchoes(turn, order, fields)])
    const choices = choicesOf(answers, echoes)
    const [first] = answers
    return json({
      ...head,
      choices: choices.map(({ echo, answer }, index) => ({
        index,
        text: `${echo.text}${answer?.text ?? ''}`,
        logprobs: logprobsOf({ echo, answer }, fields),
        finish_reason: answer === undefined ? 'length' : finishReason(answer),
      })),
      usage: usageOf(answers, echoes, order),
      ...(first === undefined || choices.length > 1 ? {} : { timings: timings(first) }),
    })
  })
}

function completionOrder({ engine: { limits } }: Call, fields: CompletionFields): Order {
  const { n = 1, max_tokens: asked = DEFAULT_MAX_TOKENS } = fields
  const prompts = promptsOf(required(fields.prompt, 'prompt'))
  if (prompts.length > limits.prompts)
    throw invalidField(
      'prompt',
      `prompt: has ${prompts.length}, at most ${limits.prompts} go at once`,
    )
  if (n > limits.choices)
    throw invalidField('n', `n: expected a whole number from 1 to ${limits.choices}`)
  return {
    model: required(fields.model, 'model'),
    prompts,
    // Without tokens to generate the prompts are read alone.
    choices: asked === 0 ? 0 : n,
    options: {
      ...samplingOptions(fields),
      maxTokens: asked === 0 ? undefined : limitedTokens(asked, limits),
      logprobs: fields.logprobs,
      ...(isScoring(fields) ? { minTokens: 1 } : {}),
      // What the model writes is the text, whatever it means.
      parseToolCalls: false,
      reasoningFormat: 'none',
    },
  }
}

/**
 * Who scores prompts asks for a token that is not wanted, and leaves the last one of what comes out:
 * there has to be one, even where the model would end at once.
 */
function isScoring({ echo, logprobs, max_tokens: asked, min_tokens: least }: CompletionFields) {
  return echo === true && logprobs !== undefined && asked === 1 && least === undefined
}

function promptsOf(value: unknown): Prompt[] {
  if (typeof value === 'string') return [{ text: value }]
  if (!Array.isArray(value) || value.length === 0) throw wrongPrompt('prompt', value)
  if (value.every((item) => typeof item === 'number')) return [{ tokens: value }]
  return value.map((item: unknown, index) => {
    if (typeof item === 'string') return { text: item }
    if (Array.isArray(item) && item.every((token) => typeof token === 'number'))
      return { tokens: item }
    throw wrongPrompt(`prompt[${index}]`, item)
  })
}

function wrongPrompt(param: string, value: unknown): Error {
  return invalidField(
    param,
    `${param}: expected a text, tokens, or an array of such, got ${show(value)}`,
  )
}

/** Each prompt with each of its answers. */
function choicesOf(answers: readonly GenerationResult[], echoes: readonly Echo[]): Choice[] {
  if (answers.length === 0) return echoes.map((echo) => ({ echo, answer: undefined }))
  return answers.map((answer, index) => ({ echo: echoAt(echoes, answers.length, index), answer }))
}

/** What is given of the prompt of an answer. */
function echoAt(echoes: readonly Echo[], answers: number, index: number): Echo {
  const echo = echoes[Math.floor((index * echoes.length) / Math.max(answers, 1))]
  if (echo === undefined) throw new Error(`there is no prompt of the answer ${index}`)
  return echo
}

function logprobsOf({ echo, answer }: Choice, fields: CompletionFields): TextLogprobs | null {
  if (fields.logprobs === undefined) return null
  return textLogprobs([...echo.logprobs, ...(answer?.logprobs ?? [])], 0)
}

function usageOf(
  answers: readonly GenerationResult[],
  echoes: readonly Echo[],
  { choices }: Order,
): object {
  if (choices > 0) return usage(answers, choices)
  const tokens = echoes.reduce((sum, echo) => sum + echo.tokens, 0)
  return { ...readUsage(tokens), completion_tokens: 0 }
}

async function* frames(
  turn: Turn,
  order: Order,
  fields: CompletionFields,
  head: object,
  withUsage: boolean,
): AsyncGenerator<string, undefined> {
  const chunk = (choice: object, more: object = {}): string =>
    frame({ ...head, choices: [choice], ...(withUsage ? { usage: null } : {}), ...more })
  const echoes = await readEchoes(turn, order, fields)
  const count = Math.max(order.prompts.length * order.choices, order.prompts.length)
  const offsets = new Map<number, number>()
  for (let index = 0; index < count; index++) {
    const echo = echoAt(echoes, count, index)
    const logprobs = logprobsOf({ echo, answer: undefined }, fields)
    offsets.set(index, textLength(echo.logprobs))
    if (fields.echo === true) yield chunk({ index, text: echo.text, logprobs, finish_reason: null })
  }
  for await (const { index, piece } of turn.pieces()) {
    if (piece.type !== 'text') continue
    const { text } = piece
    const offset = offsets.get(index) ?? 0
    const own = piece.logprobs ?? []
    const logprobs = fields.logprobs === undefined ? null : textLogprobs(own, offset)
    offsets.set(index, offset + textLength(own))
    if (text !== '' || logprobs !== null)
      yield chunk({ index, text, logprobs, finish_reason: null })
  }
  const answers = await turn.answers()
  for (const [index, { answer }] of choicesOf(answers, echoes).entries()) {
    const reason = answer === undefined ? 'length' : finishReason(answer)
    const last = { index, text: '', logprobs: null, finish_reason: reason }
    yield chunk(last, answer === undefined ? {} : { timings: timings(answer) })
  }
  if (withUsage) yield frame({ ...head, choices: [], usage: usageOf(answers, echoes, order) })
  yield frame('[DONE]')
}
