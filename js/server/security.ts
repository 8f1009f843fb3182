import { createHash, timingSafeEqual } from 'node:crypto'
import { invalidArgument } from '../errors.js'
import { Failure } from './failure.js'

/** Who may ask. */
export interface Access {
  /** Keys, one of which a request has to bring; none is asked for where there are none. */
  keys: readonly string[]
  /** Names of hosts under which the server may be asked, besides those of this machine. */
  hosts: readonly string[]
  /** Origins of other sites whose pages may ask; `*` for all. */
  origins: readonly string[]
}

/** Whether a host's name, without its port, means this machine alone. */
export function isLoopback(name: string): boolean {
  const plain = name.toLowerCase().replace(/^\[(.*)\]$/, '$1')
  return (
    plain === 'localhost' ||
    plain.endsWith('.localhost') ||
    plain === '::1' ||
    /^127(?:\.\d{1,3}){3}$/.test(plain) ||
    /^::ffff:(?:127\.|7f)/.test(plain)
  )
}

export class Gate {
  readonly #digests: readonly Buffer[]
  readonly #hosts: ReadonlySet<string>
  readonly #origins: ReadonlySet<string>

  constructor({ keys, hosts, origins }: Access) {
    if (origins.includes('*') && keys.length === 0) {
      throw invalidArgument('cors', "'*' lets every web page ask, and needs an apiKey")
    }
    this.#digests = keys.map(digest)
    this.#hosts = new Set(hosts.map((host) => host.toLowerCase()))
    this.#origins = new Set(origins)
  }

  /**
   * Refuses what a web page of another site may have sent: a name that was bound to this machine
   * (DNS rebinding) is no name of this machine, and a page's own origin is told by the browser.
   */
  checkSender(request: Request): void {
    const url = new URL(request.url)
    const isOurs = isLoopback(url.hostname) || this.#hosts.has(url.hostname.toLowerCase())
    // A key is something that the page of another site does not have.
    if (!isOurs && (this.#digests.length === 0 || this.#hosts.size > 0)) {
      throw new Failure(
        'forbidden',
        `the host ${url.hostname} is none of this server's; give its name in the option hosts (--allow-host)`,
      )
    }
    if (this.#isForeign(request, url)) {
      throw new Failure(
        'forbidden',
        'a page of another site may not ask; give its origin in the option cors (--cors)',
      )
    }
  }

  /** Refuses a request without a right key. */
  checkKey(request: Request): void {
    if (this.#digests.length === 0) return
    const given = keyOf(request)
    if (given !== undefined) {
      const candidate = digest(given)
      // All are compared, so that the time tells nothing.
      const matches = this.#digests.filter((key) => timingSafeEqual(key, candidate))
      if (matches.length > 0) return
    }
    const message =
      given === undefined
        ? 'an API key is needed: authorization: Bearer <key>, or x-api-key: <key>'
        : 'the API key is wrong'
    throw new Failure('unauthorized', message, {
      code: 'invalid_api_key',
      headers: { 'www-authenticate': 'Bearer' },
    })
  }

  /** The headers that let a page of an allowed origin read the answer. */
  corsHeaders(request: Request): Record<string, string> {
    const origin = request.headers.get('origin')
    if (origin === null || !this.#allows(origin)) return {}
    return {
      'access-control-allow-origin': origin,
      'access-control-expose-headers': 'x-request-id, request-id, retry-after',
      vary: 'origin',
    }
  }

  /** The answer to a browser that asks whether a page may ask. */
  preflight(request: Request, methods: readonly string[]): Response {
    const asked = request.headers.get('access-control-request-headers')
    const allowed = this.corsHeaders(request)
    if (allowed['access-control-allow-origin'] === undefined)
      return new Response(null, { status: 204, headers: { allow: methods.join(', ') } })
    return new Response(null, {
      status: 204,
      headers: {
        ...allowed,
        'access-control-allow-methods': methods.join(', '),
        'access-control-allow-headers': asked ?? 'authorization, content-type, x-api-key',
        'access-control-max-age': '600',
        ...(request.headers.get('access-control-request-private-network') === 'true'
          ? { 'access-control-allow-private-network': 'true' }
          : {}),
      },
    })
  }

  #allows(origin: string): boolean {
    return this.#origins.has('*') || this.#origins.has(origin)
  }

  #isForeign(request: Request, url: URL): boolean {
    const origin = request.headers.get('origin')
    if (origin !== null) return !isOrigin(origin, url.host) && !this.#allows(origin)
    // Old browsers send no such header; new ones send it with every request.
    const site = request.headers.get('sec-fetch-site')
    const isVisit = request.headers.get('sec-fetch-mode') === 'navigate' && isGet(request)
    return (site === 'cross-site' || site === 'same-site') && !isVisit
  }
}

function isGet({ method }: Request): boolean {
  return method === 'GET' || method === 'HEAD'
}

/** Whether an origin is that of a host, whichever protocol a proxy before the server speaks. */
function isOrigin(origin: string, host: string): boolean {
  try {
    return new URL(origin).host === host
  } catch {
    return false
  }
}

function keyOf(request: Request): string | undefined {
  const bearer = /^bearer +(.+)$/i.exec(request.headers.get('authorization') ?? '')?.[1]
  return bearer?.trim() ?? request.headers.get('x-api-key') ?? undefined
}

/** Of the same length for every key, as a comparison in constant time needs it. */
function digest(key: string): Buffer {
  return createHash('sha256').update(key, 'utf8').digest()
}
