// `useChat` of @ai-sdk/react in a component, with a route behind it.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { useChat } from '@ai-sdk/react'
import { convertToModelMessages, DefaultChatTransport, streamText } from 'ai'
import { createNodeMlx } from 'nodemlx/ai-sdk'
import { fakeModel } from 'nodemlx/testing'
import { createElement } from 'react'
import { create } from 'react-test-renderer'

const nodemlx = createNodeMlx({
  models: {
    slow: fakeModel({ answers: 'one two three four five', tokenMs: 200 }),
    broken: fakeModel({ answers: { text: 'Well', error: { code: 'MLX_ERROR' } } }),
  },
})
after(() => nodemlx.dispose())

const route = (name, signals) => async (request) => {
  const { messages } = await request.json()
  signals.push(request.signal)
  const result = streamText({
    model: nodemlx(name),
    temperature: 0,
    maxOutputTokens: 60,
    maxRetries: 0,
    messages: await convertToModelMessages(messages),
    abortSignal: request.signal,
    onError: () => undefined,
  })
  return result.toUIMessageStreamResponse()
}

/** A component that chats; what it sees is in `chat`. */
async function open(t, name) {
  const signals = []
  const handler = route(name, signals)
  const transport = new DefaultChatTransport({
    api: 'http://localhost/api/chat',
    fetch: (url, init) => handler(new Request(url, init)),
  })
  const seen = { chat: undefined, statuses: [], signals }
  function Page() {
    seen.chat = useChat({ transport })
    if (seen.statuses.at(-1) !== seen.chat.status) seen.statuses.push(seen.chat.status)
    return null
  }
  const page = create(createElement(Page))
  t.after(() => page.unmount())
  await until(() => seen.chat !== undefined)
  return seen
}

/** The component is rendered as it is on a page: some time after what it shows has changed. */
async function until(isSo) {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 5))
}

const textOf = ({ parts }) => parts.map(({ text }) => text ?? '').join('')

test('shows an answer, and takes it along with the next question', async (t) => {
  const seen = await open(t, 'demo')
  await seen.chat.sendMessage({ text: 'What is the capital of France?' })
  await until(() => seen.chat.status === 'ready')
  // An answer may be complete before the component is rendered again.
  const lasting = seen.statuses.filter((status) => status !== 'streaming')
  assert.deepEqual(lasting, ['ready', 'submitted', 'ready'])
  assert.deepEqual(
    seen.chat.messages.map(({ role }) => role),
    ['user', 'assistant'],
  )
  assert.match(textOf(seen.chat.messages[1]), /Paris/)
  await seen.chat.sendMessage({ text: 'And of Japan?' })
  await until(() => seen.chat.status === 'ready')
  assert.equal(seen.chat.messages.length, 4)
  assert.notEqual(textOf(seen.chat.messages[3]), '')
})

test('stops an answer, and keeps what there was', async (t) => {
  const seen = await open(t, 'slow')
  const sending = seen.chat.sendMessage({ text: 'Hi' })
  await until(() => seen.chat.messages.length === 2 && textOf(seen.chat.messages[1]) !== '')
  assert.equal(seen.chat.status, 'streaming')
  await seen.chat.stop()
  await sending
  await until(() => seen.chat.status === 'ready')
  assert.equal(seen.signals[0].aborted, true)
  assert.match(textOf(seen.chat.messages[1]), /^one( two( three( four)?)?)?$/)
})

test('tells of an answer that fails', async (t) => {
  const seen = await open(t, 'broken')
  await seen.chat.sendMessage({ text: 'Hi' })
  await until(() => seen.chat.status === 'error')
  assert.ok(seen.chat.error instanceof Error)
})
