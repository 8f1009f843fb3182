import { adapter } from './adapter.js'
import { invalidArgument, NodeMlxError } from './errors.js'
import type { NativeEmbeddings, NativeEmbedRequest } from './native.js'
import { tokenArray, tokenList } from './prompt.js'
import type { Embeddings, EmbedInput, EmbedOptions, ModelInfo } from './types.js'
import { isPlainObject, show, string } from './validate.js'

/** What the addon is asked for, without the number of the evaluation. */
type EmbedOrder = Omit<NativeEmbedRequest, 'evaluation'>

/** What `model.embed` is asked for, before it is known by which model. */
export function checkInputs(texts: unknown): EmbedInput[] {
  if (!Array.isArray(texts)) return [checkInput(texts, 'texts')]
  return Array.from(texts, (text: unknown, index) => checkInput(text, `texts[${index}]`))
}

function checkInput(value: unknown, where: string): EmbedInput {
  if (typeof value === 'string') return string(value, where)
  if (!isPlainObject(value) || Object.keys(value).some((name) => name !== 'tokens'))
    throw invalidArgument(where, `expected a string or { tokens }, got ${show(value)}`)
  return { tokens: tokenList(value['tokens'], `${where}.tokens`) }
}

/** The order of `model.embed`. */
export function embedOrder(
  inputs: readonly EmbedInput[],
  options: EmbedOptions,
  info: ModelInfo,
): EmbedOrder {
  if (info.embedding === undefined)
    throw new NodeMlxError('UNSUPPORTED', 'the model embeds no texts: load an embedding model')
  const { task, pooling, normalize, dimensions, truncate = false } = options
  return {
    inputs: inputs.map((it, index) =>
      typeof it === 'string'
        ? { text: it }
        : { tokens: tokenArray(it.tokens, `texts[${index}].tokens`, info.vocabularySize) },
    ),
    ...(task === undefined ? {} : { task }),
    ...(pooling === undefined ? {} : { pooling }),
    ...(normalize === undefined ? {} : { normalize }),
    ...(dimensions === undefined ? {} : { dimensions }),
    truncate,
    ...adapterPart(options),
  }
}

/** The adapter of an order. */
export function adapterPart(options: { adapter?: unknown }): { adapter?: number } {
  const used = adapter(options.adapter ?? null, 'adapter')
  return used === null ? {} : { adapter: used.id }
}

/** What `model.embed` gives: views of one array, each with its own numbers. */
export function embeddings(count: number, native: NativeEmbeddings): Embeddings {
  const { data, dimensions, tokens } = native
  const rows = Array.from({ length: count }, (_, row) =>
    // A copy, as an array of this realm that keeps no other alive.
    Float32Array.from(data.subarray(row * dimensions, (row + 1) * dimensions)),
  )
  return withTokens(rows, tokens)
}

/** Counts the tokens beside the items, where printing and comparing the array does not see them. */
export function withTokens<Item>(
  items: Item[],
  tokens: number,
): Item[] & { readonly tokens: number } {
  return Object.defineProperty(items, 'tokens', { value: tokens }) as Item[] & { tokens: number }
}
