import { NodeMlxError } from '../errors.js'
import type { LoadProgress } from '../types.js'
import { openChannel, type Channel } from './channel.js'
import {
  PROTOCOL,
  receiveError,
  type Answers,
  type Call,
  type Message,
  type Order,
} from './protocol.js'

interface Waiting {
  resolve: (value: never) => void
  reject: (error: NodeMlxError) => void
}

/** The client's end of a port. */
export class Connection {
  readonly #channel: Channel
  readonly #waiting = new Map<number, Waiting>()
  readonly #progress = new Map<number, (progress: LoadProgress) => void>()
  readonly #garbage = new FinalizationRegistry<number>((target) => {
    this.order({ order: 'forget', target })
  })
  #ids = 0
  #ended: NodeMlxError | undefined

  constructor(port: unknown) {
    this.#channel = openChannel(port, 'port', {
      onMessage: (message) => {
        this.#receive(message)
      },
      onEnd: (reason) => {
        this.#end(reason)
      },
    })
    this.#channel.hold(false)
  }

  /** Finds out within a time whether there is a host that this client can talk to. */
  async greet(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const silent = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(
          new NodeMlxError(
            'HOST_GONE',
            `no host has answered for ${ms} ms: call serve() at the other end of the port`,
          ),
        )
      }, ms)
    })
    const hello = this.call({ method: 'hello', protocol: PROTOCOL, probe: new Uint8Array(1) })
    try {
      await Promise.race([hello, silent])
    } finally {
      clearTimeout(timer)
    }
  }

  get isOpen(): boolean {
    return this.#ended === undefined
  }

  /** Throws where the host has gone. */
  check(): void {
    if (this.#ended !== undefined) throw this.#ended
  }

  /** A number for something that the host is to make. */
  newId(): number {
    return ++this.#ids
  }

  async call<C extends Call>(call: C): Promise<Answers[C['method']]> {
    this.check()
    const id = this.newId()
    const answer = new Promise<Answers[C['method']]>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
    })
    // Whoever waits for an answer keeps the process alive, and nobody else.
    if (this.#waiting.size === 1) this.#channel.hold(true)
    this.#post({ nodemlx: true, kind: 'call', id, call })
    return answer
  }

  /** Says what needs no answer; nothing happens where the host has gone. */
  order(order: Order): void {
    this.#post({ nodemlx: true, kind: 'order', order })
  }

  /** Hears how a model's load goes on, until it has ended. */
  async reporting<T>(
    model: number,
    onProgress: (progress: LoadProgress) => void,
    loading: () => Promise<T>,
  ): Promise<T> {
    this.#progress.set(model, onProgress)
    try {
      return await loading()
    } finally {
      this.#progress.delete(model)
    }
  }

  /** Tells the host to forget its part of an object that is collected as garbage. */
  forgetWith(object: object, id: number): void {
    this.#garbage.register(object, id)
  }

  /**
   * Has the host dispose of all that is this client's.
   *
   * @param withPort - Whether the port is the client's to end.
   */
  close(withPort: boolean): void {
    const bye: Message = { nodemlx: true, kind: 'order', order: { order: 'bye' } }
    if (withPort) {
      this.#channel.end(bye)
      return
    }
    this.#channel.post(bye)
    this.#channel.close()
  }

  #post(message: Message): void {
    if (this.#ended === undefined) this.#channel.post(message)
  }

  #receive(message: Message): void {
    switch (message.kind) {
      case 'answer':
        this.#take(message.id)?.resolve(message.value as never)
        return
      case 'failure':
        this.#take(message.id)?.reject(receiveError(message.error))
        return
      case 'progress':
        this.#progress.get(message.model)?.(message.progress)
        return
      case 'call':
      case 'order':
      // Another client's, for a host that listens to this port, too.
    }
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (waiting !== undefined && this.#waiting.size === 0) this.#channel.hold(false)
    return waiting
  }

  #end(reason: string): void {
    const error = new NodeMlxError(
      'HOST_GONE',
      `the host of the model has gone: ${reason}. Connect again, and load the model again`,
    )
    this.#ended = error
    const all = [...this.#waiting.values()]
    this.#waiting.clear()
    this.#progress.clear()
    for (const { reject } of all) reject(error)
  }
}
