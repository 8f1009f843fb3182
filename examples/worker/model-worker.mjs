// The side of the worker: it owns the model, and answers messages.

import { parentPort } from 'node:worker_threads'
import { loadModel } from 'nodemlx'

const loading = loadModel('demo')
const running = new Map()

async function generate({ id, prompt }) {
  try {
    const model = await loading
    const answer = model.generate(prompt, { temperature: 0 })
    running.set(id, answer)
    for await (const text of answer.textStream) parentPort.postMessage({ id, text })
    parentPort.postMessage({ id, done: true })
  } catch (error) {
    parentPort.postMessage({ id, error: error.message })
  } finally {
    running.delete(id)
  }
}

parentPort.on('message', async (message) => {
  if (message.type === 'generate') await generate(message)
  if (message.type === 'abort') running.get(message.id)?.abort()
  if (message.type === 'quit') {
    await (await loading).dispose()
    parentPort.close()
  }
})
