import { randomUUID } from 'node:crypto'
import {
  boolean,
  integer,
  isPlainObject,
  nonEmptyString,
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

const MOST_DOCUMENTS = 1000

const RERANK_FIELDS = {
  model: string,
  query: nonEmptyString,
  documents: anything,
  top_n: integer(1, 2 ** 31 - 1),
  return_documents: boolean,
  instruction: nonEmptyString,
  truncate: boolean,
} satisfies Record<string, Check<unknown>>

/** `POST /v1/rerank`, as Jina and Cohere have it, and `/v2/rerank`, where Cohere has it now. */
export async function rerank(call: Call, body: unknown): Promise<Response> {
  const fields = readFields(body, '', RERANK_FIELDS, unknownField)
  const name = required(fields.model, 'model')
  const query = required(fields.query, 'query')
  const documents = documentsOf(required(fields.documents, 'documents'))
  const { top_n: topN, instruction, truncate, return_documents: withDocuments = false } = fields
  return evaluated(call, name, 'rerank', 'reranking', async (model, signal) => {
    const ranked = await model.rerank(query, documents, { topN, instruction, truncate, signal })
    const results = ranked.map(({ index, score }) => ({
      index,
      relevance_score: score,
      ...(withDocuments ? { document: { text: documents[index] } } : {}),
    }))
    const usage = readUsage(ranked.tokens)
    return json({ id: randomUUID(), model: name, results, usage })
  })
}

/** Texts, or objects that have one. */
function documentsOf(documents: unknown): string[] {
  if (!Array.isArray(documents) || documents.length === 0)
    throw invalidField('documents', `documents: expected an array of texts, got ${show(documents)}`)
  if (documents.length > MOST_DOCUMENTS) {
    const message = `documents: are ${documents.length}, at most ${MOST_DOCUMENTS} go at once`
    throw invalidField('documents', message)
  }
  return documents.map((document: unknown, index) => {
    const path = `documents[${index}]`
    const text = isPlainObject(document) ? document['text'] : document
    if (typeof text === 'string') return string(text, path)
    throw invalidField(path, `${path}: expected a text or { text }, got ${show(document)}`)
  })
}
