import { invalidArgument, NodeMlxError } from './errors.js'
import { toJson } from './json.js'
import type { NativeResponseFormat } from './native.js'
import { PartialJson } from './partial-json.js'
import type { IncompleteAnswer, ResponseFormat, StandardSchema } from './types.js'
import {
  arrayOf,
  boolean,
  fields,
  isPlainObject,
  nonEmptyString,
  oneOf,
  show,
  type Check,
  type Fields,
} from './validate.js'

/** A response format, checked. */
export interface CheckedFormat {
  /** For the addon; missing where any text will do. */
  native?: NativeResponseFormat
  /** Whether the answer is JSON. */
  json: boolean
  /** What the value is checked by after it was read. */
  validator?: StandardSchema
}

const TYPES = ['text', 'json', 'regex', 'choice', 'grammar'] as const

const FIELDS: Record<(typeof TYPES)[number], Fields> = {
  text: {},
  json: { schema: (value) => value, name: nonEmptyString, strict: boolean },
  regex: { pattern },
  choice: { options: arrayOf(nonEmptyString, "an array of texts, such as ['yes', 'no']") },
  grammar: { lark: nonEmptyString },
}

/** What other libraries call these. */
const SYNONYMS = { jsonSchema: 'schema', regex: 'pattern', choices: 'options', grammar: 'lark' }

/** The option `responseFormat`, as it was given; {@link checkedFormat} says what it means. */
export const responseFormat: Check<ResponseFormat> = (value, option) => {
  checkedFormat(value, option)
  return value as ResponseFormat
}

/** What a response format means. */
export function checkedFormat(value: unknown, option = 'responseFormat'): CheckedFormat {
  if (!isPlainObject(value)) {
    throw invalidArgument(option, `expected an object, got ${show(value)}`)
  }
  const type = oneOf(...TYPES)(value['type'], `${option}.type`)
  const known = { type: (it: unknown) => it, ...FIELDS[type] }
  const given: Record<string, unknown> = fields(value, option, known, SYNONYMS)
  switch (type) {
    case 'text':
      return { json: false }
    case 'json':
      return jsonFormat(given, option)
    case 'regex':
      return { json: false, native: one(given, 'pattern', option) }
    case 'choice':
      return { json: false, native: one(given, 'options', option) }
    case 'grammar':
      return { json: false, native: one(given, 'lark', option) }
  }
}

/** The field that a kind of format cannot be without. */
function one(given: Record<string, unknown>, name: string, option: string): NativeResponseFormat {
  if (given[name] !== undefined) return { [name]: given[name] }
  throw invalidArgument(`${option}.${name}`, 'is missing')
}

/** A regular expression's source, with the flags that change what it matches. */
function pattern(value: unknown, option: string): string {
  return isRegExp(value) ? patternSource(value, option) : nonEmptyString(value, option)
}

/** Whether it is a regular expression, of this realm or another (vm, jest). */
export function isRegExp(value: unknown): value is RegExp {
  return Object.prototype.toString.call(value) === '[object RegExp]'
}

/**
 * A regular expression's source, with those of its flags within that change what it matches. Where
 * there are no ends of lines to look at, `m` changes nothing.
 */
export function patternSource({ source, flags }: RegExp, option: string): string {
  const others = flags.replaceAll(/[dgimsuy]/g, '')
  if (others !== '') throw invalidArgument(option, `the flag ${others} cannot be enforced`)
  const within = flags.replaceAll(/[^is]/g, '')
  return within === '' ? source : `(?${within}:${source})`
}

function jsonFormat(given: Record<string, unknown>, option: string): CheckedFormat {
  const path = `${option}.schema`
  const { schema, strict = true } = given as { schema?: unknown; strict?: boolean }
  if (schema === undefined) {
    for (const name of ['name', 'strict']) {
      if (given[name] !== undefined) {
        throw invalidArgument(`${option}.${name}`, 'has no effect without schema')
      }
    }
  }
  const native = (json: unknown): NativeResponseFormat => ({
    schemaJson: toJson(json, path),
    strict,
  })
  if (schema === undefined || typeof schema === 'boolean') {
    return { json: true, native: native(schema ?? true) }
  }
  if (isStandardSchema(schema)) {
    return { json: true, native: native(closed(jsonSchemaOf(schema, path))), validator: schema }
  }
  if (!isPlainObject(schema)) {
    const expected = 'expected a JSON schema, or a schema of Zod, Valibot, ArkType or the like'
    throw invalidArgument(path, `${expected}, got ${show(schema)}`)
  }
  return { json: true, native: native(schema) }
}

/** Whether a value is a schema of a library. Those of ArkType are functions. */
export function isStandardSchema(value: unknown): value is StandardSchema {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return false
  const standard: unknown = (value as Record<string, unknown>)['~standard']
  return (
    typeof standard === 'object' &&
    standard !== null &&
    'validate' in standard &&
    typeof standard.validate === 'function'
  )
}

/** The JSON schema of what a schema takes in: what it makes of that is for its own code. */
export function jsonSchemaOf(schema: StandardSchema, path: string): unknown {
  const { jsonSchema, vendor } = schema['~standard']
  const own = schema as {
    toJSONSchema?: (options: object) => unknown
    toJsonSchema?: () => unknown
  }
  try {
    if (jsonSchema !== undefined) return jsonSchema.input({ target: 'draft-2020-12' })
    if (typeof own.toJSONSchema === 'function') return own.toJSONSchema({ io: 'input' })
    if (typeof own.toJsonSchema === 'function') return own.toJsonSchema()
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw invalidArgument(path, `has no JSON schema: ${reason}`)
  }
  const hint =
    vendor === 'valibot' ? '; pass toStandardJsonSchema(schema) of @valibot/to-json-schema' : ''
  throw invalidArgument(path, `the schema (of ${vendor}) has no JSON schema${hint}`)
}

/**
 * Lets objects whose properties are declared have no others: the schemas of libraries ignore these,
 * and a model could go on inventing them. In `allOf`, others are declared beside.
 */
export function closed(schema: unknown, open = false): unknown {
  if (Array.isArray(schema)) return schema.map((item) => closed(item, open))
  if (!isPlainObject(schema)) return schema
  const copy: Record<string, unknown> = {}
  for (const [keyword, value] of Object.entries(schema)) {
    if (MAPS.has(keyword) && isPlainObject(value)) {
      copy[keyword] = Object.fromEntries(
        Object.entries(value).map(([name, item]) => [name, closed(item)]),
      )
    } else copy[keyword] = LITERALS.has(keyword) ? value : closed(value, keyword === 'allOf')
  }
  const declares = isPlainObject(copy['properties']) && copy['additionalProperties'] === undefined
  if (declares && !open && copy['allOf'] === undefined && copy['$ref'] === undefined) {
    copy['additionalProperties'] = false
  }
  return copy
}

/** Keywords whose values are schemas by name. */
const MAPS = new Set(['properties', 'patternProperties', '$defs', 'definitions'])
/** Keywords whose values are no schemas. */
const LITERALS = new Set(['const', 'enum', 'default', 'examples', 'required', 'type'])

/** What an answer in JSON came to. */
export interface ReadAnswer {
  object?: unknown
  incomplete?: IncompleteAnswer
}

/**
 * The value of an answer, checked by the schema's own code, or what it lacks. Of a number only the
 * end of the answer tells that no digit was to follow: `cut` says that there was another end.
 */
export async function readAnswer(
  text: string,
  { validator }: Pick<CheckedFormat, 'validator'>,
  cut = false,
): Promise<ReadAnswer> {
  let object: unknown
  try {
    object = JSON.parse(text)
    if (cut && typeof object === 'number') return { incomplete: { at: '', missing: '' } }
  } catch {
    const partial = new PartialJson()
    partial.write(text)
    return { incomplete: { at: partial.at, missing: partial.missing } }
  }
  if (validator === undefined) return { object }
  const outcome = await validator['~standard'].validate(object)
  if (outcome.issues === undefined) return { object: outcome.value }
  const issues = outcome.issues.map(({ message }) => message).join('; ')
  throw new NodeMlxError('INVALID_OUTPUT', `the schema refuses the answer: ${issues}`, {
    cause: outcome.issues,
    text,
  })
}

/**
 * Follows the text of an answer in JSON, behind what is there already, and gives its value each time
 * that it has changed.
 */
export function partialObjects(open = ''): (text: string) => { object: unknown } | undefined {
  const json = new PartialJson()
  json.write(open)
  return (text) => {
    const partial = json.write(text) ? json.value : undefined
    return partial && { object: partial.value }
  }
}
