// What `useChat` does, without React: its transport sends messages to a route, and its reader puts
// the parts of the answer together.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import {
  convertToModelMessages,
  DefaultChatTransport,
  isStepCount,
  readUIMessageStream,
  streamText,
  tool,
} from 'ai'
import { createNodeMlx } from 'nodemlx/ai-sdk'
import { fakeModel } from 'nodemlx/testing'
import { z } from 'zod'

const base = fakeModel({
  answers: ({ messages }) =>
    messages.at(-1).role === 'tool'
      ? `It is ${JSON.parse(messages.at(-1).content).condition}.`
      : { reasoning: 'I look.', toolCalls: [{ name: 'weather', arguments: { city: 'Paris' } }] },
})
const nodemlx = createNodeMlx({
  models: { fake: base },
  load: { device: 'cpu', threads: 1 },
})
after(() => nodemlx.dispose())

/** The route of a web framework. */
const route = (model) => async (request) => {
  const { messages } = await request.json()
  const result = streamText({
    model,
    temperature: 0,
    maxOutputTokens: 60,
    messages: await convertToModelMessages(messages),
    stopWhen: isStepCount(3),
    tools: {
      weather: tool({
        inputSchema: z.object({ city: z.string() }),
        execute: () => ({ condition: 'sunny' }),
      }),
    },
  })
  return result.toUIMessageStreamResponse({ sendReasoning: true })
}

const user = (id, text) => ({ id, role: 'user', parts: [{ type: 'text', text }] })

/** Sends messages as `useChat` does; the answer as it shows it in the end. */
async function send(handler, messages) {
  const transport = new DefaultChatTransport({
    api: 'http://localhost/api/chat',
    fetch: (url, init) => handler(new Request(url, init)),
  })
  const stream = await transport.sendMessages({
    chatId: 'chat',
    trigger: 'submit-message',
    messageId: undefined,
    abortSignal: undefined,
    messages,
  })
  let last
  for await (const message of readUIMessageStream({ stream })) last = message
  return last
}

test('a fake model reasons, calls a tool and answers', async () => {
  const message = await send(route(nodemlx('fake')), [user('1', 'How is the weather in Paris?')])
  const parts = message.parts.filter(({ type }) => type !== 'step-start')
  assert.deepEqual(
    parts.map(({ type }) => type),
    ['reasoning', 'tool-weather', 'text'],
  )
  assert.equal(parts[0].text, 'I look.')
  assert.equal(parts[1].state, 'output-available')
  assert.deepEqual(parts[1].input, { city: 'Paris' })
  assert.equal(parts[2].text, 'It is sunny.')
  // The whole conversation goes back with the next question.
  const next = await send(route(nodemlx('fake')), [
    user('1', 'How is the weather in Paris?'),
    message,
    user('2', 'And now?'),
  ])
  assert.equal(next.parts.at(-1).text, 'It is sunny.')
  const asked = base.requests.at(-2).messages
  assert.deepEqual(
    asked.map(({ role }) => role),
    ['user', 'assistant', 'tool', 'assistant', 'user'],
  )
  assert.equal(asked[1].reasoning_content, 'I look.')
})

test('the demo model answers', async () => {
  const plain = async (request) => {
    const { messages } = await request.json()
    return streamText({
      model: nodemlx('demo'),
      temperature: 0,
      maxOutputTokens: 60,
      messages: await convertToModelMessages(messages),
    }).toUIMessageStreamResponse()
  }
  const message = await send(plain, [user('1', 'What is the capital of France?')])
  assert.match(message.parts.at(-1).text, /Paris/)
})
