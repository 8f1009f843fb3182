import { fromNative, invalidArgument, NodeMlxError } from './errors.js'
import type { NativeAdapter } from './native.js'
import type { Adapter, AdapterInfo } from './types.js'
import { show } from './validate.js'

/** An adapter of a loaded model. */
export class LoadedAdapter implements Adapter {
  readonly info: AdapterInfo
  readonly #native: NativeAdapter
  #disposed = false;
  // Defined below, because older versions of Node.js 20 have no such symbol.
  declare [Symbol.dispose]: () => void

  constructor(native: NativeAdapter) {
    this.#native = native
    this.info = Object.freeze(native.info())
  }

  /** The number by which requests name it. */
  get id(): number {
    if (this.#disposed) throw new NodeMlxError('DISPOSED', 'the adapter has been disposed of')
    return this.#native.id()
  }

  dispose(): void {
    this.#disposed = true
    try {
      this.#native.dispose()
    } catch (error) {
      throw fromNative(error)
    }
  }
}

// eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- see the field's comment
if (Symbol.dispose) {
  Object.defineProperty(LoadedAdapter.prototype, Symbol.dispose, {
    value: function (this: LoadedAdapter) {
      this.dispose()
    },
    configurable: true,
    writable: true,
  })
}

/** An adapter and nothing that looks like one, or `null` for none. */
export function adapter(value: unknown, option: string): LoadedAdapter | null {
  if (value === null || value instanceof LoadedAdapter) return value
  throw invalidArgument(
    option,
    `expected what model.loadAdapter() gives, or null, got ${show(value)}`,
  )
}

/** What an order says of the adapter. */
export function adapterPart(options: { adapter?: unknown }): { adapter?: number } {
  const used = adapter(options.adapter ?? null, 'adapter')
  return used === null ? {} : { adapter: used.id }
}
