import { codeOf, NodeMlxError } from './errors.js'
import type { ModelSource } from './model-sources.js'
import { unlessAborted } from './signal.js'
import type { Model } from './types.js'

/** A model that somebody uses, until it is given back. */
export interface Lease {
  readonly model: Model
  release(): void
  /**
   * Has the model loaded anew for who asks next, where an error says that it is dead.
   *
   * @returns Whether asking again is of use.
   */
  discardDead(error: unknown): boolean
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

/** The model's engine or its host died, or others have disposed of it. */
const DEAD = new Set<unknown>(['ENGINE_FAILED', 'HOST_GONE', 'DISPOSED'])

class Entry implements PooledModel {
  readonly id: string
  readonly source: ModelSource
  model: Model | undefined
  /** The load that everyone waits for who wants the model now. */
  pending: Promise<Model> | undefined
  /** The room that a load counts on which is under way. */
  reserved: number | undefined
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

  get bytes(): number {
    return this.model?.info.bytes ?? this.reserved ?? 0
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
  /** Models of names are loaded one at a time, so that two do not count on the same memory. */
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
        discardDead: (error) => {
          if (!DEAD.has(codeOf(error)) || entry.source.given !== undefined) return false
          if (entry.model === model) void this.#unload(entry)
          // A request that has killed an engine would do so again.
          return codeOf(error) !== 'ENGINE_FAILED'
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
    const { lease, value } = await this.start(id, signal, (lease) => run(lease.model))
    lease.release()
    return value
  }

  /**
   * Starts something with a model, which stays until its lease is released. Where the model has died
   * since it was last used, as one does whose host has crashed, that is tried with a new one.
   */
  async start<T>(
    id: string,
    signal: AbortSignal | undefined,
    start: (lease: Lease) => T | Promise<T>,
  ): Promise<{ lease: Lease; value: T }> {
    for (let isFirst = true; ; isFirst = false) {
      const lease = await this.use(id, signal)
      try {
        return { lease, value: await start(lease) }
      } catch (error) {
        const again = lease.discardDead(error)
        lease.release()
        // Who aborts gets the signal's reason, as with fetch and the AI SDK's own functions.
        signal?.throwIfAborted()
        if (!again || !isFirst) throw error
      }
    }
  }

  /** Ends loads, with a reason for those who wait, and unloads what was loaded here. */
  async dispose(reason: Error): Promise<void> {
    this.#loads.abort(reason)
    this.#loads = new AbortController()
    this.#wake()
    await Promise.allSettled([...this.#entries.values()].flatMap(({ pending }) => pending ?? []))
    await this.#turn
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
   * A load that is under way goes on where who asked for it has gone: who asks again after a timeout
   * finds it further on.
   */
  #load(entry: Entry): Promise<Model> {
    if (entry.model !== undefined) return Promise.resolve(entry.model)
    if (entry.pending !== undefined) return entry.pending
    const { signal } = this.#loads
    const pending = unlessAborted(this.#loadNow(entry, signal), signal).finally(() => {
      if (entry.pending === pending) entry.pending = undefined
      this.#wake()
      // Everyone who asked for it may have gone.
      this.#rest(entry)
    })
    entry.pending = pending
    pending.catch(() => undefined)
    return pending
  }

  async #loadNow(entry: Entry, signal: AbortSignal): Promise<Model> {
    const { source } = entry
    const { memoryBytes } = this.#options.keeping
    const bytes = Number.isFinite(memoryBytes) ? await source.bytes() : 0
    if (bytes > memoryBytes) {
      throw new NodeMlxError(
        'INSUFFICIENT_MEMORY',
        `the model ${entry.id} takes ${bytes} bytes, ` +
          `and models may take ${memoryBytes} (memoryBytes)`,
      )
    }
    // Others need not wait for a download, nor for a function that may take as long as it likes.
    await this.#unloadingOthers(async () => source.download?.(signal))
    for (;;) {
      await this.#room(entry, bytes, signal)
      const load = () => this.#loadWhereRoom(entry, bytes, signal)
      const model = await (source.download === undefined ? load() : this.#inTurn(load))
      if (model !== undefined) return model
    }
  }

  /** Loads a model, unless another took its room meanwhile. */
  async #loadWhereRoom(
    entry: Entry,
    bytes: number,
    signal: AbortSignal,
  ): Promise<Model | undefined> {
    signal.throwIfAborted()
    this.#throwWhereUnwanted(entry)
    if (!this.#makeRoom(entry, bytes)) return undefined
    entry.reserved = bytes
    try {
      const model = await this.#unloadingOthers(async () => {
        await Promise.all(this.#unloads)
        return unlessAborted(loadedFor(entry.source, signal), signal)
      })
      entry.model = model
      // What it takes is known only now where a function has loaded it.
      while (this.#loadedBytes() > this.#options.keeping.memoryBytes && this.#unloadOldest());
      return model
    } finally {
      entry.reserved = undefined
    }
  }

  /** Tries something again as long as another model's memory may be what it lacks. */
  async #unloadingOthers<T>(run: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await run()
      } catch (error) {
        if (codeOf(error) !== 'INSUFFICIENT_MEMORY' || !this.#unloadOldest()) throw error
        await Promise.all(this.#unloads)
      }
    }
  }

  async #inTurn<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(run)
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  /** Waits until there is room, as long as somebody wants the model. */
  async #room(entry: Entry, bytes: number, signal: AbortSignal): Promise<void> {
    while (!this.#makeRoom(entry, bytes)) {
      await new Promise<void>((resolve) => {
        this.#freed.push(resolve)
      })
      signal.throwIfAborted()
      this.#throwWhereUnwanted(entry)
    }
  }

  #throwWhereUnwanted(entry: Entry): void {
    if (entry.users > 0) return
    // Who comes from now on has it loaded anew.
    entry.pending = undefined
    throw new NodeMlxError('ABORTED', `nobody waits for the model ${entry.id} any more`)
  }

  /** Unloads what was not used for longest, where that makes the room that a model takes. */
  #makeRoom(entry: Entry, bytes: number): boolean {
    const most = this.#options.keeping.memoryBytes - bytes
    const others = [...this.#entries.values()].filter((other) => other !== entry)
    const sum = (some: readonly Entry[]): number => some.reduce((all, { bytes }) => all + bytes, 0)
    const used = others.filter(({ isIdle }) => !isIdle)
    // The caller's own models do not leave.
    const leaves = used.some(({ isOwn, reserved }) => isOwn || reserved !== undefined)
    if (sum(used) > most && this.#options.whenFull === 'wait' && leaves) return false
    while (sum(others) > most && this.#unloadOldest());
    return true
  }

  #wake(): void {
    for (const free of this.#freed.splice(0)) free()
  }

  #loadedBytes(): number {
    return [...this.#entries.values()].reduce((sum, { bytes }) => sum + bytes, 0)
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

/** Loads a model; one that comes when its signal has been aborted goes at once. */
async function loadedFor(source: ModelSource, signal: AbortSignal): Promise<Model> {
  const model = await source.load(signal)
  if (signal.aborted) await Promise.resolve(model.dispose()).catch(() => undefined)
  return model
}
