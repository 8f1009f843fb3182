// Answers a question from the texts in a folder (retrieval-augmented generation).
//
//     node ask.mjs "What is the bridge made of?" notes
//
// SQLite comes with Node.js from version 22.13.
//
// The embedded model does both parts, so that this runs at once. For texts of your own take an
// embedder and a larger model: EMBEDDER=Qwen/Qwen3-Embedding-0.6B MODEL=Qwen/Qwen3-4B-MLX-4bit

import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadModel } from 'nodemlx'
import { embedFolder, nearest } from './embeddings.mjs'

const {
  EMBEDDER = 'demo',
  MODEL = 'demo',
  STORE = join(tmpdir(), 'nodemlx-rag.sqlite'),
} = process.env
const [question = 'What is the bridge made of?', folder] = process.argv.slice(2)
const notes = folder ?? fileURLToPath(new URL('notes', import.meta.url))

const embedder = await loadModel(EMBEDDER)
const { declared, tasks } = embedder.info.embedding
// Of a model that is no embedder all states count, the later ones more.
const options = declared ? { normalize: true } : { normalize: true, pooling: 'weightedmean' }
const forTask = (task) => (tasks.includes(task) ? { ...options, task } : options)

const { paragraphs, read } = await embedFolder(embedder, notes, STORE, forTask('document'))
console.error(`${paragraphs.length} paragraphs, ${read} of them new`)
const [query] = await embedder.embed(question, forTask('query'))
const found = nearest(paragraphs, query, 3)
for (const { file, similarity, text } of found)
  console.error(`${similarity.toFixed(2)} ${file}: ${text}`)

const model = MODEL === EMBEDDER ? embedder : await loadModel(MODEL)
const context = found.map(({ text }) => text).join('\n')
const messages = [
  { role: 'system', content: `Answer from this text:\n${context}` },
  { role: 'user', content: question },
]
const answer = model.generate(messages, { temperature: 0, maxTokens: 200 })
for await (const text of answer.textStream) process.stdout.write(text)
process.stdout.write('\n')
await embedder.dispose()
await model.dispose()
