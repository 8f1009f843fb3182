import { NodeMlxError } from '../errors.js'
import { unlessAborted } from '../signal.js'
import type { ByteRange, HubClient } from './client.js'
import { DirectConnections, isPlain, type Room } from './direct.js'
import { refusal, type Asked } from './errors.js'
import { Transient, Verdict } from './failures.js'
import type { HubResponse, Transport } from './transport.js'

/** The server gives the whole file whatever part is asked for. */
export class RangesIgnored extends Verdict {}

/** The server has another file than the one that was begun. */
export class ContentChanged extends Verdict {}

/** Answers by which an address that was good for a while is so no more. */
const EXPIRED = new Set([400, 401, 403, 404, 410])

/**
 * Where the content of a file comes from: its address on the hub, and then the one to which that
 * leads.
 */
export class Content {
  readonly #client: HubClient
  readonly #address: URL
  readonly #asked: Asked
  readonly #size: number | undefined
  /** Where the last request ended up; addresses with a signature are good for a while. */
  #location: URL | undefined
  /** The ETag there, which tells whether two parts are of the same file. */
  #validator: { host: string; etag: string } | undefined
  /** Connections to the last location, where it is known to answer as they understand. */
  readonly #connections = new DirectConnections()
  #isDirect = false
  /** Ends when the first part has an answer, whose location is then known to the others. */
  #found: Promise<void> | undefined
  #tell: () => void = () => undefined

  constructor(client: HubClient, address: URL, asked: Asked, size: number | undefined) {
    this.#client = client
    this.#address = address
    this.#asked = asked
    this.#size = size
  }

  /**
   * Reads a part of the file. `take` gets the bytes, and where in the file the first of them is: at
   * the beginning where the server ignores that the end of the file was asked for.
   *
   * @throws RangesIgnored where a part in the middle was asked for, and the answer is another.
   * @throws Transient where the connection breaks off, or ends too soon.
   */
  async read(
    { from, to }: ByteRange,
    signal: AbortSignal,
    take: (data: Uint8Array, at: number) => Promise<void> | void,
    send?: Transport,
  ): Promise<void> {
    const headers: Record<string, string> = {}
    if (from > 0 || to !== undefined) headers['range'] = `bytes=${from}-${to ?? ''}`
    const known = this.#location
    const start = known ?? this.#address
    if (headers['range'] !== undefined && this.#validator?.host === start.host)
      headers['if-range'] = this.#validator.etag
    const end = to === undefined ? this.#size : to + 1
    await this.#client.exchange(
      start,
      'GET',
      headers,
      this.#asked,
      signal,
      async ({ response, url }, touch) => {
        if (known !== undefined && EXPIRED.has(response.status)) {
          this.#location = undefined
          throw new Transient(
            this.#broken('is not to be had any more at the address that the hub gave'),
          )
        }
        let at = this.#start(response, from)
        if (to !== undefined && response.status !== 206) throw new RangesIgnored()
        this.#remember(response, url)
        for await (const data of response.body) {
          touch()
          if (end !== undefined && at + data.byteLength > end) {
            if (to !== undefined) throw new RangesIgnored()
            throw new ContentChanged(`is longer than ${end} bytes`)
          }
          await take(data, at)
          at += data.byteLength
          // Time in which nobody reads is not the server's.
          touch()
        }
        if (end !== undefined && at < end)
          throw new Transient(this.#broken(`ends after ${at} bytes`))
      },
      undefined,
      send,
    )
  }

  /**
   * Reads a part of the file into a room, without a copy where that can be done; `onBytes` is told
   * how many bytes came.
   *
   * @throws as {@link read}.
   */
  async readPart(
    { from, to }: ByteRange & { to: number },
    signal: AbortSignal,
    room: Room,
    onBytes: (length: number) => void,
  ): Promise<void> {
    if (this.#location === undefined && this.#found !== undefined)
      await unlessAborted(this.#found, signal)
    if (!this.#isDirect) {
      this.#found ??= new Promise((resolve) => {
        this.#tell = resolve
      })
      try {
        await this.read({ from, to }, signal, (data) => {
          copyInto(room, data)
          onBytes(data.byteLength)
        })
      } finally {
        this.#tell()
      }
      return
    }
    const length = to - from + 1
    const send: Transport = (url, request) =>
      this.#connections.get(url, { ...request, room, length })
    try {
      await this.read(
        { from, to },
        signal,
        (data) => {
          onBytes(data.byteLength)
        },
        send,
      )
    } catch (error) {
      // Whatever it was, Node's client shall look at it.
      this.#isDirect = false
      throw error
    }
  }

  /** Closes connections that were kept for further parts. */
  end(): void {
    this.#connections.end()
  }

  /** Where in the file an answer begins. */
  #start(response: HubResponse, from: number): number {
    const { status, headers } = response
    if (status === 200) return 0
    if (status === 416) throw new ContentChanged(`has no byte ${from}`)
    if (status !== 206) throw refusal(response, this.#asked)
    // A part of something packed cannot be unpacked.
    if ((headers.get('content-encoding') ?? 'identity') !== 'identity') throw new RangesIgnored()
    const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(headers.get('content-range') ?? '')
    if (range === null) throw new RangesIgnored()
    const [, first, , total] = range
    if (Number(first) !== from) throw new RangesIgnored()
    if (total !== '*' && this.#size !== undefined && Number(total) !== this.#size)
      throw new ContentChanged(`has ${total ?? '?'} bytes, not ${this.#size}`)
    return from
  }

  #remember({ status, headers, isDirect = false }: HubResponse, url: URL): void {
    this.#location = url
    this.#isDirect ||= isDirect && status === 206 && isPlain(headers)
    this.#tell()
    const etag = headers.get('etag') ?? ''
    // A weak ETag says nothing of bytes (RFC 9110, 13.1.5).
    if (!etag.startsWith('"')) return
    const before = this.#validator
    this.#validator = { host: url.host, etag }
    if (before?.host === url.host && before.etag !== etag)
      throw new ContentChanged('has changed while it was downloaded')
  }

  #broken(what: string): NodeMlxError {
    const { id, file = '', endpoint } = this.#asked
    const message = `${id}: ${file} from ${endpoint.host} ${what}. What has been downloaded is kept; try again.`
    return new NodeMlxError('NETWORK_ERROR', message)
  }
}

function copyInto(room: Room, data: Uint8Array): void {
  for (let rest = data; rest.byteLength > 0;) {
    const space = room.space()
    const part = rest.subarray(0, space.byteLength)
    space.set(part)
    room.fill(part.byteLength)
    rest = rest.subarray(part.byteLength)
  }
}
