import type { GenerationResult, Message } from '../../types.js'
import { limitedTokens } from '../ask.js'
import { answered, json, streamed, type Call } from '../call.js'
import { Failure } from '../failure.js'
import { readFields, required } from '../fields.js'
import { unknownField } from '../openai/api.js'
import type { Order, Turn } from '../turn.js'
import {
  answerMessage,
  emptyResponse,
  finishedResponse,
  itemStatus,
  newId,
  outputItems,
  type Item,
} from './output.js'
import { inputMessages, RESPONSE_FIELDS, responseOptions, type ResponseFields } from './request.js'
import { ResponseEvents } from './stream.js'

/** `POST /v1/responses` */
export async function responses(call: Call, body: unknown): Promise<Response> {
  const fields = readFields(body, '', RESPONSE_FIELDS, unknownField)
  const said = conversation(call, fields)
  const order = orderOf(call, fields, said)
  const response = emptyResponse(newId('resp'), fields)
  const finish = (answer: GenerationResult, output: readonly Item[]): Record<string, unknown> => {
    const finished = finishedResponse(response, answer, output)
    if (fields.store !== false) {
      const messages = [...said, answerMessage(answer)]
      call.engine.responses.add(String(response['id']), { messages, body: finished })
    }
    return finished
  }
  if (fields.stream === true)
    return streamed(call, order, (turn) => frames(turn, response, finish))
  return answered(call, order, async (turn) => {
    const answer = await turn.answer(0)
    return json(finish(answer, outputItems(answer)))
  })
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

/** All that was said before, and now. */
function conversation({ engine }: Call, fields: ResponseFields): Message[] {
  const now = inputMessages(required(fields.input, 'input'))
  const { previous_response_id: previous } = fields
  if (previous === undefined) return now
  return [...engine.responses.get(previous, 'previous_response_id').messages, ...now]
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
  turn: Turn,
  response: Record<string, unknown>,
  finish: (answer: GenerationResult, output: readonly Item[]) => Record<string, unknown>,
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
  for await (const { piece } of turn.pieces()) {
    yield* begin()
    yield* events.piece(piece)
  }
  const answer = await turn.answer(0)
  yield* begin()
  const status = itemStatus(answer)
  yield* events.end(status, answer)
  yield events.event(`response.${status}`, { response: finish(answer, events.output) })
}
