// Embeddings of the paragraphs in a folder, kept in SQLite: only what has changed is read again.

import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

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

const TABLE = `
  CREATE TABLE IF NOT EXISTS embeddings (
    folder TEXT NOT NULL,
    key TEXT NOT NULL,
    embedding BLOB NOT NULL,
    PRIMARY KEY (folder, key)
  ) STRICT`

/**
 * The paragraphs with their embeddings.
 *
 * @param model - A model that embeds.
 * @param folder - Whose texts are read.
 * @param store - The SQLite database that keeps embeddings; it is made where there is none.
 * @param options - Those of `model.embed` for texts that are searched.
 */
export async function embedFolder(model, folder, store, options) {
  const paragraphs = (await paragraphsOf(folder)).map((paragraph) => ({
    ...paragraph,
    key: createHash('sha256')
      .update(JSON.stringify([model.info.path, options, paragraph.text]))
      .digest('hex'),
  }))
  const database = new DatabaseSync(store)
  try {
    database.exec(TABLE)
    const kept = readKept(database, folder)
    const missing = paragraphs.filter(({ key }) => !kept.has(key))
    // All in one call: the texts share passes.
    const rows = await model.embed(
      missing.map(({ text }) => text),
      options,
    )
    missing.forEach(({ key }, index) => kept.set(key, rows[index]))
    keep(database, folder, new Map(paragraphs.map(({ key }) => [key, kept.get(key)])))
    const embedded = paragraphs.map(({ file, text, key }) => ({
      file,
      text,
      embedding: kept.get(key),
    }))
    return { paragraphs: embedded, read: missing.length }
  } finally {
    database.close()
  }
}

/** What was kept of a folder, by the hash of model, options and text. */
function readKept(database, folder) {
  const rows = database
    .prepare('SELECT key, embedding FROM embeddings WHERE folder = ?')
    .all(resolve(folder))
  return new Map(rows.map(({ key, embedding }) => [key, numbers(embedding)]))
}

/** Keeps these embeddings of a folder and no others, or what was there where that fails. */
function keep(database, folder, embeddings) {
  const insert = database.prepare('INSERT INTO embeddings VALUES (?, ?, ?)')
  database.exec('BEGIN IMMEDIATE')
  try {
    database.prepare('DELETE FROM embeddings WHERE folder = ?').run(resolve(folder))
    for (const [key, { buffer, byteOffset, byteLength }] of embeddings)
      insert.run(resolve(folder), key, new Uint8Array(buffer, byteOffset, byteLength))
    database.exec('COMMIT')
  } catch (error) {
    database.exec('ROLLBACK')
    throw error
  }
}

/** A copy, because a database's bytes may begin anywhere. */
const numbers = (bytes) => new Float32Array(Uint8Array.from(bytes).buffer)

/** The paragraphs that are most similar to an embedding, the best first; all have the length 1. */
export function nearest(paragraphs, embedding, count) {
  const similarity = (other) => other.reduce((sum, value, at) => sum + value * embedding[at], 0)
  return paragraphs
    .map((paragraph) => ({ ...paragraph, similarity: similarity(paragraph.embedding) }))
    .sort((a, b) => b.similarity - a.similarity)
    .slice(0, count)
}
