import { NodeMlxError } from '../errors.js'
import { closest, isPlainObject, show, type Check, type Checked, type Fields } from '../validate.js'
import { Failure, invalidField } from './failure.js'

/** How an API refuses a field that it does not know. */
export type Unknown = (path: string, hint: string) => string

/**
 * Checks an object of a request. A field that is `null` counts as left out, as in these APIs.
 *
 * @param where - The object's name, which goes before a field's in errors; empty for the body.
 */
export function readFields<F extends Fields>(
  value: unknown,
  where: string,
  known: F,
  unknown: Unknown,
): Checked<F> {
  if (!isPlainObject(value)) {
    throw new Failure('invalid', `${where || 'body'}: expected an object, got ${show(value)}`, {
      param: where || undefined,
    })
  }
  const checked: Record<string, unknown> = {}
  for (const [name, item] of Object.entries(value)) {
    const path = where === '' ? name : `${where}.${name}`
    const check = Object.hasOwn(known, name) ? known[name] : undefined
    if (check === undefined) {
      const near = closest(name, Object.keys(known))
      throw new Failure('invalid', unknown(path, near ? `; did you mean ${near}?` : ''), {
        param: path,
        code: 'unknown_parameter',
      })
    }
    if (item !== null && item !== undefined) checked[name] = checkField(check, item, path)
  }
  return checked as Checked<F>
}

function checkField(check: Check<unknown>, value: unknown, path: string): unknown {
  try {
    return check(value, path)
  } catch (error) {
    if (error instanceof NodeMlxError && error.option !== undefined)
      throw invalidField(error.option, error.message)
    throw error
  }
}

/** Anything: a hint that changes nothing here, such as the name of a user. */
export const anything: Check<unknown> = (value) => value

/** Only values that ask for nothing; the message says why others are refused. */
export function only(values: readonly unknown[], why: string): Check<unknown> {
  return (value, path) => {
    const isOne = values.some((allowed) => JSON.stringify(allowed) === JSON.stringify(value))
    if (!isOne) throw invalidField(path, `${path}: ${why}`)
    return value
  }
}

/** An object whose fields are for others to judge. */
export const record: Check<Record<string, unknown>> = (value, path) => {
  if (isPlainObject(value)) return value
  throw invalidField(path, `${path}: expected an object, got ${show(value)}`)
}

/** An array of objects. */
export const records: Check<Record<string, unknown>[]> = (value, path) => {
  if (!Array.isArray(value))
    throw invalidField(path, `${path}: expected an array, got ${show(value)}`)
  return value.map((item, index) => record(item, `${path}[${index}]`))
}

/** A field that has to be there. */
export function required<T>(value: T | undefined, name: string): T {
  if (value !== undefined) return value
  throw new Failure('invalid', `you must provide ${name}`, {
    param: name,
    code: 'missing_required_parameter',
  })
}
