import { ANTHROPIC } from './anthropic/api.js'
import { countTokens, messages } from './anthropic/messages.js'
import { json, type Api, type Call } from './call.js'
import { COMPLETIONS, OPENAI, RESPONSES } from './openai/api.js'
import { chatCompletions } from './openai/chat.js'
import { completions } from './openai/completions.js'
import { embeddings } from './openai/embeddings.js'
import { describeModel, listModels } from './openai/models.js'
import { rerank } from './openai/rerank.js'
import {
  cancelResponse,
  countInput,
  deleteResponse,
  inputItemsOf,
  responses,
  storedResponse,
} from './responses/responses.js'
import { pageFile, servePage } from './page.js'
import type { Engine } from './turn.js'

/** What answers a request of a route. */
export interface Route {
  method: 'GET' | 'POST' | 'DELETE'
  /** How it is called in metrics: what a client wrote into a path is no label. */
  name: string
  /** Everyone may ask, with or without a key. */
  open?: boolean
  /** A `POST` whose body says nothing. */
  bodyless?: boolean
  /** Gets the body of a `POST`. */
  run: (call: Call, body: unknown) => Response | Promise<Response>
}

const POSTS: Readonly<Record<string, Route['run']>> = {
  '/v1/chat/completions': chatCompletions,
  '/v1/completions': completions,
  '/v1/responses': responses,
  '/v1/responses/input_tokens': countInput,
  '/v1/messages': messages,
  '/v1/messages/count_tokens': countTokens,
  '/v1/embeddings': embeddings,
  '/v1/rerank': rerank,
  '/v2/rerank': rerank,
}

/** The routes of a decoded path, one for each method. */
export function routesOf(path: string, started: number, page: boolean): Route[] {
  const run = Object.hasOwn(POSTS, path) ? POSTS[path] : undefined
  if (run !== undefined) return [{ method: 'POST', name: path, run }]
  const file = page ? pageFile(path) : undefined
  // It asks for the key itself.
  if (file !== undefined) return [{ ...get('/', (call) => servePage(call, file)), open: true }]
  if (path === '/v1/models') return [get(path, (call) => listModels(call, started))]
  if (path === '/metrics') return [get(path, ({ engine }) => metricsText(engine))]
  if (path === '/health') return [{ ...get(path, () => json({ status: 'ok' })), open: true }]
  // A model's name may have slashes.
  const [, kind, id = ''] = /^\/v1\/(models|responses)\/(.+)$/.exec(path) ?? []
  if (kind === 'models') return [get('/v1/models/{id}', (call) => describeModel(call, id, started))]
  if (kind === 'responses') {
    const [, response = id, part] = /^([^/]*)(?:\/(input_items|cancel))?$/.exec(id) ?? []
    const name = '/v1/responses/{id}'
    if (part === 'input_items')
      return [get(`${name}/input_items`, (call) => inputItemsOf(call, response))]
    if (part === 'cancel') {
      const run = (call: Call): Response => cancelResponse(call, response)
      return [{ method: 'POST', name: `${name}/cancel`, bodyless: true, run }]
    }
    return [
      get(name, (call) => storedResponse(call, id)),
      { method: 'DELETE', name, run: (call) => deleteResponse(call, id) },
    ]
  }
  return []
}

/** The API in whose shape errors of a path are told. */
export function apiOf(path: string): Api {
  if (/^\/v1\/messages(?:\/|$)/.test(path)) return ANTHROPIC
  if (/^\/v1\/responses(?:\/|$)/.test(path)) return RESPONSES
  return path === '/v1/completions' ? COMPLETIONS : OPENAI
}

function get(name: string, run: Route['run']): Route {
  return { method: 'GET', name, run }
}

function metricsText({ metrics, queue, models }: Engine): Response {
  const text = metrics.text([
    ['nodemlx_running', 'Generations that run.', [[{}, queue.running]]],
    ['nodemlx_waiting', 'Requests that wait.', [[{}, queue.waiting]]],
    [
      'nodemlx_model_bytes',
      'Bytes of the weights of loaded models.',
      models.models.flatMap(({ id, model }) =>
        model === undefined ? [] : [[{ model: id }, model.info.bytes] as const],
      ),
    ],
  ])
  return new Response(text, { headers: { 'content-type': 'text/plain; version=0.0.4' } })
}
