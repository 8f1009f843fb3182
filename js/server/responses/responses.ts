import type { GenerationResult, Message } from '../../types.js'
import { integer, oneOf, string, type Check } from '../../validate.js'
import { limitedTokens } from '../ask.js'
import { answered, json, streamed, type Call } from '../call.js'
import { Failure } from '../failure.js'
import { anything, readFields, required } from '../fields.js'
import { errorEvent, unknownField } from '../openai/api.js'
import type { Order, Turn } from '../turn.js'
import {
  answerMessage,
  emptyResponse,
  failedResponse,
  finishedResponse,
  itemStatus,
  newId,
  outputItems,
  type FinishedResponse,
  type Item,
} from './output.js'
import { checkResults, inputItems, inputMessages, type InputItem } from './input.js'
import { RESPONSE_FIELDS, responseOptions, type ResponseFields } from './request.js'
import { ResponseEvents } from './stream.js'

/** `POST /v1/responses` */
export async function responses(call: Call, body: unknown): Promise<Response> {
  const fields = readFields(body, '', RESPONSE_FIELDS, unknownField)
  const input = inputItems(required(fields.input, 'input'), call.engine.responses)
  const said = conversation(call, fields, input)
  const order = orderOf(call, fields, said)
  const response = emptyResponse(newId('resp'), fields)
  const keep = (body: FinishedResponse, answer: readonly Message[]): FinishedResponse => {
    if (fields.store !== false)
      call.engine.responses.add({ messages: [...said, ...answer], input, body })
    return body
  }
  const endings: Endings = {
    finish: (answer, output) =>
      keep(finishedResponse(response, answer, output), [answerMessage(answer)]),
    fail: (failure, output) => keep(failedResponse(response, failure, output), []),
  }
  if (fields.stream === true)
    return streamed(call, order, (turn) => frames(call, order, turn, response, endings))
  return answered(call, order, async (turn) => {
    const answer = await turn.answer(0)
    return json(endings.finish(answer, outputItems(answer)))
  })
}

/** `POST /v1/responses/input_tokens` */
export async function countInput(call: Call, body: unknown): Promise<Response> {
  const fields = readFields(body, '', RESPONSE_FIELDS, unknownField)
  const said = conversation(call, fields, inputItems(fields.input ?? [], call.engine.responses))
  const { model: name, prompts, options } = orderOf(call, fields, said)
  const { tools, toolChoice, splitSpecialTokens } = options
  const asked = { tools: toolChoice === 'none' ? undefined : tools, splitSpecialTokens }
  const count = await call.engine.models.with(name, call.lifetime.signal, (model) =>
    model.countTokens(prompts[0] as Message[], asked),
  )
  return json({ object: 'response.input_tokens', input_tokens: count })
}

/** What becomes of a response. */
interface Endings {
  finish: (answer: GenerationResult, output: readonly Item[]) => FinishedResponse
  fail: (failure: Failure, output: readonly Item[]) => FinishedResponse
}

/** `GET /v1/responses/<id>` */
export function storedResponse({ engine }: Call, id: string): Response {
  return json(engine.responses.get(id).body)
}

/** `DELETE /v1/responses/<id>` */
export function deleteResponse({ engine }: Call, id: string): Response {
  if (!engine.responses.delete(id))
    throw new Failure('not-found', `there is no response ${JSON.stringify(id)} (any more)`)
  return json({ id, object: 'response', deleted: true })
}

/** `POST /v1/responses/<id>/cancel` */
export function cancelResponse({ engine }: Call, id: string): Response {
  engine.responses.get(id)
  throw new Failure('invalid', 'only a response in the background is cancelled: leave its stream')
}

const LIST_FIELDS = {
  limit: integer(1, 100),
  order: oneOf('asc', 'desc'),
  after: string,
  include: anything,
} satisfies Record<string, Check<unknown>>

/** `GET /v1/responses/<id>/input_items` */
export function inputItemsOf({ engine, request }: Call, id: string): Response {
  const { input } = engine.responses.get(id)
  const query = Object.fromEntries(new URL(request.url).searchParams)
  const given = 'limit' in query ? { ...query, limit: Number(query['limit']) } : query
  const asked = readFields(given, '', LIST_FIELDS, unknownField)
  const { limit = 20, order = 'desc', after } = asked
  const all = order === 'asc' ? input : [...input].reverse()
  const from = after === undefined ? 0 : all.findIndex((item) => item.id === after) + 1
  const data = all.slice(from, from + limit)
  return json({
    object: 'list',
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: from + limit < all.length,
  })
}

/** All that was said before, and now. */
function conversation(
  { engine }: Call,
  { previous_response_id: previous }: ResponseFields,
  input: readonly InputItem[],
): Message[] {
  const now = inputMessages(input)
  const before =
    previous === undefined ? [] : engine.responses.get(previous, 'previous_response_id').messages
  const said = [...before, ...now]
  checkResults(said)
  return said
}

function orderOf({ engine }: Call, fields: ResponseFields, said: readonly Message[]): Order {
  const { instructions } = fields
  const system: Message[] =
    instructions === undefined ? [] : [{ role: 'system', content: instructions }]
  return {
    model: required(fields.model, 'model'),
    prompts: [[...system, ...said]],
    choices: 1,
    options: {
      ...responseOptions(fields),
      maxTokens: limitedTokens(fields.max_output_tokens, engine.limits),
    },
  }
}

async function* frames(
  { api, engine }: Call,
  order: Order,
  turn: Turn,
  response: Record<string, unknown>,
  { finish, fail }: Endings,
): AsyncGenerator<string, undefined> {
  const events = new ResponseEvents()
  let begun = false
  const begin = (): string[] => {
    if (begun) return []
    begun = true
    return [
      events.event('response.created', { response }),
      events.event('response.in_progress', { response }),
    ]
  }
  try {
    for await (const { piece } of turn.pieces()) {
      yield* begin()
      yield* events.piece(piece)
    }
    const answer = await turn.answer(0)
    yield* begin()
    const status = itemStatus(answer)
    yield* events.end(status, answer)
    yield events.event(`response.${status}`, { response: finish(answer, events.output) })
  } catch (error) {
    // Before there is a response, the request itself fails.
    // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- begin() changes it
    if (!begun) throw error
    const failure = api.toFailure(error, order.names)
    engine.report(failure)
    yield events.event('error', errorEvent(failure))
    yield events.event('response.failed', { response: fail(failure, events.output) })
  }
}
