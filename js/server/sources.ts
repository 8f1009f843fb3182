import { invalidArgument } from '../errors.js'
import { namedSource, type ModelSource, type NamedModel } from '../model-sources.js'
import { isPlainObject, nonEmptyString, show } from '../validate.js'

/**
 * What may be served: names that `loadModel` takes; or by the names under which they are served,
 * such names with options, models that are loaded already, or functions that load one.
 */
export type Models = readonly string[] | Readonly<Record<string, NamedModel>>

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
  return new Map(entries.map(([id, value]) => [id, namedSource(value, `models.${id}`, {})]))
}
