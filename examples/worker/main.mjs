// The model in a thread of its own, as in an Electron app, whose utilityProcess speaks the same
// messages: whatever happens to the worker, this side goes on.
//
//     node main.mjs

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'

const worker = new Worker(new URL('model-worker.mjs', import.meta.url))
worker.on('error', (error) => console.error('The worker has failed:', error.message))

let lastId = 0

/** Asks the worker; gives the pieces of the answer as they come. */
async function* ask(prompt, signal) {
  const id = ++lastId
  const abort = () => worker.postMessage({ type: 'abort', id })
  signal?.addEventListener('abort', abort, { once: true })
  const pieces = []
  let wake = () => {}
  const listen = (message) => {
    if (message.id !== id) return
    pieces.push(message)
    wake()
  }
  worker.on('message', listen)
  worker.postMessage({ type: 'generate', id, prompt })
  try {
    for (;;) {
      while (pieces.length === 0) await new Promise((resolve) => (wake = resolve))
      const { text, error, done } = pieces.shift()
      if (error) throw new Error(error)
      if (done) return
      yield text
    }
  } finally {
    signal?.removeEventListener('abort', abort)
    worker.off('message', listen)
    // Where the loop was left early, the worker need not go on.
    abort()
  }
}

for await (const text of ask('What is the capital of Japan?')) process.stdout.write(text)
process.stdout.write('\n')

worker.postMessage({ type: 'quit' })
await once(worker, 'exit')
