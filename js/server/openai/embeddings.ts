import type { EmbedInput } from '../../types.js'
import {
  boolean,
  integer,
  nonEmptyString,
  oneOf,
  show,
  string,
  type Check,
} from '../../validate.js'
import { json, type Call } from '../call.js'
import { evaluated } from '../evaluation.js'
import { invalidField } from '../failure.js'
import { anything, readFields, required } from '../fields.js'
import { unknownField } from './api.js'
import { readUsage } from './usage.js'

/** OpenAI's own. */
const MOST_INPUTS = 2048

const EMBEDDING_FIELDS = {
  model: string,
  input: anything,
  encoding_format: oneOf('float', 'base64'),
  dimensions: integer(1, 2 ** 31 - 1),
  user: anything,
  // Not OpenAI's: what models are asked for that tell queries from documents, and what vLLM has.
  task: nonEmptyString,
  truncate: boolean,
} satisfies Record<string, Check<unknown>>

/** `POST /v1/embeddings` */
export async function embeddings(call: Call, body: unknown): Promise<Response> {
  const fields = readFields(body, '', EMBEDDING_FIELDS, unknownField)
  const name = required(fields.model, 'model')
  const inputs = inputsOf(required(fields.input, 'input'))
  const { dimensions, task, truncate, encoding_format: format = 'float' } = fields
  return evaluated(call, name, 'embed', 'embeddings', async (model, signal) => {
    const rows = await model.embed(inputs, { dimensions, task, truncate, signal })
    const usage = readUsage(rows.tokens)
    const data = rows.map((row, index) => ({
      object: 'embedding',
      index,
      embedding: format === 'float' ? Array.from(row) : base64(row),
    }))
    return json({ object: 'list', data, model: name, usage })
  })
}

/** A text, tokens, or a list of texts or of tokens. */
function inputsOf(input: unknown): EmbedInput[] {
  const isTokens = (value: unknown): value is number[] =>
    Array.isArray(value) && value.length > 0 && value.every((it) => Number.isInteger(it))
  const one = (value: unknown, path: string): EmbedInput => {
    if (typeof value === 'string' && value !== '') return string(value, path)
    if (isTokens(value)) return { tokens: value }
    throw invalidField(path, `${path}: expected a text or tokens, got ${show(value)}`)
  }
  if (!Array.isArray(input) || isTokens(input)) return [one(input, 'input')]
  if (input.length === 0) throw invalidField('input', 'input: is empty')
  if (input.length > MOST_INPUTS)
    throw invalidField(
      'input',
      `input: has ${input.length} texts, at most ${MOST_INPUTS} go at once`,
    )
  return input.map((value, index) => one(value, `input[${index}]`))
}

/** The numbers as little-endian floats of 32 bits. */
function base64(row: Float32Array): string {
  const bytes = Buffer.alloc(row.length * 4)
  row.forEach((value, index) => bytes.writeFloatLE(value, index * 4))
  return bytes.toString('base64')
}
