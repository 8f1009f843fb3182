import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { deserialize, serialize } from 'node:v8'
import type { Port } from '../client/index.js'

/** Bytes of the number before each message: its length. */
const HEAD = 4

/** A port of `nodemlx/client` over a socket. It does not keep the process alive. */
export class SocketPort extends EventEmitter implements Port {
  readonly #socket: Socket
  #received = Buffer.alloc(0)

  constructor(socket: Socket) {
    super()
    this.#socket = socket.unref()
    socket.on('data', (data: Buffer) => {
      this.#receive(data)
    })
    // What goes wrong ends it.
    socket.on('error', () => undefined)
    socket.on('close', () => this.emit('close'))
  }

  postMessage(message: unknown): void {
    const body = serialize(message)
    const head = Buffer.alloc(HEAD)
    head.writeUInt32LE(body.length)
    this.#socket.write(Buffer.concat([head, body]))
  }

  ref(): void {
    this.#socket.ref()
  }

  unref(): void {
    this.#socket.unref()
  }

  close(): void {
    this.#socket.end()
  }

  #receive(data: Buffer): void {
    this.#received = Buffer.concat([this.#received, data])
    while (this.#received.length >= HEAD) {
      const end = HEAD + this.#received.readUInt32LE()
      if (this.#received.length < end) return
      const message: unknown = deserialize(this.#received.subarray(HEAD, end))
      this.#received = this.#received.subarray(end)
      this.emit('message', message)
    }
  }
}
