// Embeddings of the paragraphs in a folder, kept in a file: only what has changed is read again.

import { createHash } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

const TEXTS = /\.(md|txt)$/

/** The paragraphs of all texts in a folder, without headings: `{ file, text }`. */
async function paragraphsOf(folder) {
  const files = (await readdir(folder)).filter((file) => TEXTS.test(file)).sort()
  const paragraphs = []
  for (const file of files) {
    for (const part of (await readFile(join(folder, file), 'utf8')).split(/\r?\n\s*\r?\n/)) {
      const text = part.trim()
      if (text !== '' && !text.startsWith('#')) paragraphs.push({ file, text })
    }
  }
  return paragraphs
}

/** What was kept, by the hash of model, options and text; nothing where there is no such file. */
async function readKept(store) {
  try {
    return JSON.parse(await readFile(store, 'utf8'))
  } catch (error) {
    if (error.code === 'ENOENT') return {}
    throw error
  }
}

/**
 * The paragraphs with their embeddings.
 *
 * @param model - A model that embeds.
 * @param folder - Whose texts are read.
 * @param store - The file that keeps embeddings, as base64.
 * @param options - Those of `model.embed` for texts that are searched.
 */
export async function embedFolder(model, folder, store, options) {
  const paragraphs = await paragraphsOf(folder)
  const kept = await readKept(store)
  const keyOf = ({ text }) =>
    createHash('sha256')
      .update(JSON.stringify([model.info.path, options, text]))
      .digest('hex')
  const missing = paragraphs.filter((paragraph) => kept[keyOf(paragraph)] === undefined)
  // All in one call: the texts share passes.
  const rows = await model.embed(
    missing.map(({ text }) => text),
    options,
  )
  missing.forEach((paragraph, index) => {
    const { buffer, byteOffset, byteLength } = rows[index]
    kept[keyOf(paragraph)] = Buffer.from(buffer, byteOffset, byteLength).toString('base64')
  })
  const used = Object.fromEntries(
    paragraphs.map((paragraph) => [keyOf(paragraph), kept[keyOf(paragraph)]]),
  )
  await writeFile(store, JSON.stringify(used))
  const embedded = paragraphs.map((paragraph) => ({
    ...paragraph,
    embedding: numbers(kept[keyOf(paragraph)]),
  }))
  return { paragraphs: embedded, read: missing.length }
}

function numbers(base64) {
  const bytes = Uint8Array.from(Buffer.from(base64, 'base64'))
  return new Float32Array(bytes.buffer)
}

/** The paragraphs that are most similar to an embedding, the best first; all have the length 1. */
export function nearest(paragraphs, embedding, count) {
  const similarity = (other) => other.reduce((sum, value, at) => sum + value * embedding[at], 0)
  return paragraphs
    .map((paragraph) => ({ ...paragraph, similarity: similarity(paragraph.embedding) }))
    .sort((a, b) => b.similarity - a.similarity)
    .slice(0, count)
}
