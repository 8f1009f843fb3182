import type { Conversation } from './conversation.js'

const STORE = 'conversations'

/** The conversations, in this browser alone. */
export class Storage {
  readonly #database: IDBDatabase | undefined
  /** Where the browser keeps nothing (a private window), until the page is left. */
  readonly #memory = new Map<string, Conversation>()

  private constructor(database: IDBDatabase | undefined) {
    this.#database = database
  }

  static async open(): Promise<Storage> {
    try {
      const opening = indexedDB.open('nodemlx', 1)
      opening.onupgradeneeded = () => {
        opening.result.createObjectStore(STORE, { keyPath: 'id' })
      }
      return new Storage(await done(opening))
    } catch {
      return new Storage(undefined)
    }
  }

  /** All of them, the latest first. */
  async all(): Promise<Conversation[]> {
    const found =
      this.#database === undefined
        ? [...this.#memory.values()]
        : await done(this.#store('readonly').getAll() as IDBRequest<Conversation[]>)
    return found.sort((one, other) => other.updated - one.updated)
  }

  async get(id: string): Promise<Conversation | undefined> {
    if (this.#database === undefined) return this.#memory.get(id)
    return await done(this.#store('readonly').get(id) as IDBRequest<Conversation | undefined>)
  }

  /**
   * Keeps a conversation. Turns that other tabs have kept of it stay.
   *
   * @param own - The turns that were written here, and are newer than what was kept of them.
   */
  async put(conversation: Conversation, own: ReadonlySet<string>): Promise<void> {
    if (this.#database === undefined) {
      this.#memory.set(conversation.id, conversation)
      return
    }
    const all = structuredClone(conversation)
    const store = this.#store('readwrite')
    const kept = await done(store.get(all.id) as IDBRequest<Conversation | undefined>)
    if (kept !== undefined) {
      const ours = Object.entries(all.turns).filter(([id]) => own.has(id) || !(id in kept.turns))
      all.turns = { ...kept.turns, ...Object.fromEntries(ours) }
    }
    await done(store.put(all))
  }

  async delete(id: string): Promise<void> {
    if (this.#database === undefined) this.#memory.delete(id)
    else await done(this.#store('readwrite').delete(id))
  }

  #store(mode: IDBTransactionMode): IDBObjectStore {
    if (this.#database === undefined) throw new Error('there is no database')
    return this.#database.transaction(STORE, mode).objectStore(STORE)
  }
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => {
      resolve(request.result)
    }
    request.onerror = () => {
      reject(request.error ?? new Error('the database failed'))
    }
  })
}

/** A setting that stays in this browser. */
export function setting(name: string): string | undefined {
  try {
    return localStorage.getItem(`nodemlx-${name}`) ?? undefined
  } catch {
    return undefined
  }
}

export function keepSetting(name: string, value: string): void {
  try {
    if (value === '') localStorage.removeItem(`nodemlx-${name}`)
    else localStorage.setItem(`nodemlx-${name}`, value)
  } catch {
    // It holds until the page is left.
  }
}
