// npm's `@anthropic-ai/sdk` against the server at BASE_URL.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'

const client = new Anthropic({ baseURL: process.env.BASE_URL, apiKey: 'secret', maxRetries: 0 })
const FRANCE = {
  model: 'demo',
  max_tokens: 64,
  messages: [{ role: 'user', content: 'What is the capital of France?' }],
  temperature: 0,
}

test('a message', async () => {
  const { content, stop_reason: reason, usage } = await client.messages.create(FRANCE)
  assert.match(content[0].text, /Paris/)
  assert.equal(reason, 'end_turn')
  assert.ok(usage.input_tokens > 0 && usage.output_tokens > 0)
})

test('a streamed message', async () => {
  const stream = client.messages.stream(FRANCE)
  let text = ''
  stream.on('text', (piece) => (text += piece))
  const final = await stream.finalMessage()
  assert.equal(final.content[0].text, text)
  assert.match(text, /Paris/)
  assert.equal(final.stop_reason, 'end_turn')
  const events = []
  for await (const { type } of await client.messages.create({ ...FRANCE, stream: true }))
    events.push(type)
  assert.equal(events[0], 'message_start')
  assert.equal(events.at(-1), 'message_stop')
})

test('a count of tokens', async () => {
  const { max_tokens: _, temperature: __, ...prompt } = FRANCE
  const { input_tokens: count } = await client.messages.countTokens(prompt)
  assert.equal(count, (await client.messages.create(FRANCE)).usage.input_tokens)
})

test('the list of models', async () => {
  const { data } = await client.models.list()
  assert.deepEqual(
    data.map(({ id }) => id),
    ['demo'],
  )
})

test('errors are those of the client', async () => {
  await assert.rejects(client.messages.create({ ...FRANCE, model: 'x' }), (error) => {
    assert.ok(error instanceof Anthropic.NotFoundError)
    assert.equal(error.error.error.type, 'not_found_error')
    assert.match(error.requestID, /^req_/)
    return true
  })
  await assert.rejects(
    client.messages.create({ ...FRANCE, max_tokens: 0 }),
    Anthropic.BadRequestError,
  )
  const stranger = client.withOptions({ apiKey: 'wrong' })
  await assert.rejects(stranger.messages.create(FRANCE), Anthropic.AuthenticationError)
})
