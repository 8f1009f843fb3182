import { parentPort } from 'node:worker_threads'
import { invalidArgument, NodeMlxError } from '../errors.js'
import { load, LoadedModel } from '../model.js'
import type { NativeAdapter, NativeBatch, NativeGeneration, NativePromptCache } from '../native.js'
import type { LoadModelOptions, Model } from '../types.js'
import { callback, fields } from '../validate.js'
import { openChannel, type Channel, type Port } from './channel.js'
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
   * the client one that is loaded already.
   */
  load?: ((model: string, options: LoadModelOptions) => Promise<Model>) | undefined
}

/** A host that serves a port. */
export interface Host {
  /** Ends the connection, and disposes of the client's models. */
  close(): Promise<void>
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

/** A generation, or why it could not begin. */
type Started = { native: NativeGeneration } | { error: unknown }

class Serving implements Host {
  readonly #channel: Channel
  readonly #load: NonNullable<ServeOptions['load']>
  readonly #loads = new Map<number, AbortController>()
  readonly #models = new Map<number, LoadedModel>()
  readonly #generations = new Map<number, Started>()
  readonly #caches = new Map<number, NativePromptCache>()
  readonly #adapters = new Map<number, NativeAdapter>()
  #closed: Promise<void> | undefined

  constructor(port: Port, loading: NonNullable<ServeOptions['load']>) {
    this.#load = loading
    this.#channel = openChannel(port, 'port', {
      onMessage: (message) => {
        this.#receive(message)
      },
      onEnd: () => {
        this.#closed ??= this.#end()
      },
    })
  }

  async close(): Promise<void> {
    this.#channel.close()
    await this.#closed
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
        this.#caches.set(call.cache, await this.#model(call.model).loadPromptCache(call.path))
        return undefined
      case 'clearPrefixCache':
        await this.#model(call.model).clearPrefixCache()
        return undefined
      case 'loadAdapter': {
        const adapter = await this.#model(call.model).loadAdapter(call.path)
        this.#adapters.set(call.adapter, adapter)
        return adapter.info()
      }
      case 'cacheSize': {
        const { tokens, bytes } = await this.#cache(call.cache).size()
        return { tokens, bytes }
      }
      case 'saveCache':
        await this.#cache(call.cache).save(call.path)
        return undefined
      case 'disposeModel':
        await this.#models.get(call.model)?.dispose()
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
          this.#caches.set(order.cache, this.#model(order.model).promptCache(order.limits))
        } catch {
          // Whoever uses it finds none.
        }
        return
      case 'abort':
        this.#abort(order.target)
        return
      case 'cancel':
        this.#models.get(order.model)?.native.cancel(order.evaluation)
        return
      case 'forget':
        this.#forget(order.target)
    }
  }

  #begin({ model, request }: Extract<Order, { order: 'generate' }>): Started {
    try {
      const { promptCache, ...others } = request
      const cached = promptCache === undefined ? {} : { promptCache: this.#cache(promptCache).id() }
      const native = this.#model(model).generate({ ...this.#adapted(others), ...cached })
      return { native }
    } catch (error) {
      return { error }
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
      return batch
    } catch (error) {
      this.#generations.delete(id)
      throw error
    }
  }

  async #loadModel(call: Extract<Call, { method: 'load' }>): Promise<Answers['load']> {
    const { model: id, name, options, progress } = call
    const controller = new AbortController()
    this.#loads.set(id, controller)
    try {
      const model = await this.#load(name, {
        ...options,
        signal: controller.signal,
        ...(progress
          ? {
              onProgress: (report) => {
                this.#channel.post({ nodemlx: true, kind: 'progress', model: id, progress: report })
              },
            }
          : {}),
      })
      if (!(model instanceof LoadedModel))
        throw invalidArgument('load', 'did not give a model of loadModel')
      if (controller.signal.aborted) {
        await model.dispose()
        throw new NodeMlxError('ABORTED', 'Loading the model was aborted')
      }
      this.#models.set(id, model)
      return { info: model.info }
    } finally {
      this.#loads.delete(id)
    }
  }

  #model(id: number): LoadedModel['native'] {
    const model = this.#models.get(id)
    if (model !== undefined) return model.native
    throw new NodeMlxError('DISPOSED', 'the model has been disposed of')
  }

  #cache(id: number): NativePromptCache {
    const cache = this.#caches.get(id)
    if (cache !== undefined) return cache
    throw invalidArgument('promptCache', 'has been disposed of, or belongs to another model')
  }

  #adapter(id: number): NativeAdapter {
    const adapter = this.#adapters.get(id)
    if (adapter !== undefined) return adapter
    throw invalidArgument('adapter', 'has been disposed of, or belongs to another model')
  }

  #abort(id: number): void {
    this.#loads.get(id)?.abort()
    const generation = this.#generations.get(id)
    if (generation !== undefined && 'native' in generation) generation.native.abort()
  }

  /** The client has no use for it any more. */
  #forget(id: number): void {
    this.#abort(id)
    this.#generations.delete(id)
    this.#caches.get(id)?.dispose()
    this.#caches.delete(id)
    this.#adapters.get(id)?.dispose()
    this.#adapters.delete(id)
    void this.#models
      .get(id)
      ?.dispose()
      .catch(() => undefined)
    this.#models.delete(id)
  }

  async #end(): Promise<void> {
    const all = [this.#loads, this.#generations, this.#caches, this.#adapters]
    const ids = all.flatMap((some) => [...some.keys()])
    for (const id of ids) this.#forget(id)
    const models = [...this.#models.values()]
    this.#models.clear()
    await Promise.allSettled(models.map((model) => model.dispose()))
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
