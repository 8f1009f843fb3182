import { invalidArgument } from './errors.js'

/** How a value is shown in an error: short, with its type where the value alone does not say it. */
export function show(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value)
    case 'number':
    case 'boolean':
    case 'undefined':
      return String(value)
    case 'bigint':
      return `${value}n (a bigint)`
    case 'function':
      return 'a function'
    case 'symbol':
      return 'a symbol'
    case 'object':
      if (value === null) return 'null'
      if (Array.isArray(value)) return value.length === 0 ? 'an empty array' : 'an array'
      return `an object${className(value)}`
  }
}

function className(value: object): string {
  const name = (value as { constructor?: { name?: unknown } }).constructor?.name
  return typeof name === 'string' && name !== '' && name !== 'Object' ? ` (${name})` : ''
}

/**
 * A plain object, and not an array, a map or an instance of some class that only looks like one.
 */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  // Objects of another realm (vm, jest) have another Object.prototype, whose own prototype is null.
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

/** A checked value, or `undefined` where the option was left out. */
export type Check<T> = (value: unknown, option: string) => T

/** A number; which ones fit is for the addon to say. */
export const number: Check<number> = (value, option) => {
  if (typeof value === 'number') return value
  throw invalidArgument(option, `expected a number, got ${show(value)}`)
}

/** A whole number in a range, for what the addon never sees. */
export function integer(min: number, max: number): Check<number> {
  return (value, option) => {
    if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max)
      return value as number
    throw invalidArgument(
      option,
      `expected a whole number from ${min} to ${max}, got ${show(value)}`,
    )
  }
}

export const boolean: Check<boolean> = (value, option) => {
  if (typeof value === 'boolean') return value
  throw invalidArgument(option, `expected true or false, got ${show(value)}`)
}

/**
 * A string of whole characters. A lone surrogate has no UTF-8 form, and would silently become
 * another character.
 */
export const string: Check<string> = (value, option) => {
  if (typeof value !== 'string')
    throw invalidArgument(option, `expected a string, got ${show(value)}`)
  const at = loneSurrogate(value)
  if (at !== -1)
    throw invalidArgument(
      option,
      `is not well-formed text: a lone surrogate (half of a character) at position ${at}`,
    )
  return value
}

export const nonEmptyString: Check<string> = (value, option) => {
  const text = string(value, option)
  if (text === '') throw invalidArgument(option, 'is empty')
  return text
}

function loneSurrogate(text: string): number {
  return text.search(/\p{Surrogate}/u)
}

/** One of some words. */
export function oneOf<const T extends string | number>(...choices: T[]): Check<T> {
  return (value, option) => {
    if (choices.includes(value as T)) return value as T
    const list = choices
      .map((choice) => (typeof choice === 'string' ? `'${choice}'` : String(choice)))
      .join(', ')
    const words = choices.filter((choice) => typeof choice === 'string')
    const near = typeof value === 'string' ? closest(value, words) : undefined
    throw invalidArgument(
      option,
      `expected one of ${list}, got ${show(value)}${near === undefined ? '' : `; did you mean '${near}'?`}`,
    )
  }
}

/** A function; what it takes and gives cannot be seen. */
export function callback<F extends (...args: never[]) => unknown>(): Check<F> {
  return (value, option) => {
    if (typeof value === 'function') return value as F
    throw invalidArgument(option, `expected a function, got ${show(value)}`)
  }
}

/** An AbortSignal, of this realm or another, or a polyfill's. */
export const abortSignal: Check<AbortSignal> = (value, option) => {
  if (
    typeof value === 'object' &&
    value !== null &&
    'aborted' in value &&
    typeof value.aborted === 'boolean' &&
    'addEventListener' in value &&
    typeof value.addEventListener === 'function'
  ) {
    return value as AbortSignal
  }
  const hint = value instanceof AbortController ? "; pass the controller's .signal" : ''
  throw invalidArgument(option, `expected an AbortSignal, got ${show(value)}${hint}`)
}

/** An array whose items pass a check. */
export function arrayOf<T>(check: Check<T>, expected: string): Check<T[]> {
  return (value, option) => {
    if (!Array.isArray(value))
      throw invalidArgument(option, `expected ${expected}, got ${show(value)}`)
    return Array.from(value, (item: unknown, index) => check(item, `${option}[${index}]`))
  }
}

/** For each of an object's fields, how it is checked. */
export type Fields = Record<string, Check<unknown>>

/** The values that {@link fields} gives: what was left out is not there. */
export type Checked<F extends Fields> = { [K in keyof F]?: ReturnType<F[K]> }

/**
 * Checks an object of options. Fields that are `undefined` count as left out; names that are not in
 * `known` are refused, with the name that was probably meant.
 *
 * @param where - The name of the object, which goes before a field's in errors; empty for the options themselves.
 * @param synonyms - What others call our options.
 */
export function fields<F extends Fields>(
  value: unknown,
  where: string,
  known: F,
  synonyms: Record<string, string> = {},
): Checked<F> {
  if (value === undefined) return {}
  if (!isPlainObject(value))
    throw invalidArgument(
      where === '' ? 'options' : where,
      `expected an object, got ${show(value)}`,
    )
  const checked: Record<string, unknown> = {}
  for (const [name, item] of Object.entries(value)) {
    const path = where === '' ? name : `${where}.${name}`
    const check = Object.hasOwn(known, name) ? known[name] : undefined
    if (check === undefined)
      throw invalidArgument(
        path,
        `is not an option${didYouMean(name, Object.keys(known), synonyms)}`,
      )
    if (item !== undefined) checked[name] = check(item, path)
  }
  return checked as Checked<F>
}

function didYouMean(
  name: string,
  known: readonly string[],
  synonyms: Record<string, string>,
): string {
  const plain = simplify(name)
  const synonym = Object.entries(synonyms).find(([other]) => simplify(other) === plain)?.[1]
  const near = synonym ?? closest(name, known)
  return near === undefined ? `; known are ${known.join(', ')}` : `; did you mean ${near}?`
}

/**
 * The word that was probably meant: this is its beginning, or at most a third of its letters
 * differ, whatever the case and the underscores.
 */
export function closest(word: string, words: readonly string[]): string | undefined {
  const plain = simplify(word)
  let best: { word: string; distance: number; edits: number } | undefined
  for (const candidate of words) {
    const other = simplify(candidate)
    const isStart = plain.length >= 2 && other.startsWith(plain)
    const edits = editDistance(plain, other)
    const distance = Math.min(edits, isStart ? 1 : Number.POSITIVE_INFINITY)
    const isNearer =
      best === undefined ||
      distance < best.distance ||
      (distance === best.distance && edits < best.edits)
    if (isNearer && distance <= Math.max(1, Math.floor(candidate.length / 3)))
      best = { word: candidate, distance, edits }
  }
  return best?.word
}

function simplify(word: string): string {
  return word.toLowerCase().replaceAll(/[_-]/g, '')
}

/**
 * The number of letters to insert, remove, replace or swap with their neighbour (Damerau's
 * distance, optimal string alignment).
 */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = at(last, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1)
      let least = Math.min(at(last, j) + 1, at(row, j - 1) + 1, replaced)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, at(beforeLast, j - 2) + 1)
      row.push(least)
    }
    beforeLast = last
    last = row
  }
  return at(last, b.length)
}

function at(row: number[], index: number): number {
  return row[index] ?? Number.POSITIVE_INFINITY
}
