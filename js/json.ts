import { invalidArgument } from './errors.js'
import { isPlainObject, show, string } from './validate.js'

/** Deeper values are taken for a mistake, such as a `toJSON` without end. */
const DEEPEST = 300

/**
 * JSON for the addon. `JSON.stringify` alone would silently turn NaN into null, maps into `{}` and
 * leave functions out; here these are errors that say where the value is.
 */
export function toJson(value: unknown, where: string): string {
  return JSON.stringify(plain(value, where, []))
}

/** @param around - The objects and arrays that the value is in. */
function plain(value: unknown, where: string, around: readonly unknown[]): unknown {
  if (around.length > DEEPEST)
    throw invalidArgument(where, `is nested more than ${DEEPEST} deep, or contains itself`)
  if (typeof value === 'string') return string(value, where)
  if (value === null || value === undefined || typeof value === 'boolean') return value
  if (typeof value === 'number' && Number.isFinite(value)) return value
  if (around.includes(value)) throw invalidArgument(where, 'contains itself')
  const inside = [...around, value]
  if (Array.isArray(value)) {
    return Array.from(value, (item: unknown, index) =>
      plain(item ?? null, `${where}[${index}]`, inside),
    )
  }
  if (hasToJson(value)) return plain(value.toJSON(), where, inside)
  if (!isPlainObject(value)) {
    throw invalidArgument(where, `cannot be written as JSON: ${show(value)}`)
  }
  // Without a prototype, so that a key "__proto__" is a key.
  const copy = Object.create(null) as Record<string, unknown>
  for (const [key, item] of Object.entries(value)) {
    copy[string(key, where)] = plain(item, `${where}.${key}`, inside)
  }
  return copy
}

/** Such as dates and URLs. */
function hasToJson(value: unknown): value is { toJSON: () => unknown } {
  return (
    typeof value === 'object' &&
    value !== null &&
    'toJSON' in value &&
    typeof value.toJSON === 'function'
  )
}
