import { AsyncResource } from 'node:async_hooks'
import { aborted, NodeMlxError } from '../errors.js'
import { adapterFolder } from '../hub/adapter.js'
import { hubOptions, LoadedModel } from '../model.js'
import { loadOptions } from '../options.js'
import { onAbort, unlessAborted } from '../signal.js'
import type { LoadModelOptions, LoadProgress, Model } from '../types.js'
import { nonEmptyString } from '../validate.js'
import type { Port } from './channel.js'
import { Connection } from './connection.js'
import { sentName, sentOptions, type SentName } from './paths.js'
import type { SentLoadOptions } from './protocol.js'
import { RemoteModel } from './remote-model.js'

/** How long a host may take to answer for the first time. */
const GREETING_MS = 30_000

/** A connection to a host that runs models. */
export interface Client {
  /**
   * `loadModel` of the host. The model is like one of this process; where the host ends, what is
   * pending and all that is asked of it later rejects with `HOST_GONE`. Without `fetch`.
   */
  loadModel(model: string, options?: LoadModelOptions): Promise<Model>
  /**
   * Ends the connection: the host disposes of what this client has loaded, and a host by itself
   * (`nodemlx/client/host`) ends. What else a thread or process does is the caller's to end.
   */
  close(): void
}

/**
 * Connects to a host: to what called `serve` at the other end of a port.
 *
 * @param port - A port, or a function that starts a host and gives its port. It is called when a
 *   model is loaded and there is no host: for the first one, and again after a host has ended.
 */
export function connect(port: Port | (() => Port | Promise<Port>)): Client {
  const client = new Connecting(port)
  if (typeof port !== 'function') client.open(port)
  return client
}

class Connecting implements Client {
  readonly #port: Port | (() => Port | Promise<Port>)
  #connection: Promise<Connection> | undefined
  #open: Connection | undefined
  #closed = false

  constructor(port: Port | (() => Port | Promise<Port>)) {
    this.#port = port
  }

  async loadModel(model: string, options?: LoadModelOptions): Promise<Model> {
    const { signal, onProgress, fetch, adapter, ...sent } = loadOptions(options)
    const name = nonEmptyString(model, 'model')
    if (fetch !== undefined)
      throw new NodeMlxError('UNSUPPORTED', 'fetch: a function cannot be sent to the host', {
        option: 'fetch',
      })
    if (signal?.aborted === true) throw aborted('Loading the model', signal.reason)
    // What the caller may have changed by the time a host is there.
    const [named, placed] = await Promise.all([sentName(name), sentOptions(sent)])
    const connection = await this.#connected(signal)
    const id = connection.newId()
    const loading = new RemoteLoading(connection, id, onProgress)
    const forget =
      signal &&
      onAbort(signal, () => {
        loading.end(aborted('Loading the model', signal.reason))
      })
    // It may have come while the host started.
    if (signal !== undefined && isAborted(signal))
      loading.end(aborted('Loading the model', signal.reason))
    try {
      // The revision is that of the model.
      const folder = adapter && (await adapterFolder(adapter, hubOptions(sent)))
      return await loading.run(named, placed, folder)
    } finally {
      forget?.()
    }
  }

  /** Listens to a port at once, so that its end is not missed. */
  open(port: Port): Connection {
    const connection = new Connection(port)
    this.#open = connection
    return connection
  }

  close(): void {
    this.#closed = true
    this.#open?.close(this.#startsHosts)
  }

  get #startsHosts(): boolean {
    return typeof this.#port === 'function'
  }

  /** The connection, unless the signal comes first: a host may never answer. */
  async #connected(signal: AbortSignal | undefined): Promise<Connection> {
    try {
      return await unlessAborted(this.#connect(), signal)
    } catch (error) {
      if (signal?.aborted === true) throw aborted('Loading the model', signal.reason)
      throw error
    }
  }

  #connect(): Promise<Connection> {
    if (this.#closed) return Promise.reject(closed())
    const isOver = this.#open !== undefined && !this.#open.isOpen
    if (isOver && this.#startsHosts) this.#connection = undefined
    this.#connection ??= this.#greet()
    // A host that did not answer is asked again.
    this.#connection.catch(() => {
      this.#connection = undefined
    })
    return this.#connection
  }

  async #greet(): Promise<Connection> {
    const connection =
      typeof this.#port === 'function'
        ? this.open(await this.#port())
        : (this.#open ?? this.open(this.#port))
    if (this.#isClosed()) {
      connection.close(this.#startsHosts)
      throw closed()
    }
    try {
      await connection.greet(GREETING_MS)
    } catch (error) {
      // Another host may answer.
      if (this.#startsHosts) connection.close(true)
      throw error
    }
    return connection
  }

  /** It may have been closed while a host started. */
  #isClosed(): boolean {
    return this.#closed
  }
}

function closed(): NodeMlxError {
  return new NodeMlxError('HOST_GONE', 'the client has been closed')
}

function isAborted(signal: AbortSignal): boolean {
  return signal.aborted
}

/** A model that a host is loading. */
class RemoteLoading {
  readonly #connection: Connection
  readonly #id: number
  readonly #onProgress: ((progress: LoadProgress) => void) | undefined
  /** Why the loading was ended, where it was. */
  #ended: { error: unknown } | undefined

  constructor(
    connection: Connection,
    id: number,
    onProgress: ((progress: LoadProgress) => void) | undefined,
  ) {
    this.#connection = connection
    this.#id = id
    // It is called for a message, and is to see the caller's AsyncLocalStorage.
    this.#onProgress = onProgress && AsyncResource.bind(onProgress)
  }

  end(error: unknown): void {
    this.#ended ??= { error }
    this.#connection.order({ order: 'abort', target: this.#id })
  }

  async run(
    named: SentName,
    options: SentLoadOptions,
    adapter: string | undefined,
  ): Promise<LoadedModel> {
    const model = this.#id
    const progress = this.#onProgress !== undefined
    const load = () => this.#connection.call({ method: 'load', model, ...named, options, progress })
    try {
      this.#goOn()
      const report = this.#report.bind(this)
      const { info } = await this.#connection.reporting(model, report, load)
      // Made in any case: without it the host would keep the model.
      const loaded = new LoadedModel(new RemoteModel(this.#connection, model, info))
      try {
        if (adapter !== undefined) await loaded.useAdapter(adapter)
        this.#goOn()
        return loaded
      } catch (error) {
        await loaded.dispose()
        throw error
      }
    } catch (error) {
      // An abort that came while the host loaded is what the caller wants to hear of.
      this.#goOn()
      throw error
    }
  }

  /** Throws where the loading was ended. */
  #goOn(): void {
    if (this.#ended !== undefined) throw this.#ended.error
  }

  #report(progress: LoadProgress): void {
    if (this.#ended !== undefined) return
    try {
      this.#onProgress?.(progress)
    } catch (error) {
      this.end(error)
    }
  }
}
