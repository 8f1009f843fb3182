import { codeOf, invalidArgument } from '../errors.js'
import { load } from '../model.js'
import { estimateModel } from '../models.js'
import { unlessAborted } from '../signal.js'
import type { LoadModelOptions, Model } from '../types.js'

/** A model that is used; it stays until it is released. */
export interface Lease {
  readonly model: Model
  release(): void
}

/** Where a model comes from: a name that `loadModel` takes, a model, or what loads one. */
export type ModelSource = string | Model | (() => Promise<Model>)

/** How models are loaded, and how long they stay. */
export interface PoolOptions {
  sources: ReadonlyMap<string, ModelSource>
  load: LoadModelOptions
  memoryBytes: number
  idleMs: number
}

interface Entry {
  model: Promise<Model>
  /** Bytes of its weights, as they are known or estimated. */
  bytes: number
  users: number
  lastUsed: number
  /** A model of the caller's is the caller's to dispose of. */
  given: boolean
  timer: NodeJS.Timeout | undefined
}

/**
 * Models by their names: loaded when they are first used, once for all, and disposed of when nobody
 * has used them for a while or another one needs their room; never while they are used.
 */
export class ModelPool {
  readonly #options: PoolOptions
  readonly #entries = new Map<string, Entry>()
  /** Room is made for one model at a time, so that two do not count on the same. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: PoolOptions) {
    this.#options = options
  }

  /** Waits for a model. The load goes on where the signal ends the waiting. */
  async use(id: string, signal: AbortSignal | undefined): Promise<Lease> {
    signal?.throwIfAborted()
    const entry = this.#entries.get(id) ?? this.#add(id)
    entry.users++
    clearTimeout(entry.timer)
    let released = false
    const release = (): void => {
      if (released) return
      released = true
      this.#leave(id, entry)
    }
    try {
      return { model: await unlessAborted(entry.model, signal), release }
    } catch (error) {
      release()
      throw error
    }
  }

  /** Disposes of all models that were loaded here. */
  async dispose(): Promise<void> {
    const entries = [...this.#entries.keys()]
    await Promise.all(entries.map((id) => this.#unload(id)))
  }

  #add(id: string): Entry {
    const source = this.#options.sources.get(id) ?? id
    const entry: Entry = {
      model: typeof source === 'object' ? Promise.resolve(source) : this.#load(id, source),
      bytes: 0,
      users: 0,
      lastUsed: 0,
      given: typeof source === 'object',
      timer: undefined,
    }
    this.#entries.set(id, entry)
    // The next one who asks may have more luck.
    entry.model.catch(() => {
      if (this.#entries.get(id) === entry) this.#entries.delete(id)
    })
    return entry
  }

  #load(id: string, source: string | (() => Promise<Model>)): Promise<Model> {
    const loading = this.#turn
      .catch(() => undefined)
      .then(async () => {
        const { load: options, memoryBytes } = this.#options
        const isLimited = Number.isFinite(memoryBytes)
        if (isLimited && typeof source === 'string')
          await this.#makeRoom(id, await estimatedBytes(source, options))
        const model = await this.#retrying(() =>
          typeof source === 'string' ? load(source, options) : source(),
        )
        const entry = this.#entries.get(id)
        if (entry !== undefined) entry.bytes = model.info.bytes
        // What a function loads is known only now.
        if (isLimited) await this.#unloadUntil(memoryBytes)
        return model
      })
    this.#turn = loading
    return loading
  }

  /** What another model holds may be what is missing. */
  async #retrying(load: () => Promise<Model>): Promise<Model> {
    for (;;) {
      try {
        return await load()
      } catch (error) {
        if (codeOf(error) !== 'INSUFFICIENT_MEMORY' || !(await this.#unloadOldest())) throw error
      }
    }
  }

  /** Unloads what was not used for longest until `bytes` fit, as far as models are not used. */
  async #makeRoom(id: string, bytes: number): Promise<void> {
    const { memoryBytes } = this.#options
    if (bytes > memoryBytes)
      throw invalidArgument(
        'memoryBytes',
        `the model ${id} takes ${bytes} bytes, and models may take ${memoryBytes}`,
      )
    await this.#unloadUntil(memoryBytes - bytes)
  }

  async #unloadUntil(bytes: number): Promise<void> {
    const taken = (): number =>
      [...this.#entries.values()].reduce((sum, entry) => sum + (entry.given ? 0 : entry.bytes), 0)
    while (taken() > bytes && (await this.#unloadOldest()));
  }

  async #unloadOldest(): Promise<boolean> {
    const [oldest] = [...this.#entries]
      .filter(([, { users, given, bytes }]) => users === 0 && !given && bytes > 0)
      .sort(([, one], [, other]) => one.lastUsed - other.lastUsed)
    if (oldest === undefined) return false
    await this.#unload(oldest[0])
    return true
  }

  #leave(id: string, entry: Entry): void {
    entry.users--
    entry.lastUsed = performance.now()
    const { idleMs } = this.#options
    if (entry.users > 0 || entry.given || this.#entries.get(id) !== entry) return
    if (!Number.isFinite(idleMs)) return
    entry.timer = setTimeout(() => void this.#unload(id), idleMs)
    // A model that nobody uses keeps no program running.
    entry.timer.unref()
  }

  async #unload(id: string): Promise<void> {
    const entry = this.#entries.get(id)
    if (entry === undefined) return
    this.#entries.delete(id)
    clearTimeout(entry.timer)
    if (entry.given) return
    const model = await entry.model.catch(() => undefined)
    await model?.dispose()
  }
}

async function estimatedBytes(model: string, options: LoadModelOptions): Promise<number> {
  const { revision, token, endpoint, cacheDir, offline, fetch, device } = options
  const hub = { revision, token, endpoint, cacheDir, offline, fetch, device }
  // Loading says better what is wrong.
  const estimate = await estimateModel(model, hub).catch(() => undefined)
  return estimate?.weightsBytes ?? 0
}
