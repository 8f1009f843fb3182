import { validateHeaderValue } from 'node:http'
import { connect, isIP, type OnReadOpts, type Socket } from 'node:net'
import { connect as connectSecurely, type ConnectionOptions } from 'node:tls'
import { onAbort } from '../signal.js'
import type { HubResponse } from './transport.js'

/**
 * Bodies that the system reads straight into memory that is lent, which takes about a quarter of
 * the time for each byte that Node's HTTP client takes. It is for parts of a file whose address has
 * just answered over that client, and knows no more of HTTP/1.1 (RFC 9112) than these answers have:
 * anything else is an error, after which the client is asked again.
 */

/** Memory for what comes. */
export interface Room {
  /** Where the next bytes go; never empty. */
  space(): Uint8Array
  /** So many bytes were put there. */
  fill(length: number): void
}

export interface PartRequest {
  headers: Readonly<Record<string, string>>
  room: Room
  /** How many bytes are asked for. */
  length: number
  signal: AbortSignal
}

/** The longest head of an answer, as Node's client has it. */
const MAX_HEAD = 16 << 10

/** Connections to where a file's content is. */
export class DirectConnections {
  readonly #idle = new Set<Connection>()
  readonly #open = new Set<Connection>()

  /**
   * Asks for a part of a file. The body's bytes are in the room when the body gives them.
   *
   * @throws Error where the connection fails, and for an answer of another form.
   */
  async get(url: URL, request: PartRequest): Promise<HubResponse> {
    request.signal.throwIfAborted()
    const kept = [...this.#idle].find(({ origin }) => origin === url.origin)
    if (kept === undefined) return this.#connect(url).get(url, request)
    this.#idle.delete(kept)
    try {
      return await kept.get(url, request)
    } catch (error) {
      // The server may have closed it just when it was used again.
      if (request.signal.aborted || kept.hasAnswered) throw error
      return await this.#connect(url).get(url, request)
    }
  }

  /** Closes all connections. */
  end(): void {
    for (const connection of [...this.#open]) connection.close()
  }

  #connect(url: URL): Connection {
    const connection = new Connection(url, {
      onIdle: () => {
        this.#idle.add(connection)
      },
      onClose: () => {
        this.#idle.delete(connection)
        this.#open.delete(connection)
      },
    })
    this.#open.add(connection)
    return connection
  }
}

interface Head {
  status: number
  headers: Headers
}

/** What is done with the bytes that come next. */
type Stage =
  | { name: 'idle' }
  | { name: 'head'; resolve: (head: Head) => void; reject: (error: Error) => void }
  /** The socket stands still until somebody wants the body; what TLS had already is kept. */
  | { name: 'ready'; early: Uint8Array[] }
  | { name: 'body'; room: Room; left: number }

class Connection {
  readonly origin: string
  /** Anything came for the request that is under way. */
  hasAnswered = false
  readonly #socket: Socket
  readonly #onIdle: () => void
  #stage: Stage = { name: 'idle' }
  /** The head of an answer. */
  readonly #head = Buffer.alloc(MAX_HEAD)
  #filled = 0
  #keepAlive = true
  #failure: Error | undefined
  /** Bytes in the room that the body has not given yet. */
  readonly #arrived: Uint8Array[] = []
  #wake: () => void = () => undefined

  constructor(url: URL, { onIdle, onClose }: { onIdle: () => void; onClose: () => void }) {
    this.origin = url.origin
    this.#onIdle = onIdle
    const secure = url.protocol === 'https:'
    const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
    const port = Number(url.port || (secure ? 443 : 80))
    const onread: OnReadOpts = {
      buffer: () => this.#space(),
      callback: (length, buffer) => this.#take(length, buffer),
    }
    // The types of TLS leave `onread` out.
    const options: ConnectionOptions & { onread: OnReadOpts } = { host, port, onread }
    // Certificates name no address where a name is sent along (RFC 6066, 3).
    if (isIP(host) === 0) options.servername = host
    this.#socket = secure
      ? connectSecurely({ ...options, ALPNProtocols: ['http/1.1'] })
      : connect({ host, port, onread })
    this.#socket.on('error', (error) => {
      this.#fail(error)
    })
    this.#socket.on('end', () => {
      this.#fail(new Error('the connection was cut'))
    })
    this.#socket.on('close', () => {
      this.#fail(new Error('the connection was cut'))
      onClose()
    })
  }

  close(): void {
    this.#socket.destroy()
  }

  async get(url: URL, { headers, room, length, signal }: PartRequest): Promise<HubResponse> {
    const forget = onAbort(signal, () => {
      this.#fail(signal.reason as Error)
      this.close()
    })
    try {
      const { status, headers: answered } = await this.#ask(url, headers)
      // Where it leads to a proxy may have to be asked.
      if (status < 400 && status !== 200 && status !== 206)
        throw new Error(`the answer has the status ${status}`)
      if (status !== 206) {
        // All that is of use is in the head.
        this.close()
        return { status, headers: answered, body: nothing(), discard: forget }
      }
      if (!isPlain(answered) || answered.get('content-length') !== String(length))
        throw new Error('the answer is not as long as what was asked for')
      const discard = (): void => {
        forget()
        // A body that was not read to its end is in the way of the next.
        if (this.#stage.name !== 'idle') this.close()
      }
      return { status, headers: answered, body: this.#body(room, length), discard }
    } catch (error) {
      forget()
      this.close()
      throw error
    }
  }

  #ask(url: URL, headers: PartRequest['headers']): Promise<Head> {
    const lines = [`GET ${url.pathname}${url.search} HTTP/1.1`]
    for (const [name, value] of Object.entries({ host: url.host, ...headers })) {
      validateHeaderValue(name, value)
      lines.push(`${name}: ${value}`)
    }
    this.hasAnswered = false
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) throw this.#failure
      this.#stage = { name: 'head', resolve, reject }
      this.#socket.write(`${lines.join('\r\n')}\r\n\r\n`, 'latin1')
    })
  }

  async *#body(room: Room, length: number): AsyncGenerator<Uint8Array> {
    const early = this.#stage.name === 'ready' ? this.#stage.early : []
    this.#stage = { name: 'body', room, left: length }
    for (const data of early) this.#put(data)
    this.#socket.resume()
    for (let given = 0; given < length;) {
      const data = this.#arrived.shift()
      if (data !== undefined) {
        given += data.byteLength
        yield data
      } else if (this.#failure !== undefined) {
        throw this.#failure
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      }
    }
  }

  /** Where the next bytes are to be read to. */
  #space(): Uint8Array {
    if (this.#stage.name !== 'body') return this.#head.subarray(this.#filled)
    const { room, left } = this.#stage
    return room.space().subarray(0, left)
  }

  /** Takes bytes that were read; `false` to have no more for now. */
  #take(length: number, buffer: Uint8Array): boolean {
    this.hasAnswered = true
    if (this.#stage.name === 'head') {
      this.#filled += length
      return this.#takeHead(this.#stage)
    }
    if (this.#stage.name === 'ready') {
      this.#stage.early.push(Uint8Array.from(buffer.subarray(0, length)))
      return false
    }
    // What is read first of a body still goes where the head was.
    if (buffer.buffer === this.#head.buffer) this.#put(buffer.subarray(0, length))
    else this.#advance(buffer.subarray(0, length))
    return true
  }

  #takeHead(stage: Stage & { name: 'head' }): boolean {
    const end = this.#head.subarray(0, this.#filled).indexOf('\r\n\r\n')
    if (end === -1) {
      if (this.#filled === MAX_HEAD) this.#fail(new Error('the head of the answer is too long'))
      return this.#filled < MAX_HEAD
    }
    const head = parseHead(this.#head.toString('latin1', 0, end))
    this.#head.copyWithin(0, end + 4, this.#filled)
    this.#filled -= end + 4
    if (head === undefined) {
      this.#fail(new Error('the answer is not HTTP/1.1'))
      return false
    }
    // News on the way to the answer (RFC 9110, 15.2).
    if (head.status < 200) return this.#takeHead(stage)
    this.#keepAlive = !/\bclose\b/i.test(head.headers.get('connection') ?? '')
    this.#stage = { name: 'ready', early: [Uint8Array.from(this.#head.subarray(0, this.#filled))] }
    this.#filled = 0
    stage.resolve(head)
    return false
  }

  /** Copies bytes into the room. */
  #put(data: Uint8Array): void {
    for (let rest = data; rest.byteLength > 0;) {
      const stage = this.#stage
      if (stage.name !== 'body') {
        this.#fail(new Error('more comes than was asked for'))
        this.close()
        return
      }
      const space = this.#space()
      const part = rest.subarray(0, space.byteLength)
      space.set(part)
      this.#advance(space.subarray(0, part.byteLength))
      rest = rest.subarray(part.byteLength)
    }
  }

  /** Counts bytes that are in the room. */
  #advance(data: Uint8Array): void {
    const stage = this.#stage
    if (stage.name !== 'body') return
    stage.room.fill(data.byteLength)
    stage.left -= data.byteLength
    this.#arrived.push(data)
    if (stage.left === 0) this.#finish()
    this.#wake()
  }

  #finish(): void {
    this.#stage = { name: 'idle' }
    if (this.#keepAlive) this.#onIdle()
    else this.close()
  }

  #fail(error: Error): void {
    this.#failure ??= error
    if (this.#stage.name === 'head') this.#stage.reject(this.#failure)
    this.#wake()
  }
}

// eslint-disable-next-line @typescript-eslint/require-await -- the type asks for it
async function* nothing(): AsyncGenerator<Uint8Array> {
  yield* []
}

function parseHead(text: string): Head | undefined {
  const [first = '', ...lines] = text.split('\r\n')
  const [, status] = /^HTTP\/1\.1 (\d{3})(?: |$)/.exec(first) ?? []
  if (status === undefined) return undefined
  const headers = new Headers()
  for (const line of lines) {
    const [, name, value = ''] = /^([\w!#$%&'*+.^`|~-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? []
    // A line of which nobody knows where it ends may hide another.
    if (name === undefined || /[\r\n\0]/.test(value)) return undefined
    headers.append(name, value)
  }
  return { status: Number(status), headers }
}

/** Whether a body is bytes as they are, whose end is known without looking at them. */
export function isPlain(headers: Headers): boolean {
  return (
    headers.get('content-length') !== null &&
    headers.get('transfer-encoding') === null &&
    (headers.get('content-encoding') ?? 'identity') === 'identity'
  )
}
