import { codeOf } from '../errors.js'
import { unlessAborted } from '../signal.js'
import type { Model } from '../types.js'
import { Failure } from './failure.js'
import type { ModelSource } from './sources.js'

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

/** What is known of a model that may be asked for. */
export interface ServedModel {
  readonly id: string
  /** It is loaded. */
  readonly model: Model | undefined
  readonly loading: boolean
}

class Entry implements ServedModel {
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
    if (source.given !== undefined) this.model = source.given
  }

  get loading(): boolean {
    return this.pending !== undefined
  }

  /** A model of the caller's is the caller's to unload. */
  get isIdle(): boolean {
    return this.model !== undefined && this.users === 0 && this.source.given === undefined
  }
}

/**
 * The models by their names. One is loaded when it is first asked for, once for all who ask, and
 * unloaded where another needs its room or nobody has used it for long; never while it is used.
 */
export class ModelRegistry {
  readonly #entries: ReadonlyMap<string, Entry>
  readonly #keeping: Keeping
  readonly #closing = new AbortController()
  /** Loads one at a time, so that two do not count on the same room. */
  #turn: Promise<unknown> = Promise.resolve()
  #freed: (() => void)[] = []

  constructor(sources: ReadonlyMap<string, ModelSource>, keeping: Keeping) {
    this.#entries = new Map([...sources].map(([id, source]) => [id, new Entry(id, source)]))
    this.#keeping = keeping
  }

  get models(): ServedModel[] {
    return [...this.#entries.values()]
  }

  /** Refuses the name of a model that is not served. */
  find(id: string): ServedModel {
    return this.#entry(id)
  }

  /** Waits for a model. It stays at least until its lease is released. */
  async use(id: string, signal: AbortSignal): Promise<Lease> {
    const entry = this.#entry(id)
    // From now on, so that it is not unloaded between its load and its use.
    this.#enter(entry)
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
          if (entry.model !== model || entry.source.given !== undefined) return
          entry.model = undefined
          void model.dispose().catch(() => undefined)
        },
      }
    } catch (error) {
      this.#leave(entry)
      throw error
    }
  }

  /** Ends loads and unloads what was loaded here. */
  async close(): Promise<void> {
    this.#closing.abort(new Failure('unavailable', 'the server is stopping'))
    for (const free of this.#freed.splice(0)) free()
    await this.#turn.catch(() => undefined)
    await Promise.all(
      [...this.#entries.values()].map(async (entry) => {
        clearTimeout(entry.timer)
        if (entry.source.given === undefined) await this.#unload(entry)
      }),
    )
  }

  #entry(id: string): Entry {
    const entry = this.#entries.get(id)
    if (entry !== undefined) return entry
    const names = [...this.#entries.keys()].slice(0, 20).join(', ')
    throw new Failure('not-found', `there is no model ${JSON.stringify(id)}; there are ${names}`, {
      param: 'model',
      code: 'model_not_found',
    })
  }

  #enter(entry: Entry): void {
    entry.users++
    clearTimeout(entry.timer)
  }

  #leave(entry: Entry): void {
    entry.users--
    if (entry.users > 0) return
    entry.lastUsed = Date.now()
    for (const free of this.#freed.splice(0)) free()
    if (!entry.isIdle || !Number.isFinite(this.#keeping.idleMs)) return
    entry.timer = setTimeout(() => {
      if (entry.isIdle) void this.#unload(entry)
    }, this.#keeping.idleMs)
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
    const pending = this.#turn
      .catch(() => undefined)
      .then(() => this.#loadNow(entry))
      .finally(() => {
        entry.pending = undefined
      })
    entry.pending = pending
    this.#turn = pending
    pending.catch(() => undefined)
    return pending
  }

  async #loadNow(entry: Entry): Promise<Model> {
    const { source } = entry
    const bytes = Number.isFinite(this.#keeping.memoryBytes) ? await source.bytes() : 0
    if (bytes > this.#keeping.memoryBytes) {
      throw new Failure(
        'unavailable',
        `the model ${entry.id} takes ${bytes} bytes, and models may take ${this.#keeping.memoryBytes}`,
      )
    }
    await this.#makeRoom(entry, () => this.#loadedBytes() + bytes <= this.#keeping.memoryBytes)
    for (;;) {
      this.#closing.signal.throwIfAborted()
      try {
        const model = await source.load(this.#closing.signal)
        entry.model = model
        // What it takes is known only now where a function has loaded it.
        while (this.#loadedBytes() > this.#keeping.memoryBytes && (await this.#unloadOldest()));
        return model
      } catch (error) {
        // What another model holds may be what is missing.
        if (codeOf(error) !== 'INSUFFICIENT_MEMORY' || !(await this.#unloadOldest())) throw error
      }
    }
  }

  /** Unloads what was not used for longest until it fits; waits where all are used. */
  async #makeRoom(entry: Entry, fits: () => boolean): Promise<void> {
    while (!fits()) {
      this.#closing.signal.throwIfAborted()
      if (await this.#unloadOldest()) continue
      const others = [...this.#entries.values()].some(
        (other) =>
          other !== entry &&
          other.model !== undefined &&
          other.users > 0 &&
          other.source.given === undefined,
      )
      // The caller's own models do not leave.
      if (!others) return
      await new Promise<void>((resolve) => {
        this.#freed.push(resolve)
      })
    }
  }

  #loadedBytes(): number {
    return [...this.#entries.values()].reduce((sum, { model }) => sum + (model?.info.bytes ?? 0), 0)
  }

  async #unloadOldest(): Promise<boolean> {
    const [oldest] = [...this.#entries.values()]
      .filter((entry) => entry.isIdle)
      .sort((one, other) => one.lastUsed - other.lastUsed)
    if (oldest === undefined) return false
    await this.#unload(oldest)
    return true
  }

  async #unload(entry: Entry): Promise<void> {
    clearTimeout(entry.timer)
    const { model } = entry
    entry.model = undefined
    await model?.dispose().catch(() => undefined)
  }
}
