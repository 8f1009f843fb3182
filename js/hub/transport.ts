import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest, type RequestOptions } from 'node:https'
import { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { createBrotliDecompress, createUnzip } from 'node:zlib'
import { proxyFor, proxyHeaders, tunnelAgent } from './proxy.js'

export interface HubRequest {
  method: 'GET' | 'HEAD'
  headers: Readonly<Record<string, string>>
  signal: AbortSignal
}

/** An answer as it came: redirects are not followed. */
export interface HubResponse {
  status: number
  headers: Headers
  /** The decoded content. Leaving a loop over it closes the connection. */
  body: AsyncIterable<Uint8Array>
  /** Gives up the body where nobody reads it. */
  discard(): void
  /** The address answered itself, over Node's own client and without a proxy between. */
  isDirect?: boolean
}

export type Transport = (url: URL, request: HubRequest) => Promise<HubResponse>

/**
 * How requests are made: with the caller's `fetch`; with the global one where somebody has replaced
 * it or its dispatcher, or where it knows proxies itself (Bun, Deno); else over Node's HTTP client,
 * which takes half the time for each byte that `fetch` takes and reaches proxies in every version
 * of Node.
 */
export function transport(fetch?: typeof globalThis.fetch): Transport {
  if (fetch !== undefined) return overFetch(fetch)
  return isNodesOwn(globalThis.fetch) && !hasDispatcher() ? overHttp : overFetch(globalThis.fetch)
}

/**
 * Whether a `fetch` is that of Node. Its text tells, because it can have been replaced before this
 * module was loaded.
 */
function isNodesOwn(fetch: typeof globalThis.fetch): boolean {
  return Function.prototype.toString.call(fetch).includes('internal/deps/undici')
}

/**
 * Whether somebody has set a dispatcher for `fetch`, such as undici's `ProxyAgent` or `MockAgent`.
 * Node's own is an `Agent`, or such a one behind the interface of an older undici, and is there
 * once anybody has called `fetch`.
 */
function hasDispatcher(): boolean {
  return [1, 2].some((version) => {
    const key = Symbol.for(`undici.globalDispatcher.${version}`)
    const dispatcher = (globalThis as Record<symbol, object | undefined>)[key]
    return dispatcher !== undefined && !OWN_DISPATCHERS.has(dispatcher.constructor.name)
  })
}

const OWN_DISPATCHERS = new Set(['Agent', 'Dispatcher1Wrapper'])

function overFetch(fetch: typeof globalThis.fetch): Transport {
  return async (url, { method, headers, signal }) => {
    const response = await fetch(url.href, { method, headers, signal, redirect: 'manual' })
    const { body } = response
    return {
      status: response.status,
      headers: response.headers,
      body: body === null ? nothing() : chunks(body),
      discard: () => {
        body?.cancel().catch(() => undefined)
      },
    }
  }
}

// eslint-disable-next-line @typescript-eslint/require-await -- the type asks for it
async function* nothing(): AsyncGenerator<Uint8Array> {
  yield* []
}

async function* chunks(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader()
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      yield value
    }
  } finally {
    reader.cancel().catch(() => undefined)
  }
}

// Connections are kept for the next request of the same host; idle ones do not keep Node.js alive.
const AGENTS = {
  'http:': new HttpAgent({ keepAlive: true }),
  'https:': new HttpsAgent({ keepAlive: true }),
}

const overHttp: Transport = (url, { method, headers, signal }) => {
  const proxy = proxyFor(url)
  const secure = url.protocol === 'https:'
  const sent = { host: url.host, ...headers }
  const options: RequestOptions = {
    method,
    headers: sent,
    signal,
    agent: secure ? AGENTS['https:'] : AGENTS['http:'],
  }
  let target = url
  if (proxy !== undefined && secure) {
    options.agent = tunnelAgent(proxy)
  } else if (proxy !== undefined) {
    // The proxy itself asks for what is not encrypted.
    target = proxy
    options.agent = proxy.protocol === 'https:' ? AGENTS['https:'] : AGENTS['http:']
    options.path = url.href
    options.headers = { ...sent, ...proxyHeaders(proxy) }
  }
  return new Promise((resolve, reject) => {
    const request = (target.protocol === 'https:' ? httpsRequest : httpRequest)(
      { ...address(target), ...options },
      (response) => {
        const isDirect = proxy === undefined && response.socket instanceof Socket
        resolve({ ...answer(response, method), isDirect })
      },
    )
    // Errors behind the headers are the body's.
    request.on('error', reject)
    request.end()
  })
}

function address(url: URL): RequestOptions {
  return {
    protocol: url.protocol,
    hostname: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port,
    path: `${url.pathname}${url.search}`,
  }
}

/**
 * A body of this size is read to its end where nobody wants it, so that its connection can be used
 * again.
 */
const SMALL_BODY = 64 << 10
const SMALL_BODY_MS = 5000

function answer(response: IncomingMessage, method: string): HubResponse {
  const headers = new Headers()
  for (let at = 0; at < response.rawHeaders.length; at += 2) {
    headers.append(response.rawHeaders[at] ?? '', response.rawHeaders[at + 1] ?? '')
  }
  // A body that is discarded or aborted has errors which nobody waits for.
  response.on('error', () => undefined)
  return {
    status: response.statusCode ?? 0,
    headers,
    body: decoded(response, headers.get('content-encoding') ?? ''),
    discard: () => {
      const size = headers.get('content-length')
      if (method !== 'HEAD' && (size === null || Number(size) > SMALL_BODY)) {
        response.destroy()
      } else if (!response.closed) {
        const timer = setTimeout(() => response.destroy(), SMALL_BODY_MS).unref()
        response.once('close', () => {
          clearTimeout(timer)
        })
        response.resume()
      }
    },
  }
}

function decoded(body: IncomingMessage, encoding: string): Readable {
  if (encoding === '' || encoding === 'identity') return body
  const decoder = encoding === 'br' ? createBrotliDecompress() : createUnzip()
  body.on('error', (error) => decoder.destroy(error))
  body.on('close', () => {
    if (!body.complete) decoder.destroy(new Error('the connection was cut'))
  })
  decoder.on('close', () => body.destroy())
  decoder.on('error', () => undefined)
  return body.pipe(decoder)
}
