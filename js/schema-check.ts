import { isPlainObject } from './validate.js'

/** Values and schemas that are nested deeper are not looked into. */
const DEEPEST = 200

type Schema = Record<string, unknown>

/** What is wrong with a value, and where: `undefined` is nothing. */
type Problem = string | undefined

/**
 * What a JSON schema (draft 2020-12, and what earlier ones have in common with it) does not allow of
 * a value of JSON; `undefined` where it allows it. Formats and references to other documents allow
 * everything.
 */
export function schemaProblem(schema: unknown, value: unknown): string | undefined {
  return new Check(schema).value(schema, value, '', 0)
}

class Check {
  readonly #root: unknown
  /** What was found out already, by schema, value and place: references lead to it by many ways. */
  readonly #known = new Map<Schema, Map<unknown, Map<string, Problem>>>()

  constructor(root: unknown) {
    this.#root = root
  }

  value(schema: unknown, value: unknown, at: string, depth: number): Problem {
    if (schema === false) return told(at, 'nothing is allowed here')
    if (!isPlainObject(schema) || depth > DEEPEST) return undefined
    const ofSchema = getOrAdd(this.#known, schema)
    const known = getOrAdd(ofSchema, value)
    if (!known.has(at)) known.set(at, this.#found(schema, value, at, depth))
    return known.get(at)
  }

  #found(schema: Schema, value: unknown, at: string, depth: number): Problem {
    const inner = (other: unknown): Problem => this.value(other, value, at, depth + 1)
    return (
      this.#reference(schema, inner) ??
      plain(schema, value, at) ??
      this.#combined(schema, inner, at) ??
      (Array.isArray(value) ? this.#array(schema, value, at, depth) : undefined) ??
      (isPlainObject(value) ? this.#object(schema, value, at, depth) : undefined)
    )
  }

  #reference(schema: Schema, inner: (other: unknown) => Problem): Problem {
    const { $ref } = schema
    if (typeof $ref !== 'string' || !/^#(\/|$)/.test($ref)) return undefined
    let target = this.#root
    for (const part of $ref.slice(1).split('/').slice(1)) {
      const key = decoded(part).replaceAll('~1', '/').replaceAll('~0', '~')
      target = isContainer(target) && Object.hasOwn(target, key) ? target[key] : undefined
    }
    return inner(target)
  }

  #combined(schema: Schema, inner: (other: unknown) => Problem, at: string): Problem {
    const { allOf, anyOf, oneOf, not } = schema
    for (const part of list(allOf)) {
      const problem = inner(part)
      if (problem !== undefined) return problem
    }
    if (Array.isArray(anyOf)) {
      const problems = anyOf.map(inner)
      if (!problems.includes(undefined)) return alternatives(problems)
    }
    if (Array.isArray(oneOf)) {
      const problems = oneOf.map(inner)
      const fitting = problems.filter((problem) => problem === undefined).length
      if (fitting === 0) return alternatives(problems)
      if (fitting > 1) return told(at, 'fits several alternatives, of which one is to fit')
    }
    if (not !== undefined && inner(not) === undefined) return told(at, 'is what it must not be')
    if (schema['if'] === undefined) return undefined
    return inner(inner(schema['if']) === undefined ? schema['then'] : schema['else'])
  }

  #array(schema: Schema, value: unknown[], at: string, depth: number): Problem {
    const { items, prefixItems, additionalItems, contains } = schema
    const first = list(prefixItems ?? items)
    const others = Array.isArray(items) ? additionalItems : items
    for (const [index, item] of value.entries()) {
      const own = index < first.length ? first[index] : others
      const problem = this.value(own, item, path(at, index), depth + 1)
      if (problem !== undefined) return problem
    }
    if (contains === undefined) return undefined
    const fits = (item: unknown): boolean => this.value(contains, item, at, depth + 1) === undefined
    const { minContains = 1, maxContains } = schema
    const found = value.filter(fits).length
    if (isNumber(minContains) && found < minContains) return told(at, 'lacks an item that it needs')
    if (isNumber(maxContains) && found > maxContains) return told(at, 'has too many such items')
    return undefined
  }

  #object(schema: Schema, value: Schema, at: string, depth: number): Problem {
    const { required, properties = {}, patternProperties = {}, propertyNames } = schema
    for (const name of list(required))
      if (typeof name === 'string' && !Object.hasOwn(value, name))
        return told(path(at, name), 'is missing')
    const declared = isPlainObject(properties) ? properties : {}
    const patterns = Object.entries(isPlainObject(patternProperties) ? patternProperties : {})
    for (const [name, item] of Object.entries(value)) {
      const where = path(at, name)
      const matching = patterns.filter(([source]) => matches(source, name))
      const isDeclared = Object.hasOwn(declared, name)
      const own = [...(isDeclared ? [declared[name]] : []), ...matching.map(([, other]) => other)]
      if (own.length === 0) {
        if (schema['additionalProperties'] === false) return told(where, 'is not expected')
        own.push(schema['additionalProperties'])
      }
      for (const each of own) {
        const problem = this.value(each, item, where, depth + 1)
        if (problem !== undefined) return problem
      }
      if (this.value(propertyNames, name, where, depth + 1) !== undefined)
        return told(where, 'is not a name that is allowed')
    }
    return this.#dependents(schema, value, at, depth)
  }

  #dependents(schema: Schema, value: Schema, at: string, depth: number): Problem {
    const { dependentRequired, dependentSchemas } = schema
    for (const [name, others] of entries(dependentRequired)) {
      const names = list(others).filter((it) => typeof it === 'string')
      const missing = names.find((it) => !Object.hasOwn(value, it))
      if (Object.hasOwn(value, name) && missing !== undefined)
        return told(path(at, missing), `is missing, which ${name} needs`)
    }
    for (const [name, other] of entries(dependentSchemas)) {
      const problem = Object.hasOwn(value, name)
        ? this.value(other, value, at, depth + 1)
        : undefined
      if (problem !== undefined) return problem
    }
    return undefined
  }
}

/** What is said of many alternatives at the most. */
const LONGEST = 1000

function alternatives(problems: readonly Problem[]): string {
  const all = problems.join(', or ')
  return all.length > LONGEST ? `${all.slice(0, LONGEST)} …` : all
}

function getOrAdd<Key, InnerKey, Value>(
  map: Map<Key, Map<InnerKey, Value>>,
  key: Key,
): Map<InnerKey, Value> {
  const found = map.get(key) ?? new Map<InnerKey, Value>()
  map.set(key, found)
  return found
}

/** What the keywords say that look at nothing inside of a value. */
function plain(schema: Schema, value: unknown, at: string): Problem {
  const { type } = schema
  const types = Array.isArray(type) ? type : type === undefined ? [] : [type]
  if (types.length > 0 && !types.some((it) => isOf(it, value)))
    return told(at, `expected ${types.join(' or ')}, got ${typeName(value)}`)
  if (Array.isArray(schema['enum']) && !schema['enum'].some((it) => same(it, value)))
    return told(at, `expected one of ${JSON.stringify(schema['enum'])}`)
  if (Object.hasOwn(schema, 'const') && !same(schema['const'], value))
    return told(at, `expected ${JSON.stringify(schema['const'])}`)
  if (typeof value === 'number') return ofNumber(schema, value, at)
  if (typeof value === 'string') return ofString(schema, value, at)
  if (Array.isArray(value)) {
    const unique = value.every((item, index) => !value.slice(0, index).some((it) => same(it, item)))
    if (schema['uniqueItems'] === true && !unique) return told(at, 'has an item twice')
    return count(value.length, schema['minItems'], schema['maxItems'], 'items', at)
  }
  if (!isPlainObject(value)) return undefined
  const { minProperties, maxProperties } = schema
  return count(Object.keys(value).length, minProperties, maxProperties, 'properties', at)
}

function ofNumber(schema: Schema, value: number, at: string): Problem {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = schema
  if (isNumber(minimum) && value < minimum) return told(at, `expected at least ${minimum}`)
  if (isNumber(maximum) && value > maximum) return told(at, `expected at most ${maximum}`)
  if (isNumber(exclusiveMinimum) && value <= exclusiveMinimum)
    return told(at, `expected more than ${exclusiveMinimum}`)
  if (isNumber(exclusiveMaximum) && value >= exclusiveMaximum)
    return told(at, `expected less than ${exclusiveMaximum}`)
  if (!isNumber(multipleOf)) return undefined
  const times = value / multipleOf
  // Such as 0.3 / 0.1, which rounding keeps from being whole.
  const isWhole = Math.abs(times - Math.round(times)) <= Math.abs(times) * 4 * Number.EPSILON
  return isWhole ? undefined : told(at, `expected a multiple of ${multipleOf}`)
}

function ofString(schema: Schema, value: string, at: string): Problem {
  const { pattern, minLength, maxLength } = schema
  if (typeof pattern === 'string' && !matches(pattern, value))
    return told(at, `expected a string that matches ${pattern}`)
  return count(Array.from(value).length, minLength, maxLength, 'characters', at)
}

function count(length: number, min: unknown, max: unknown, of: string, at: string): Problem {
  if (isNumber(min) && length < min) return told(at, `expected at least ${min} ${of}`)
  if (isNumber(max) && length > max) return told(at, `expected at most ${max} ${of}`)
  return undefined
}

function isOf(type: unknown, value: unknown): boolean {
  const own = typeName(value)
  return type === own || (type === 'integer' && Number.isInteger(value))
}

function typeName(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'array' : typeof value
}

function same(a: unknown, b: unknown): boolean {
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((item, index) => same(item, b[index]))
  if (!isPlainObject(a) || !isPlainObject(b)) return a === b
  const names = Object.keys(a)
  return (
    names.length === Object.keys(b).length &&
    names.every((name) => Object.hasOwn(b, name) && same(a[name], b[name]))
  )
}

function matches(source: string, text: string): boolean {
  try {
    return new RegExp(source, 'u').test(text)
  } catch {
    // A pattern of another dialect allows everything.
    return true
  }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

function isContainer(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number'
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

function entries(value: unknown): [string, unknown][] {
  return isPlainObject(value) ? Object.entries(value) : []
}

function path(at: string, key: string | number): string {
  return at === '' ? String(key) : `${at}.${key}`
}

function told(at: string, problem: string): string {
  return at === '' ? problem : `${at}: ${problem}`
}
