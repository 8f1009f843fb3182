import { adapterPart } from './adapter.js'
import { NodeMlxError } from './errors.js'
import type { NativeEmbeddings, NativeEmbedRequest } from './native.js'
import { nativeTextOrTokens, textOrTokens } from './prompt.js'
import type { Embeddings, EmbedInput, EmbedOptions, ModelInfo } from './types.js'

/** What the addon is asked for, without the number of the evaluation. */
type EmbedOrder = Omit<NativeEmbedRequest, 'evaluation'>

/** What `model.embed` is asked for, before it is known by which model. */
export function checkInputs(texts: unknown): EmbedInput[] {
  if (!Array.isArray(texts)) return [textOrTokens(texts, 'texts')]
  return Array.from(texts, (text: unknown, index) => textOrTokens(text, `texts[${index}]`))
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
    inputs: inputs.map((it, index) => nativeTextOrTokens(it, `texts[${index}]`, info)),
    ...(task === undefined ? {} : { task }),
    ...(pooling === undefined ? {} : { pooling }),
    ...(normalize === undefined ? {} : { normalize }),
    ...(dimensions === undefined ? {} : { dimensions }),
    truncate,
    ...adapterPart(options),
  }
}

/** What `model.embed` gives: an array of its own for each text. */
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
