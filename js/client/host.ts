import { parentPort } from 'node:worker_threads'
import { invalidArgument, NodeMlxError } from '../errors.js'
import { load, LoadedModel } from '../model.js'
import type { NativeAdapter, NativeBatch, NativeGeneration, NativePromptCache } from '../native.js'
import type { LoadModelOptions, LoadProgress, Model } from '../types.js'
import { callback, fields } from '../validate.js'
import { openChannel, type Channel, type Port } from './channel.js'
import { ModelShare } from './shared.js'
import {
  PROTOCOL,
  sendError,
  type Answers,
  type Call,
  type Message,
  type Order,
} from './protocol.js'

/** Options of `serve`. */
export interface ServeOptions {
  /**
   * Loads what the client asks for, in place of `loadModel`: to allow some models only, or to give
   * the client one that is loaded already. What is loaded for a client is disposed of when no
   * client uses it any more; a model that was there before stays.
   */
  load?: ((model: string, options: LoadModelOptions) => Promise<Model>) | undefined
}

/** A host that serves a port. */
export interface Host {
  /** Ends the connection, and disposes of the client's models. */
  close(): Promise<void>
  /** Settles when either side has ended the connection, and the client's models are gone. */
  readonly closed: Promise<void>
}

/**
 * Runs models for the client at the other end of a port, until that is closed.
 *
 * @param port - By default that to whoever started this worker thread or process.
 */
export function serve(port: Port = parent(), options?: ServeOptions): Host {
  const { load: loading = load } = fields(options, '', {
    load: callback<NonNullable<ServeOptions['load']>>(),
  })
  return new Serving(port, loading)
}

function parent(): Port {
  const { parentPort: electron } = process as { parentPort?: Port }
  const port = electron ?? parentPort ?? (process.send === undefined ? undefined : process)
  if (port !== undefined) return port
  throw invalidArgument('port', 'is missing: this is neither a worker thread nor a child process')
}

/** A generation of a model, or why it could not begin. */
type Started = { model: number } & ({ native: NativeGeneration } | { error: unknown })

/** A part of a model that a client holds by a number. */
interface Held<Part> {
  model: number
  part: Part
}

class Serving implements Host {
  readonly #channel: Channel
  readonly #load: NonNullable<ServeOptions['load']>
  readonly #loads = new Map<number, AbortController>()
  readonly #models = new Map<number, ModelShare>()
  readonly #generations = new Map<number, Started>()
  readonly #caches = new Map<number, Held<NativePromptCache>>()
  readonly #adapters = new Map<number, Held<NativeAdapter>>()
  readonly closed: Promise<void>

  constructor(port: Port, loading: NonNullable<ServeOptions['load']>) {
    this.#load = loading
    let ended: (end: Promise<void>) => void = () => undefined
    this.closed = new Promise((resolve) => {
      ended = resolve
    })
    this.#channel = openChannel(port, 'port', {
      onMessage: (message) => {
        this.#receive(message)
      },
      onEnd: () => {
        ended(this.#end())
      },
    })
  }

  close(): Promise<void> {
    this.#channel.close()
    return this.closed
  }

  #receive(message: Message): void {
    if (message.kind === 'order') this.#obey(message.order)
    else if (message.kind === 'call') void this.#answer(message.id, message.call)
  }

  async #answer(id: number, call: Call): Promise<void> {
    let answer: Message
    try {
      answer = { nodemlx: true, kind: 'answer', id, value: await this.#call(call) }
    } catch (error) {
      answer = { nodemlx: true, kind: 'failure', id, error: sendError(error) }
    }
    this.#channel.post(answer)
  }

  async #call(call: Call): Promise<Answers[keyof Answers]> {
    switch (call.method) {
      case 'hello':
        return hello(call)
      case 'load':
        return this.#loadModel(call)
      case 'next':
        return this.#next(call.generation)
      case 'tokenize':
        return this.#model(call.model).tokenize(call.prompt)
      case 'countTokens':
        return this.#model(call.model).countTokens(call.prompt)
      case 'detokenize':
        return this.#model(call.model).detokenize(call.tokens, call.skipSpecialTokens)
      case 'applyChatTemplate':
        return this.#model(call.model).applyChatTemplate(call.messages, call.options)
      case 'logits':
        return this.#model(call.model).logits(call.tokens)
      case 'score':
        return this.#model(call.model).score(this.#adapted(call.request))
      case 'embed':
        return this.#model(call.model).embed(this.#adapted(call.request))
      case 'judge':
        return this.#model(call.model).judge(this.#adapted(call.request))
      case 'loadPromptCache':
        await this.#loadPromptCache(call)
        return undefined
      case 'clearPrefixCache':
        await this.#model(call.model).clearPrefixCache()
        return undefined
      case 'loadAdapter': {
        const { model, adapter, path } = call
        const part = await this.#model(model).loadAdapter(path)
        this.#hold(this.#adapters, adapter, { model, part })
        return part.info()
      }
      case 'cacheSize': {
        const { tokens, bytes } = await this.#cache(call.cache).size()
        return { tokens, bytes }
      }
      case 'saveCache':
        await this.#cache(call.cache).save(call.path)
        return undefined
      case 'disposeModel':
        await this.#giveBack(call.model)
        return undefined
    }
  }

  #obey(order: Order): void {
    switch (order.order) {
      case 'generate':
        this.#generations.set(order.generation, this.#begin(order))
        return
      case 'promptCache':
        try {
          const { model, cache, limits } = order
          this.#caches.set(cache, { model, part: this.#model(model).promptCache(limits) })
        } catch {
          // Whoever uses it finds none.
        }
        return
      case 'abort':
        this.#abort(order.target)
        return
      case 'cancel':
        this.#models.get(order.model)?.model.native.cancel(order.evaluation)
        return
      case 'forget':
        this.#forget(order.target)
        return
      case 'bye':
        this.#channel.close()
    }
  }

  #begin({ model, request }: Extract<Order, { order: 'generate' }>): Started {
    try {
      const { promptCache, ...others } = request
      const cached = promptCache === undefined ? {} : { promptCache: this.#cache(promptCache).id() }
      const native = this.#model(model).generate({ ...this.#adapted(others), ...cached })
      return { model, native }
    } catch (error) {
      return { model, error }
    }
  }

  /** The same with this side's number of its adapter. */
  #adapted<Request extends { adapter?: number }>(request: Request): Request {
    const { adapter } = request
    return adapter === undefined ? request : { ...request, adapter: this.#adapter(adapter).id() }
  }

  async #next(id: number): Promise<NativeBatch> {
    const started = this.#generations.get(id)
    if (started === undefined) throw new NodeMlxError('INTERNAL_ERROR', 'there is no generation')
    try {
      if ('error' in started) throw started.error
      const batch = await started.native.next()
      if (batch.done !== undefined) this.#generations.delete(id)
      // Others may go on with the model.
      this.#model(started.model)
      return batch
    } catch (error) {
      this.#generations.delete(id)
      throw error
    }
  }

  async #loadModel(call: Extract<Call, { method: 'load' }>): Promise<Answers['load']> {
    const { model: id, options, progress } = call
    // Who loads by rules of its own knows names, and not the client's folders.
    const name = this.#load === load ? (call.path ?? call.name) : call.name
    const controller = new AbortController()
    this.#loads.set(id, controller)
    try {
      const onProgress = (report: LoadProgress): void => {
        this.#channel.post({ nodemlx: true, kind: 'progress', model: id, progress: report })
      }
      const share = await ModelShare.of(async () => {
        const model = await this.#load(name, {
          ...options,
          signal: controller.signal,
          ...(progress ? { onProgress } : {}),
        })
        if (model instanceof LoadedModel) return model
        throw invalidArgument('load', 'did not give a model of loadModel')
      })
      if (controller.signal.aborted) {
        await share.giveBack()
        throw new NodeMlxError('ABORTED', 'Loading the model was aborted')
      }
      this.#models.set(id, share)
      return { info: share.model.info }
    } finally {
      this.#loads.delete(id)
    }
  }

  #model(id: number): LoadedModel['native'] {
    const share = this.#models.get(id)
    if (share !== undefined) return share.model.native
    throw new NodeMlxError('DISPOSED', 'the model has been disposed of')
  }

  #cache(id: number): NativePromptCache {
    const cache = this.#caches.get(id)
    if (cache !== undefined) return this.#partOf(cache)
    throw invalidArgument('promptCache', 'has been disposed of, or belongs to another model')
  }

  #adapter(id: number): NativeAdapter {
    const adapter = this.#adapters.get(id)
    if (adapter !== undefined) return this.#partOf(adapter)
    throw invalidArgument('adapter', 'has been disposed of, or belongs to another model')
  }

  /** Throws where the model was disposed of. */
  #partOf<Part>({ model, part }: Held<Part>): Part {
    this.#model(model)
    return part
  }

  #abort(id: number): void {
    this.#loads.get(id)?.abort()
    const generation = this.#generations.get(id)
    if (generation !== undefined && 'native' in generation) generation.native.abort()
  }

  async #loadPromptCache({
    model,
    cache,
    path,
  }: Extract<Call, { method: 'loadPromptCache' }>): Promise<void> {
    const part = await this.#model(model).loadPromptCache(path)
    this.#hold(this.#caches, cache, { model, part })
  }

  /** Holds a part of a model, unless that was given back while the part was made. */
  #hold<Part extends { dispose: () => void }>(
    all: Map<number, Held<Part>>,
    id: number,
    held: Held<Part>,
  ): void {
    if (this.#models.has(held.model)) all.set(id, held)
    else held.part.dispose()
  }

  /** The client has no use for it any more. */
  #forget(id: number): void {
    this.#abort(id)
    this.#generations.delete(id)
    for (const all of [this.#caches, this.#adapters]) {
      const held = all.get(id)
      all.delete(id)
      if (held !== undefined && this.#models.has(held.model)) held.part.dispose()
    }
    this.#giveBack(id).catch(() => undefined)
  }

  /** Ends what the client does with a model, and disposes of it where nobody else uses it. */
  async #giveBack(id: number): Promise<void> {
    const share = this.#models.get(id)
    this.#models.delete(id)
    if (share === undefined) return
    for (const started of this.#generations.values())
      if (started.model === id && 'native' in started) started.native.abort()
    for (const { model, part } of [...this.#caches.values(), ...this.#adapters.values()])
      if (model === id) part.dispose()
    await share.giveBack()
  }

  async #end(): Promise<void> {
    const all = [this.#loads, this.#generations, this.#caches, this.#adapters]
    const ids = all.flatMap((some) => [...some.keys()])
    for (const id of ids) this.#forget(id)
    await Promise.allSettled([...this.#models.keys()].map((id) => this.#giveBack(id)))
  }
}

function hello({ protocol, probe }: Extract<Call, { method: 'hello' }>): Answers['hello'] {
  if (protocol !== PROTOCOL)
    throw new NodeMlxError(
      'UNSUPPORTED',
      'the two sides have different versions of nodemlx: install the same one for both',
    )
  if (!ArrayBuffer.isView(probe))
    throw new NodeMlxError(
      'UNSUPPORTED',
      "the channel cannot carry arrays of bytes: fork the host with { serialization: 'advanced' }",
    )
  return { protocol: PROTOCOL }
}
