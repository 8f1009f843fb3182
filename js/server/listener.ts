import type { IncomingMessage, ServerResponse } from 'node:http'
import { json } from './call.js'
import { Failure } from './failure.js'
import { OPENAI } from './openai/api.js'

/** Answers a request of `node:http`, Express and their like. */
export type NodeListener = (request: IncomingMessage, response: ServerResponse) => void

/**
 * Puts a handler of `fetch`'s requests on `node:http`. The request must be unread: no body parser
 * may come before.
 */
export function nodeListener(handler: (request: Request) => Promise<Response>): NodeListener {
  return (incoming, outgoing) => {
    void answer(handler, incoming, outgoing)
  }
}

async function answer(
  handler: (request: Request) => Promise<Response>,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const gone = new AbortController()
  outgoing.on('close', () => {
    if (!outgoing.writableFinished) gone.abort()
  })
  // A connection that breaks is told by `close`.
  outgoing.on('error', () => undefined)
  try {
    const request = toRequest(incoming, gone.signal)
    const response = await (request instanceof Response ? request : handler(request))
    await send(response, outgoing, gone, () => discardRest(incoming))
  } catch {
    // What the handler could not answer; a broken connection ends here, too.
    if (outgoing.headersSent) {
      outgoing.destroy()
    } else {
      outgoing.writeHead(500)
      outgoing.end()
    }
  }
  if (!incoming.complete) {
    outgoing.once('finish', () => incoming.destroy())
    if (outgoing.writableFinished) incoming.destroy()
  }
}

/** How long what is still to come of a refused body is waited for, and all of it read. */
const REST_MS = { silent: 200, most: 2000 }

/**
 * Throws away what is still to come of a body that nobody reads, for a while: a connection that is
 * cut while a client writes takes the answer with it.
 */
async function discardRest(incoming: IncomingMessage): Promise<void> {
  if (incoming.complete) return
  const start = performance.now()
  let timer: NodeJS.Timeout | undefined
  await new Promise<void>((resolve) => {
    const wait = (): void => {
      clearTimeout(timer)
      const left = start + REST_MS.most - performance.now()
      timer = setTimeout(resolve, Math.max(0, Math.min(REST_MS.silent, left)))
    }
    incoming.on('data', wait)
    for (const event of ['end', 'error', 'close']) incoming.once(event, resolve)
    wait()
  })
  clearTimeout(timer)
}

/** The request as `fetch` has it, or what is answered to one that `fetch` cannot have. */
function toRequest(incoming: IncomingMessage, signal: AbortSignal): Request | Response {
  const { method = 'GET', headers } = incoming
  // Before HTTP 1.1 nobody had to name the host.
  const host = headers.host ?? (incoming.httpVersion === '1.0' ? 'localhost' : '')
  // Express cuts what a router is mounted at off `url`.
  const { originalUrl } = incoming as { originalUrl?: string }
  const path = originalUrl ?? incoming.url ?? '/'
  let url: URL
  try {
    if (!path.startsWith('/')) throw new Error('not a path')
    if (hostsOf(incoming) > 1) throw new Error('not one host')
    url = new URL(`http://${host}`)
    if (url.pathname !== '/' || url.username !== '' || url.search !== '')
      throw new Error('not a host')
    url = new URL(`${url.origin}${path}`)
  } catch {
    return refused(new Failure('invalid', 'the host or the path of the request is malformed'))
  }
  const hasBody = method !== 'GET' && method !== 'HEAD'
  const list = Object.entries(headers).map(([name, value = '']): [string, string] => [
    name,
    Array.isArray(value) ? value.join(', ') : value,
  ])
  try {
    return new Request(url, {
      method,
      headers: list,
      signal,
      ...(hasBody ? { body: bodyOf(incoming), duplex: 'half' } : {}),
    })
  } catch {
    // TRACE and CONNECT are no methods for `fetch`.
    return refused(new Failure('method', `the method ${method} is not known here`))
  }
}

/** A body, as fast as it is read. Who reads no more of it leaves the connection as it is. */
function bodyOf(incoming: IncomingMessage): ReadableStream<Uint8Array> {
  const chunks = incoming.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer, undefined>
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await chunks.next()
        if (done === true) controller.close()
        else controller.enqueue(value)
      },
      async cancel() {
        await chunks.return?.()
      },
    },
    // Nothing is read before someone asks for it: a body that is refused by its length is not.
    { highWaterMark: 0 },
  )
}

/** How many hosts a request names: of several, `headers` has the first one alone. */
function hostsOf({ rawHeaders }: IncomingMessage): number {
  return rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === 'host').length
}

function refused(failure: Failure): Response {
  return json(OPENAI.body(failure, ''), OPENAI.status(failure))
}

/**
 * Writes a response, as fast as the client reads it.
 *
 * @param written - Called before the response ends.
 */
async function send(
  response: Response,
  outgoing: ServerResponse,
  gone: AbortController,
  written: () => Promise<void>,
): Promise<void> {
  const body: ReadableStream<Uint8Array> | null = response.body
  if (gone.signal.aborted) {
    await body?.cancel()
    return
  }
  outgoing.writeHead(response.status, Object.fromEntries(response.headers))
  if (body === null) {
    await written()
    outgoing.end()
    return
  }
  const reader = body.getReader()
  // What is being read then ends at once, as if it were complete.
  const cancel = (): void => {
    void reader.cancel().catch(() => undefined)
  }
  gone.signal.addEventListener('abort', cancel, { once: true })
  // A stream's status is to be seen before its first event.
  outgoing.flushHeaders()
  // It fails where the stream is ended because the client does not read.
  const failed = reader.closed.then(() => new Promise<never>(() => undefined))
  failed.catch(() => undefined)
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    if (!outgoing.write(value)) await Promise.race([drained(outgoing), failed])
  }
  gone.signal.removeEventListener('abort', cancel)
  await written()
  outgoing.end()
}

function drained(outgoing: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      outgoing.off('drain', done)
      outgoing.off('close', done)
      resolve()
    }
    outgoing.on('drain', done)
    outgoing.on('close', done)
  })
}
