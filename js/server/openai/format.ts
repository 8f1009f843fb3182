import type { GenerateOptions } from '../../types.js'
import { readFields, record, required } from '../fields.js'
import { invalidField } from '../failure.js'
import { boolean, oneOf, string } from '../../validate.js'
import { unknownField } from './api.js'

/** What `json_object` means: an object, and not just any JSON. */
export const JSON_OBJECT = { type: 'json', schema: { type: 'object' } } as const

const SCHEMA_FIELDS = { name: string, description: string, schema: record, strict: boolean }

/** The `response_format` of a chat, or `undefined` for text. */
export function responseFormat(
  format: Record<string, unknown> | undefined,
): GenerateOptions['responseFormat'] {
  if (format === undefined) return undefined
  const { type, json_schema } = readFields(
    format,
    'response_format',
    { type: oneOf('text', 'json_object', 'json_schema'), json_schema: record },
    unknownField,
  )
  if (required(type, 'response_format.type') !== 'json_schema')
    return type === 'json_object' ? JSON_OBJECT : undefined
  return schemaFormat(
    required(json_schema, 'response_format.json_schema'),
    'response_format.json_schema',
  )
}

/** A format that a JSON schema describes. */
export function schemaFormat(
  value: Record<string, unknown>,
  where: string,
): GenerateOptions['responseFormat'] {
  const { name, schema, strict } = readFields(value, where, SCHEMA_FIELDS, unknownField)
  if (schema === undefined) throw invalidField(`${where}.schema`, `${where}.schema is missing`)
  return {
    type: 'json',
    schema,
    ...(name === undefined ? {} : { name }),
    // What cannot be enforced is left out unless it is asked for, as in OpenAI's API.
    strict: strict ?? false,
  }
}
