import { invalidArgument } from './errors.js'
import { load, modelFolder } from './model.js'
import { estimateModel } from './models.js'
import { loadOptions } from './options.js'
import type { LoadModelOptions, Model } from './types.js'
import { isPlainObject, nonEmptyString } from './validate.js'

/** Where a model comes from that has some name in a program. */
export interface ModelSource {
  /** A model of the caller's, which nobody else unloads. */
  readonly given?: Model
  /** Gets what loading needs; missing where nobody knows how `load` gets it. */
  download?(signal: AbortSignal): Promise<unknown>
  load(signal: AbortSignal): Promise<Model>
  /** Bytes of its weights, as they are estimated before it is loaded; 0 where nothing is known. */
  bytes(): Promise<number>
}

/** How a model is named that is to be loaded. */
export interface LoadedModelOptions extends Omit<LoadModelOptions, 'signal'> {
  /** What `loadModel` takes. */
  model: string
}

/** What `loadModel` takes, that with options, a loaded model, or a function that loads one. */
export type NamedModel = string | LoadedModelOptions | Model | (() => Promise<Model>)

/** A model as `loadModel` takes it; where that is wrong, loading it says so. */
export function sourceOf(name: string, options: LoadModelOptions): ModelSource {
  const { revision, token, endpoint, cacheDir, offline, fetch, device } = options
  const hub = { revision, token, endpoint, cacheDir, offline, fetch, device }
  return {
    download: (signal) => modelFolder(name, { ...options, signal }),
    load: (signal) => load(name, { ...options, signal }),
    async bytes() {
      try {
        return (await estimateModel(name, hub)).weightsBytes
      } catch {
        return 0
      }
    },
  }
}

/**
 * Checks what a name stands for.
 *
 * @param where - The option's name, for errors.
 * @param defaults - Options of all models that are loaded by name.
 */
export function namedSource(
  value: unknown,
  where: string,
  defaults: LoadModelOptions,
): ModelSource {
  if (typeof value === 'string') return sourceOf(nonEmptyString(value, where), defaults)
  if (typeof value === 'function')
    return { load: value as () => Promise<Model>, bytes: () => Promise.resolve(0) }
  if (isModel(value))
    return { given: value, load: () => Promise.resolve(value), bytes: () => Promise.resolve(0) }
  if (!isPlainObject(value))
    throw invalidArgument(where, `expected a name, options with a model, or a model`)
  const { model, ...options } = value
  const name = nonEmptyString(model, `${where}.model`)
  return sourceOf(name, { ...defaults, ...loadOptions(options) })
}

function isModel(value: unknown): value is Model {
  return (
    typeof value === 'object' &&
    value !== null &&
    'generate' in value &&
    typeof value.generate === 'function' &&
    'info' in value
  )
}
