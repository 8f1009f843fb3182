import { Failure, type Names } from './failure.js'
import { streamResponse } from './sse.js'
import { Turn, type Engine, type Lifetime, type Order } from './turn.js'

/** A request that is being answered. */
export interface Call {
  readonly request: Request
  /** The API of the route. */
  readonly api: Api
  /** Tells the request from others, for logs. */
  readonly id: string
  readonly engine: Engine
  readonly lifetime: Lifetime
}

/** How an API tells of errors, and calls options. */
export interface Api {
  /**
   * What was thrown, with the names of the API's fields.
   *
   * @param names - What the request in hand calls options of `generate`, where that differs.
   */
  toFailure(error: unknown, names?: Names): Failure
  /** The body of a response that tells of an error. */
  body(failure: Failure, id: string): unknown
  status(failure: Failure): number
  /** The event that tells of an error in a stream. */
  failed(failure: Failure, id: string): string
  /** What a silent stream says. */
  readonly ping: string
}

/** Runs what an order asks for to its end. */
export async function answered<T>(
  { api, engine, lifetime }: Call,
  order: Order,
  use: (turn: Turn) => Promise<T>,
): Promise<T> {
  try {
    const turn = await Turn.begin(engine, order, lifetime)
    try {
      return await use(turn)
    } finally {
      await turn.end()
    }
  } catch (error) {
    throw api.toFailure(error, order.names)
  }
}

/** A response that streams what an order asks for. */
export function streamed(
  { api, engine, lifetime, id }: Call,
  order: Order,
  use: (turn: Turn) => AsyncGenerator<string, undefined>,
): Promise<Response> {
  async function* frames(): AsyncGenerator<string, undefined> {
    try {
      const turn = await Turn.begin(engine, order, lifetime)
      try {
        yield* use(turn)
      } finally {
        await turn.end()
      }
    } catch (error) {
      throw api.toFailure(error, order.names)
    }
  }
  return streamResponse({
    frames: frames(),
    ping: api.ping,
    keepAliveMs: engine.limits.keepAliveMs,
    failed: (error) => {
      const failure = api.toFailure(error)
      engine.report(failure)
      return api.failed(failure, id)
    },
    left: () => {
      lifetime.end(new Failure('timeout', 'the client has gone'))
    },
  })
}

/** A JSON response. */
export function json(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(value), {
    status,
    headers: {
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      ...headers,
    },
  })
}
