// What the snippets of the documentation take for given. They import from here what they use
// without making it, so that they run, and that their types are checked, as they stand there.

import { MessageChannel } from 'node:worker_threads'
import { loadModel } from 'nodemlx'
import { createNodeMlx } from 'nodemlx/ai-sdk'
import { connect } from 'nodemlx/client'

export { fakeModel } from 'nodemlx/testing'
export { connect, createNodeMlx, loadModel }

export const nodemlx = createNodeMlx()
export const model = await loadModel('demo')

/** @type {{ role: 'user', content: string }[]} */
export const messages = [{ role: 'user', content: 'Hi!' }]
export const questions = ['Who is it about?', 'Where does it happen?']
export const document = 'Once upon a time, there was a fox.'

export const parameters = {
  type: 'object',
  properties: { city: { type: 'string' } },
  required: ['city'],
}
/** @param {string} city */
export const weatherOf = (city) => ({ city, condition: 'sunny' })
export const allowed = new Set(['get_weather'])

/** A host of the documentation of `nodemlx/client`, and a client of the Model Context Protocol. */
export const host = 'host.js'
export const client = {
  loadModel,
  listTools: () =>
    Promise.resolve({
      tools: [
        {
          name: 'get_weather',
          description: 'Get the weather in a city',
          inputSchema: { ...parameters, type: /** @type {'object'} */ ('object') },
        },
      ],
    }),
  /** @param {{ name: string, arguments?: Record<string, unknown> }} call */
  callTool: (call) => Promise.resolve({ content: [{ type: 'text', text: `${call.name}: sunny` }] }),
}

const { port1: port, port2 } = new MessageChannel()
export { port }
// The client at the other end has nothing to ask.
setTimeout(() => port2.close(), 100).unref()
