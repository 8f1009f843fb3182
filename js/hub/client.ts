import { NodeMlxError } from '../errors.js'
import { onAbort } from '../signal.js'
import { milliseconds, type Token } from './environment.js'
import { refusal, unreachable, type Asked } from './errors.js'
import { persistently, Verdict } from './failures.js'
import type { HubResponse, Transport } from './transport.js'

const MAX_REDIRECTS = 10
/** A list of files is small; an answer beyond this size is none. */
const MAX_JSON_BYTES = 64 << 20
const REDIRECTS = new Set([301, 302, 303, 307, 308])

/** An answer, where it came from, and what the hub said on the way there. */
export interface Answer {
  response: HubResponse
  url: URL
}

/**
 * The part of a file that is asked for: from a byte to another, which is included, or to the end.
 */
export interface ByteRange {
  from: number
  to?: number
}

/** Speaks HTTP to a hub: authorization, redirects, waiting. Nothing here knows files or caches. */
export class HubClient {
  readonly endpoint: URL
  readonly token: Token | undefined
  /** Told why nothing happens, before each wait. */
  onWait: (reason: string) => void = () => undefined
  readonly #transport: Transport
  readonly #patience = milliseconds('HF_HUB_DOWNLOAD_TIMEOUT', 30_000)

  constructor(endpoint: URL, token: Token | undefined, transport: Transport) {
    this.endpoint = endpoint
    this.token = token
    this.#transport = transport
  }

  /** An address of the hub: names are escaped, and slashes between them kept. */
  address(...parts: string[]): URL {
    const url = new URL(this.endpoint)
    url.pathname = [url.pathname.replace(/\/$/, ''), ...parts].join('/')
    return url
  }

  /**
   * An answer of the API, as JSON, and the address of its next page where there is one. Tried again
   * while that can help.
   */
  async json(url: URL, asked: Asked, signal: AbortSignal): Promise<{ value: unknown; next?: URL }> {
    return this.persistently(signal, () =>
      this.exchange(url, 'GET', {}, asked, signal, async ({ response, url: from }, touch) => {
        if (response.status !== 200) throw refusal(response, asked)
        const parts: Uint8Array[] = []
        let size = 0
        for await (const part of response.body) {
          touch()
          size += part.byteLength
          if (size > MAX_JSON_BYTES) throw this.#senseless(asked, 'is too long')
          parts.push(part)
        }
        try {
          const value = JSON.parse(Buffer.concat(parts).toString()) as unknown
          const [, next] =
            /<([^>]+)>;\s*rel="?next"?/.exec(response.headers.get('link') ?? '') ?? []
          return next === undefined ? { value } : { value, next: new URL(next, from) }
        } catch {
          throw this.#senseless(asked, 'is not JSON')
        }
      }),
    )
  }

  /** Runs something until it succeeds or cannot be helped. */
  persistently<T>(signal: AbortSignal, run: () => Promise<T>): Promise<T> {
    return persistently(signal, run, (reason) => {
      this.onWait(reason)
    })
  }

  #senseless({ id }: Asked, what: string): NodeMlxError {
    const message = `${id}: the answer of ${this.endpoint.host} ${what}. Is it a hub? HF_ENDPOINT and the option "endpoint" say which is asked.`
    return new NodeMlxError('HUB_ERROR', message)
  }

  /**
   * Sends one request and lets `read` take its answer. Redirects are followed unless `stop` says
   * that an answer is enough. An exchange in which nothing comes for a while is given up; `read`
   * says with `touch` that something came.
   */
  async exchange<T>(
    url: URL,
    method: 'GET' | 'HEAD',
    headers: Readonly<Record<string, string>>,
    asked: Asked,
    signal: AbortSignal,
    read: (answer: Answer, touch: () => void) => Promise<T> | T,
    stop: (response: HubResponse) => boolean = () => false,
    send: Transport = this.#transport,
  ): Promise<T> {
    const watch = new Watch(signal, this.#patience)
    let answer: Answer | undefined
    let host = url.host
    try {
      answer = await this.#follow(url, method, headers, watch, send, stop, (next) => {
        host = next.host
      })
      watch.touch()
      return await read(answer, watch.touch)
    } catch (error) {
      if (signal.aborted || error instanceof NodeMlxError || error instanceof Verdict) throw error
      throw unreachable(watch.reason ?? error, asked, host)
    } finally {
      watch.end()
      answer?.response.discard()
    }
  }

  async #follow(
    start: URL,
    method: 'GET' | 'HEAD',
    headers: Readonly<Record<string, string>>,
    watch: Watch,
    send: Transport,
    stop: (response: HubResponse) => boolean,
    onHost: (url: URL) => void,
  ): Promise<Answer> {
    let url = start
    // The token is the endpoint's alone. Once another host has been asked, no redirect leads back
    // to it.
    let trusted = true
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      onHost(url)
      trusted &&= url.origin === this.endpoint.origin
      const sent = { ...headers, 'user-agent': USER_AGENT, 'accept-encoding': 'identity' }
      const authorization =
        trusted && this.token !== undefined
          ? { authorization: `Bearer ${this.token.value}` }
          : undefined
      const response = await send(url, {
        method,
        headers: { ...sent, ...authorization },
        signal: watch.signal,
      })
      watch.touch()
      const location = response.headers.get('location')
      if (!REDIRECTS.has(response.status) || location === null || stop(response))
        return { response, url }
      response.discard()
      if (!URL.canParse(location, url.href)) throw new Error('a redirect leads nowhere')
      url = new URL(location, url)
      if (!/^https?:$/.test(url.protocol)) throw new Error(`a redirect leads to ${url.protocol}`)
    }
    throw new Error('too many redirects')
  }
}

const USER_AGENT = `nodemlx; node/${process.versions.node}`

/** Ends a request that stands still, and with the caller's signal. */
class Watch {
  readonly signal: AbortSignal
  /** Why the request was ended here. */
  reason: Error | undefined
  readonly #controller = new AbortController()
  readonly #forget: () => void
  readonly #timer: NodeJS.Timeout

  constructor(outer: AbortSignal, patience: number) {
    this.signal = this.#controller.signal
    this.#timer = setTimeout(() => {
      this.reason = new Error(`nothing came for ${patience / 1000} s`)
      this.#controller.abort(this.reason)
    }, patience)
    const abort = (): void => {
      this.#controller.abort(outer.reason)
    }
    if (outer.aborted) abort()
    this.#forget = onAbort(outer, abort)
  }

  /** Something came. */
  readonly touch = (): void => {
    this.#timer.refresh()
  }

  end(): void {
    clearTimeout(this.#timer)
    this.#forget()
  }
}
