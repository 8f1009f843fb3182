import { codeOf, NodeMlxError } from './errors.js'
import type { ModelSource } from './model-sources.js'
import { unlessAborted } from './signal.js'
import type { Model } from './types.js'

/** A model that somebody uses, until it is given back. */
export interface Lease {
  readonly model: Model
  release(): void
  /** Has the model loaded anew for who asks next: its engine died. */
  discard(): void
}

/** How long models stay. */
export interface Keeping {
  /** The most bytes of weights that stay loaded. */
  memoryBytes: number
  /** After how long a model that nobody uses is unloaded. */
  idleMs: number
}

export interface ModelPoolOptions {
  sources: ReadonlyMap<string, ModelSource>
  keeping: Keeping
  /** The source of a name that `sources` lacks; throws where there is none. */
  other: (id: string) => ModelSource
  /**
   * What happens where a model does not fit beside those that are used: it waits for their users,
   * or is loaded all the same, where its user could be the one who holds them.
   */
  whenFull: 'wait' | 'load'
}

/** What is known of a model that may be asked for. */
export interface PooledModel {
  readonly id: string
  /** It is loaded. */
  readonly model: Model | undefined
  readonly loading: boolean
}

class Entry implements PooledModel {
  readonly id: string
  readonly source: ModelSource
  model: Model | undefined
  /** The load that everyone waits for who wants the model now. */
  pending: Promise<Model> | undefined
  users = 0
  lastUsed = 0
  timer: NodeJS.Timeout | undefined

  constructor(id: string, source: ModelSource) {
    this.id = id
    this.source = source
    this.model = source.given
  }

  get loading(): boolean {
    return this.pending !== undefined
  }

  /** A model of the caller's is the caller's to unload. */
  get isOwn(): boolean {
    return this.model !== undefined && this.source.given === undefined
  }

  get isIdle(): boolean {
    return this.isOwn && this.users === 0 && !this.loading
  }
}

/**
 * Models by their names. One is loaded when it is first asked for, once for all who ask, and
 * unloaded where another needs its room or nobody has used it for long; never while it is used.
 */
export class ModelPool {
  readonly #entries: Map<string, Entry>
  readonly #options: ModelPoolOptions
  #loads = new AbortController()
  /** Loads one at a time, so that two do not count on the same room. */
  #turn: Promise<unknown> = Promise.resolve()
  /** Memory is free only once these have ended. */
  readonly #unloads = new Set<Promise<void>>()
  #freed: (() => void)[] = []

  constructor(options: ModelPoolOptions) {
    this.#options = options
    this.#entries = new Map([...options.sources].map(([id, source]) => [id, new Entry(id, source)]))
  }

  get models(): PooledModel[] {
    return [...this.#entries.values()]
  }

  /** What is known of a model; throws where there is none of the name. */
  find(id: string): PooledModel {
    return this.#entries.get(id) ?? new Entry(id, this.#options.other(id))
  }

  /** Waits for a model. It stays at least until its lease is released. */
  async use(id: string, signal: AbortSignal | undefined): Promise<Lease> {
    signal?.throwIfAborted()
    const entry = this.#entries.get(id) ?? new Entry(id, this.#options.other(id))
    this.#entries.set(id, entry)
    // From now on, so that it is not unloaded between its load and its use.
    entry.users++
    clearTimeout(entry.timer)
    try {
      const model = await unlessAborted(this.#load(entry), signal)
      let released = false
      return {
        model,
        release: () => {
          if (released) return
          released = true
          this.#leave(entry)
        },
        discard: () => {
          if (entry.model === model && entry.isOwn) void this.#unload(entry)
        },
      }
    } catch (error) {
      this.#leave(entry)
      throw error
    }
  }

  /** Runs something with a model, which stays until that is done. */
  async with<T>(
    id: string,
    signal: AbortSignal | undefined,
    run: (model: Model) => Promise<T>,
  ): Promise<T> {
    const lease = await this.use(id, signal)
    try {
      return await run(lease.model)
    } catch (error) {
      if (codeOf(error) === 'ENGINE_FAILED') lease.discard()
      // Who aborts gets the signal's reason, as with fetch and the AI SDK's own functions.
      signal?.throwIfAborted()
      throw error
    } finally {
      lease.release()
    }
  }

  /** Ends loads, with a reason for those who wait, and unloads what was loaded here. */
  async dispose(reason: Error): Promise<void> {
    this.#loads.abort(reason)
    this.#loads = new AbortController()
    this.#wake()
    await this.#turn.catch(() => undefined)
    for (const entry of this.#entries.values()) {
      clearTimeout(entry.timer)
      if (entry.isOwn) void this.#unload(entry)
    }
    await Promise.all(this.#unloads)
  }

  #leave(entry: Entry): void {
    entry.users--
    if (entry.users > 0) return
    this.#wake()
    this.#rest(entry)
  }

  /** Has a model unloaded that nobody uses, unless somebody does soon. */
  #rest(entry: Entry): void {
    const { idleMs } = this.#options.keeping
    entry.lastUsed = performance.now()
    if (!entry.isIdle || !Number.isFinite(idleMs)) return
    entry.timer = setTimeout(() => {
      if (entry.isIdle) void this.#unload(entry)
    }, idleMs)
    // A model that nobody uses keeps no program running.
    entry.timer.unref()
  }

  /**
   * The load goes on where who asked for it has gone: who asks again after a timeout finds it
   * further on.
   */
  #load(entry: Entry): Promise<Model> {
    if (entry.model !== undefined) return Promise.resolve(entry.model)
    if (entry.pending !== undefined) return entry.pending
    const { signal } = this.#loads
    const pending = this.#turn
      .catch(() => undefined)
      .then(() => this.#loadNow(entry, signal))
      .finally(() => {
        entry.pending = undefined
        // Everyone who asked for it may have gone.
        this.#rest(entry)
      })
    entry.pending = pending
    this.#turn = pending
    pending.catch(() => undefined)
    return pending
  }

  async #loadNow(entry: Entry, signal: AbortSignal): Promise<Model> {
    signal.throwIfAborted()
    const { memoryBytes } = this.#options.keeping
    const bytes = Number.isFinite(memoryBytes) ? await entry.source.bytes() : 0
    if (bytes > memoryBytes) {
      throw new NodeMlxError(
        'INSUFFICIENT_MEMORY',
        `the model ${entry.id} takes ${bytes} bytes, ` +
          `and models may take ${memoryBytes} (memoryBytes)`,
      )
    }
    await this.#makeRoom(entry, memoryBytes - bytes, signal)
    for (;;) {
      signal.throwIfAborted()
      await Promise.all(this.#unloads)
      try {
        entry.model = await entry.source.load(signal)
        // What it takes is known only now where a function has loaded it.
        while (this.#loadedBytes() > memoryBytes && this.#unloadOldest());
        return entry.model
      } catch (error) {
        // What another model holds may be what is missing.
        if (codeOf(error) !== 'INSUFFICIENT_MEMORY' || !this.#unloadOldest()) throw error
      }
    }
  }

  /** Unloads what was not used for longest until no more than `bytes` are loaded. */
  async #makeRoom(entry: Entry, bytes: number, signal: AbortSignal): Promise<void> {
    while (this.#loadedBytes() > bytes) {
      signal.throwIfAborted()
      if (this.#unloadOldest()) continue
      const others = [...this.#entries.values()].some((other) => other !== entry && other.isOwn)
      // The caller's own models do not leave.
      if (this.#options.whenFull === 'load' || !others) return
      await new Promise<void>((resolve) => {
        this.#freed.push(resolve)
      })
    }
  }

  #wake(): void {
    for (const free of this.#freed.splice(0)) free()
  }

  #loadedBytes(): number {
    return this.models.reduce((sum, { model }) => sum + (model?.info.bytes ?? 0), 0)
  }

  /** Whether there was one that nobody uses. */
  #unloadOldest(): boolean {
    const [oldest] = [...this.#entries.values()]
      .filter((entry) => entry.isIdle)
      .sort((one, other) => one.lastUsed - other.lastUsed)
    if (oldest !== undefined) void this.#unload(oldest)
    return oldest !== undefined
  }

  async #unload(entry: Entry): Promise<void> {
    clearTimeout(entry.timer)
    const { model } = entry
    entry.model = undefined
    const unload = Promise.resolve(model?.dispose()).catch(() => undefined)
    this.#unloads.add(unload)
    await unload
    this.#unloads.delete(unload)
  }
}
