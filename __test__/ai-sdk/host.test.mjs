// A provider whose model runs in a child process, which may crash.

import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { generateText, streamText } from 'ai'
import { createNodeMlx } from 'nodemlx/ai-sdk'
import { connect } from 'nodemlx/client'

const host = fileURLToPath(import.meta.resolve('nodemlx/client/host'))
const children = []
const client = connect(() => {
  children.push(fork(host, { serialization: 'advanced', execArgv: [] }))
  return children.at(-1)
})
const nodemlx = createNodeMlx({ models: { demo: () => client.loadModel('demo') } })
after(async () => {
  await nodemlx.dispose()
  client.close()
})

/** Ends the host as a crash does. A client's child keeps no program running, so a timer does. */
async function crash() {
  const child = children.at(-1)
  const timer = setInterval(() => {}, 100)
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
  clearInterval(timer)
}

test('a host that has crashed is started again', async () => {
  const ask = { model: nodemlx('demo'), prompt: 'What is the capital of France?', temperature: 0 }
  assert.match((await generateText(ask)).text, /Paris/)
  await crash()
  assert.match((await generateText(ask)).text, /Paris/)
  await crash()
  assert.match(await streamText(ask).text, /Paris/)
  assert.equal(children.length, 3)
})
