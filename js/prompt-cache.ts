import { resolve } from 'node:path'
import { unpacked } from './asar.js'
import { fromNative, invalidArgument, NodeMlxError } from './errors.js'
import type { NativePromptCache } from './native.js'
import type { PromptCache } from './types.js'
import { nonEmptyString, show } from './validate.js'

/** The prompt cache of a loaded model. */
export class HeldPromptCache implements PromptCache {
  readonly #native: NativePromptCache
  #disposed = false;
  // Defined below, because older versions of Node.js 20 have no such symbol.
  declare [Symbol.dispose]: () => void

  constructor(native: NativePromptCache) {
    this.#native = native
  }

  /** The number by which requests name it. */
  get id(): number {
    if (this.#disposed) throw gone()
    return this.#native.id()
  }

  async size(): Promise<{ tokens: number; bytes: number }> {
    const { tokens, bytes } = await this.#call((native) => native.size())
    return { tokens, bytes }
  }

  async save(path: string): Promise<void> {
    const absolute = unpacked(resolve(nonEmptyString(path, 'path')), 'IO_ERROR')
    await this.#call((native) => native.save(absolute))
  }

  dispose(): void {
    this.#disposed = true
    this.#native.dispose()
  }

  async #call<T>(method: (native: NativePromptCache) => Promise<T>): Promise<T> {
    if (this.#disposed) throw gone()
    try {
      return await method(this.#native)
    } catch (error) {
      throw fromNative(error)
    }
  }
}

// eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- see the field's comment
if (Symbol.dispose) {
  Object.defineProperty(HeldPromptCache.prototype, Symbol.dispose, {
    value: function (this: HeldPromptCache) {
      this.dispose()
    },
    configurable: true,
    writable: true,
  })
}

/** A prompt cache, and nothing that looks like one. */
export function promptCache(value: unknown, option: string): HeldPromptCache {
  if (value instanceof HeldPromptCache) return value
  throw invalidArgument(
    option,
    `expected what model.createPromptCache() or model.loadPromptCache() gives, got ${show(value)}`,
  )
}

function gone(): NodeMlxError {
  return new NodeMlxError('DISPOSED', 'the prompt cache has been disposed of')
}
