import { invalidArgument } from '../errors.js'
import { load } from '../model.js'
import { estimateModel } from '../models.js'
import { loadOptions } from '../options.js'
import type { LoadModelOptions, Model } from '../types.js'
import { isPlainObject, nonEmptyString, show } from '../validate.js'

/** Where a model comes from that is served under some name. */
export interface ModelSource {
  /** A model of the caller's, which the server never unloads. */
  readonly given?: Model
  load(signal: AbortSignal): Promise<Model>
  /** Bytes of its weights, as they are estimated before it is loaded; 0 where nothing is known. */
  bytes(): Promise<number>
}

/** How a model is named that is to be loaded. */
export interface LoadedModelOptions extends Omit<LoadModelOptions, 'signal'> {
  /** What `loadModel` takes. */
  model: string
}

/**
 * What may be served: names that `loadModel` takes; or by the names under which they are served,
 * such names with options, models that are loaded already, or functions that load one.
 */
export type Models =
  | readonly string[]
  | Readonly<Record<string, string | LoadedModelOptions | Model | (() => Promise<Model>)>>

/** The sources of models by the names under which they are served. */
export function modelSources(models: unknown): ReadonlyMap<string, ModelSource> {
  const entries = Array.isArray(models)
    ? models.map((name, index) => [nonEmptyString(name, `models[${index}]`), name] as const)
    : isPlainObject(models)
      ? Object.entries(models)
      : undefined
  if (entries === undefined || entries.length === 0) {
    const got = entries === undefined ? show(models) : 'none'
    throw invalidArgument('models', `expected an array of names, or an object by name, got ${got}`)
  }
  return new Map(entries.map(([id, value]) => [id, source(value, `models.${id}`)]))
}

function source(value: unknown, where: string): ModelSource {
  if (typeof value === 'string') return named(nonEmptyString(value, where), {})
  if (typeof value === 'function')
    return { load: value as () => Promise<Model>, bytes: () => Promise.resolve(0) }
  if (isModel(value))
    return { given: value, load: () => Promise.resolve(value), bytes: () => Promise.resolve(0) }
  if (!isPlainObject(value))
    throw invalidArgument(where, `expected a name, options with a model, or a model`)
  const { model, ...options } = value
  return named(nonEmptyString(model, `${where}.model`), loadOptions(options))
}

function named(name: string, options: LoadModelOptions): ModelSource {
  const { revision, token, endpoint, cacheDir, offline, fetch, device } = options
  const hub = { revision, token, endpoint, cacheDir, offline, fetch, device }
  return {
    load: (signal) => load(name, { ...options, signal }),
    async bytes() {
      try {
        return (await estimateModel(name, hub)).weightsBytes
      } catch {
        // Loading it says better what is wrong.
        return 0
      }
    },
  }
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
