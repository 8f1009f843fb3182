// npm's `@anthropic-ai/sdk` against the server at BASE_URL.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import { betaZodTool } from '@anthropic-ai/sdk/helpers/beta/zod'
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod'
import { z } from 'zod'

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

test('a streamed message tells first what was cached', async () => {
  await client.messages.create(FRANCE)
  const stream = client.messages.stream(FRANCE)
  let first
  stream.on('streamEvent', ({ type, message }) => {
    if (type === 'message_start') first = { ...message.usage }
  })
  const { usage } = await stream.finalMessage()
  assert.ok(first.cache_read_input_tokens > 0)
  assert.deepEqual(first, { ...usage, output_tokens: 0 })
})

test('a count of tokens', async () => {
  const { model, messages: asked } = FRANCE
  const { input_tokens: count } = await client.messages.countTokens({ model, messages: asked })
  const { usage } = await client.messages.create(FRANCE)
  assert.equal(count, usage.input_tokens + usage.cache_read_input_tokens)
})

test('the list of models', async () => {
  const { data } = await client.models.list()
  assert.deepEqual(
    data.map(({ id }) => id),
    ['demo', 'embedder'],
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

const tools = [
  {
    name: 'get_weather',
    description: 'Get the weather in a city',
    input_schema: {
      type: 'object',
      properties: { city: { type: 'string', description: 'The name of the city' } },
      required: ['city'],
    },
  },
]
const messages = [{ role: 'user', content: 'What is the weather in Paris?' }]

test('a call of a tool, and an answer from its result', async () => {
  const request = { ...FRANCE, messages, tools }
  const { content, stop_reason: reason } = await client.messages.create(request)
  assert.equal(reason, 'tool_use')
  const call = content.find(({ type }) => type === 'tool_use')
  assert.deepEqual([call.name, call.input], ['get_weather', { city: 'Paris' }])
  const result = { type: 'tool_result', tool_use_id: call.id, content: '{"temp": 21}' }
  const next = await client.messages.create({
    ...request,
    messages: [...messages, { role: 'assistant', content }, { role: 'user', content: [result] }],
  })
  assert.match(next.content[0].text, /21/)
})

const RESULT = '{"city": "Paris", "temperature": 21, "condition": "sunny"}'

test('a call of a tool, and an object from its result', async () => {
  const schema = {
    type: 'object',
    properties: { temperature: { type: 'integer' } },
    required: ['temperature'],
    additionalProperties: false,
  }
  const format = { type: 'json_schema', schema }
  const request = { ...FRANCE, messages, tools, output_config: { format } }
  const { content, stop_reason: reason } = await client.messages.create(request)
  assert.equal(reason, 'tool_use')
  const call = content.find(({ type }) => type === 'tool_use')
  const result = { type: 'tool_result', tool_use_id: call.id, content: RESULT }
  const next = await client.messages.create({
    ...request,
    tool_choice: { type: 'none' },
    messages: [...messages, { role: 'assistant', content }, { role: 'user', content: [result] }],
  })
  assert.equal(next.stop_reason, 'end_turn')
  assert.ok(Number.isInteger(JSON.parse(next.content[0].text).temperature))
})

test("the client's own runner of tools", async () => {
  const weather = betaZodTool({
    ...{ name: 'get_weather', description: 'Get the weather in a city' },
    inputSchema: z.object({ city: z.string().describe('The name of the city') }),
    run: () => RESULT,
  })
  const request = { ...FRANCE, messages, tools: [weather] }
  const { content } = await client.beta.messages.toolRunner(request)
  assert.match(content[0].text, /sunny/)
  const streamed = client.beta.messages.toolRunner({ ...request, stream: true })
  const types = []
  for await (const stream of streamed) for await (const { type } of stream) types.push(type)
  assert.equal(types.filter((type) => type === 'message_stop').length, 2)
  const held = client.beta.messages.thread({ ...FRANCE, messages: [] })
  await assert.rejects(held.send(messages), /this server keeps no conversations/)
})

test('an edit that keeps everything', async () => {
  const edits = [{ type: 'clear_thinking_20251015', keep: 'all' }]
  const request = { ...FRANCE, context_management: { edits } }
  const { content } = await client.beta.messages.create(request)
  assert.match(content[0].text, /Paris/)
  const clear = { edits: [{ type: 'clear_tool_uses_20250919' }] }
  await assert.rejects(
    client.beta.messages.create({ ...FRANCE, context_management: clear }),
    /edits.0: this server edits no conversations/,
  )
})

test('an object of a schema of zod', async () => {
  const format = zodOutputFormat(z.object({ city: z.string() }))
  const { parsed_output: object } = await client.messages.parse({
    ...FRANCE,
    output_config: { format },
  })
  assert.match(object.city, /Paris/)
})

test('a streamed call of a tool', async () => {
  const stream = client.messages.stream({ ...FRANCE, messages, tools })
  const { content, stop_reason: reason } = await stream.finalMessage()
  assert.equal(reason, 'tool_use')
  assert.deepEqual(content.find(({ type }) => type === 'tool_use').input, { city: 'Paris' })
})

test('a model that never thinks, asked not to', async () => {
  for (const type of ['disabled', 'adaptive']) {
    const { content } = await client.messages.create({ ...FRANCE, thinking: { type } })
    assert.match(content[0].text, /Paris/)
  }
})

test('thinking that the model knows nothing of changes nothing', async () => {
  const plain = await client.messages.create(FRANCE)
  const thinking = { type: 'enabled', budget_tokens: 1024 }
  const asked = { ...FRANCE, max_tokens: 2048, thinking }
  const { content } = await client.messages.create(asked)
  assert.deepEqual(content, plain.content)
  const final = await client.messages.stream(asked).finalMessage()
  assert.deepEqual(final.content, plain.content)
  const effort = { ...FRANCE, output_config: { effort: 'high' } }
  assert.deepEqual((await client.messages.create(effort)).content, plain.content)
})
