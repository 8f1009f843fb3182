import { invalidArgument } from './errors.js'
import type { NativeSpeculation } from './native.js'
import type { Model, SpeculationOptions } from './types.js'
import { boolean, fields, isPlainObject, nonEmptyString, number, show } from './validate.js'

/** A draft model: its name, or a loaded one, which says where it was loaded from. */
export function draftModel(value: unknown, option: string): Model | string {
  if (typeof value === 'string') return nonEmptyString(value, option)
  if (isLoaded(value)) return value
  throw invalidArgument(option, `expected a loaded model or the name of one, got ${show(value)}`)
}

function isLoaded(value: unknown): value is Model {
  return typeof (value as Partial<Model> | null | undefined)?.info?.path === 'string'
}

/** Whether and how a generation speculates. */
export function speculation(value: unknown, option: string): false | 'auto' | SpeculationOptions {
  if (value === false || value === 'auto') return value
  if (isPlainObject(value)) {
    return fields(value, option, { draftTokens: number, lookup: boolean })
  }
  throw invalidArgument(option, `expected false, 'auto' or an object, got ${show(value)}`)
}

/** The addon's form of it. */
export function nativeSpeculation(value: false | 'auto' | SpeculationOptions): NativeSpeculation {
  if (value === false) return { enabled: false }
  if (value === 'auto') return { enabled: true }
  const { draftTokens, lookup } = value
  return {
    enabled: true,
    ...(draftTokens === undefined ? {} : { draftTokens }),
    ...(lookup === undefined ? {} : { lookup }),
  }
}
