import { randomUUID } from 'node:crypto'
import { ModelPool } from '../model-pool.js'
import { json, type Api, type Call } from './call.js'
import { readJson } from './body.js'
import { Failure } from './failure.js'
import { Metrics } from './metrics.js'
import { handlerOptions, type CheckedOptions, type HandlerOptions } from './options.js'
import { Queue } from './queue.js'
import { ResponseStore } from './responses/store.js'
import { apiOf, routesOf, type Route } from './routes.js'
import { Gate } from './security.js'
import { Lifetime, type Engine } from './turn.js'

/** Answers requests of OpenAI's and Anthropic's APIs; see `createHandler`. */
export interface Handler extends AsyncDisposable {
  (request: Request): Promise<Response>
  /** Requests that are being answered, streams that are being read included. */
  readonly active: number
  /**
   * Refuses new requests, waits for those that are being answered, at most for so long, ends what
   * is left, and unloads the models that were loaded here.
   *
   * @param deadlineMs - @defaultValue 10000
   */
  close(deadlineMs?: number): Promise<void>
}

/**
 * A function from requests to responses (of the platform's `fetch`) that serves models with
 * OpenAI's and Anthropic's APIs. It needs no port, and fits whatever takes such a function.
 */
export function createHandler(options: HandlerOptions): Handler {
  const server = new HandlerServer(handlerOptions(options))
  const handler = (request: Request): Promise<Response> => server.answer(request)
  const close = (deadlineMs?: number): Promise<void> => server.close(deadlineMs)
  Object.defineProperty(handler, 'active', { get: () => server.active })
  // Older versions of Node.js 20 have no such symbol.
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- see above
  if (Symbol.asyncDispose) Object.assign(handler, { [Symbol.asyncDispose]: () => server.close() })
  return Object.assign(handler, { close }) as unknown as Handler
}

/** How long a stream has for telling its reader that the server stops. */
const UNREAD_MS = 1000

class HandlerServer {
  readonly #options: CheckedOptions
  readonly #gate: Gate
  readonly #engine: Engine
  readonly #started = Date.now()
  readonly #lifetimes = new Set<Lifetime>()
  #idle: (() => void)[] = []
  #closing: Promise<void> | undefined

  constructor(options: CheckedOptions) {
    this.#options = options
    this.#gate = new Gate(options.access)
    const { limits } = options
    this.#engine = {
      models: new ModelPool({
        sources: options.sources,
        keeping: options.keeping,
        other: (id) => {
          throw noModel(id, options.sources)
        },
        // Whoever holds a model is another request, and ends.
        whenFull: 'wait',
      }),
      queue: new Queue(limits),
      limits,
      metrics: new Metrics(),
      responses: new ResponseStore(),
      report: ({ kind, cause }) => {
        if (kind === 'internal') told(options.onError, cause)
      },
    }
  }

  get active(): number {
    return this.#lifetimes.size
  }

  close(deadlineMs = 10_000): Promise<void> {
    this.#closing ??= this.#close(deadlineMs)
    return this.#closing
  }

  async answer(request: Request): Promise<Response> {
    const id = `req_${randomUUID().replaceAll('-', '')}`
    const { pathname } = new URL(request.url)
    const { basePath } = this.#options
    const path = pathname.startsWith(`${basePath}/`)
      ? normalPath(pathname.slice(basePath.length))
      : ''
    const routes = routesOf(path, this.#started, this.#options.page)
    const route = routes.find(({ method }) => method === wanted(request))
    const api = apiOf(path)
    const response = await this.#answer({ request, id, api }, route, routes)
    this.#engine.metrics.requests.add(1, {
      route: routes[0]?.name ?? 'none',
      status: String(response.status),
    })
    return this.#withHeaders(request, response, id)
  }

  async #answer(
    parts: Pick<Call, 'request' | 'id' | 'api'>,
    route: Route | undefined,
    routes: readonly Route[],
  ): Promise<Response> {
    const { request, id, api } = parts
    const lifetime = new Lifetime(request, this.#options.limits.answerMs)
    this.#lifetimes.add(lifetime)
    const done = (): void => {
      lifetime.done()
      this.#lifetimes.delete(lifetime)
      if (this.active === 0) for (const wake of this.#idle.splice(0)) wake()
    }
    try {
      this.#gate.checkSender(request)
      if (request.method === 'OPTIONS' && routes.length > 0) {
        done()
        return this.#gate.preflight(request, methodsOf(routes))
      }
      if (this.#closing !== undefined)
        throw new Failure('unavailable', 'the server is stopping', {
          headers: { 'retry-after': '5' },
        })
      if (route?.open !== true) this.#gate.checkKey(request)
      if (route === undefined) throw noRoute(request, routes)
      const hasBody = route.method === 'POST' && route.bodyless !== true
      const body = hasBody ? await readJson(request, this.#options.limits) : undefined
      const call: Call = { ...parts, engine: this.#engine, lifetime }
      return whenRead(await route.run(call, body), this.#options.limits.stallMs, done)
    } catch (error) {
      done()
      return this.#failed(error, api, id)
    }
  }

  #failed(error: unknown, api: Api, id: string): Response {
    const failure = api.toFailure(error)
    this.#engine.report(failure)
    return json(api.body(failure, id), api.status(failure), failure.headers)
  }

  #withHeaders(request: Request, response: Response, id: string): Response {
    const headers = {
      ...this.#gate.corsHeaders(request),
      'x-request-id': id,
      // The name that Anthropic's clients read.
      'request-id': id,
      'x-content-type-options': 'nosniff',
    }
    for (const [name, value] of Object.entries(headers)) response.headers.set(name, value)
    if (request.method !== 'HEAD') return response
    return new Response(null, { status: response.status, headers: response.headers })
  }

  async #close(deadlineMs: number): Promise<void> {
    if (!(await this.#idleWithin(deadlineMs))) {
      for (const lifetime of this.#lifetimes)
        lifetime.end(new Failure('unavailable', 'the server is stopping'))
      // A stream that nobody reads on does not notice.
      await this.#idleWithin(UNREAD_MS)
    }
    await this.#engine.models.dispose(new Failure('unavailable', 'the server is stopping'))
  }

  /** Waits until nothing is being answered; whether it came to that in time. */
  async #idleWithin(ms: number): Promise<boolean> {
    if (this.active === 0) return true
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(resolve, ms, false)
    })
    const idle = new Promise<boolean>((resolve) => {
      this.#idle.push(() => {
        resolve(true)
      })
    })
    try {
      return await Promise.race([idle, late])
    } finally {
      clearTimeout(timer)
    }
  }
}

/** Tells of an error. What goes wrong with that is told to nobody: the answer goes on. */
function told(onError: CheckedOptions['onError'], cause: unknown): void {
  // It may give a promise.
  const tell: (error: unknown) => unknown = onError
  const telling = new Promise((resolve) => {
    resolve(tell(cause))
  })
  telling.catch(() => undefined)
}

function wanted({ method }: Request): string {
  return method === 'HEAD' ? 'GET' : method
}

function noRoute(request: Request, routes: readonly Route[]): Failure {
  const { pathname } = new URL(request.url)
  if (routes.length === 0) {
    return new Failure('not-found', `there is nothing at ${pathname}`, { code: 'unknown_url' })
  }
  const allow = methodsOf(routes).join(', ')
  return new Failure('method', `${pathname} takes ${allow}, not ${request.method}`, {
    headers: { allow },
  })
}

/** What a path takes. */
function methodsOf(routes: readonly Route[]): string[] {
  const methods = routes.map(({ method }) => method)
  return [...methods, ...(methods.includes('GET') ? ['HEAD'] : []), 'OPTIONS']
}

/** A path as routes have it, however a client encodes it and puts slashes. */
function normalPath(path: string): string {
  const plain = decoded(path).replaceAll(/\/{2,}/g, '/')
  return plain.length > 1 && plain.endsWith('/') ? plain.slice(0, -1) : plain
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}

/**
 * The response; `done` is called when nothing is left to do for it. A stream that is not read for
 * `stallMs` is ended, so that who does not read holds no place for long.
 */
function whenRead(response: Response, stallMs: number, done: () => void): Response {
  const body: ReadableStream<Uint8Array> | null = response.body
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') === true
  if (body === null || !isStream) {
    done()
    return response
  }
  const reader = body.getReader()
  const leave = async (reason: unknown): Promise<void> => {
    try {
      await reader.cancel(reason)
    } finally {
      done()
    }
  }
  let stalled: NodeJS.Timeout | undefined
  const watch = (controller: ReadableStreamDefaultController<Uint8Array>): void => {
    stalled = setTimeout(() => {
      const reason = new Failure('timeout', `nobody has read the stream for ${stallMs} ms`)
      controller.error(reason)
      leave(reason).catch(() => undefined)
    }, stallMs)
    stalled.unref()
  }
  const watched = new ReadableStream<Uint8Array>(
    {
      start: watch,
      async pull(controller) {
        clearTimeout(stalled)
        try {
          const { done: ended, value } = await reader.read()
          if (!ended) {
            controller.enqueue(value)
            watch(controller)
            return
          }
          controller.close()
        } catch (error) {
          controller.error(error)
        }
        done()
      },
      async cancel(reason) {
        clearTimeout(stalled)
        await leave(reason)
      },
    },
    { highWaterMark: 0 },
  )
  return new Response(watched, { status: response.status, headers: response.headers })
}

function noModel(id: string, served: ReadonlyMap<string, unknown>): Failure {
  const names = [...served.keys()].slice(0, 20).join(', ')
  return new Failure('not-found', `there is no model ${JSON.stringify(id)}; there are ${names}`, {
    param: 'model',
    code: 'model_not_found',
  })
}
