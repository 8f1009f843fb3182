// npm's `openai` against the server at BASE_URL.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import OpenAI from 'openai'
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod'
import { z } from 'zod'

const client = new OpenAI({
  baseURL: `${process.env.BASE_URL}/v1`,
  apiKey: 'secret',
  maxRetries: 0,
})
const FRANCE = {
  model: 'demo',
  messages: [{ role: 'user', content: 'What is the capital of France?' }],
  temperature: 0,
}

test('a chat completion', async () => {
  const { choices, usage } = await client.chat.completions.create({ ...FRANCE, seed: 1 })
  assert.match(choices[0].message.content, /Paris/)
  assert.equal(choices[0].finish_reason, 'stop')
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
})

test('a streamed chat completion, with usage', async () => {
  const stream = await client.chat.completions.create({
    ...FRANCE,
    stream: true,
    stream_options: { include_usage: true },
  })
  let text = ''
  let usage
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? ''
    usage = chunk.usage ?? usage
  }
  assert.match(text, /Paris/)
  assert.ok(usage.completion_tokens > 0)
})

test("the client's own collector of streams", async () => {
  const final = await client.chat.completions.stream({ ...FRANCE, n: 2 }).finalChatCompletion()
  assert.equal(final.choices.length, 2)
  assert.match(final.choices[1].message.content, /Paris/)
})

test('log-probabilities', async () => {
  const request = { ...FRANCE, logprobs: true, top_logprobs: 3, max_completion_tokens: 2 }
  const { choices } = await client.chat.completions.create(request)
  assert.equal(choices[0].logprobs.content.length, 2)
  assert.equal(choices[0].logprobs.content[0].top_logprobs.length, 3)
})

test('a text completion', async () => {
  const { choices } = await client.completions.create({ model: 'demo', prompt: 'Once upon' })
  assert.ok(choices[0].text.length > 0)
})

test('a response, streamed, and one that goes on from it', async () => {
  const stream = client.responses.stream({ model: 'demo', input: 'My name is Ann.' })
  const types = []
  for await (const { type } of stream) types.push(type)
  const first = await stream.finalResponse()
  assert.equal(types.at(-1), 'response.completed')
  assert.ok(first.output_text.length > 0)
  const next = await client.responses.create({
    model: 'demo',
    input: 'What is the capital of France?',
    previous_response_id: first.id,
  })
  assert.ok(next.usage.input_tokens > first.usage.total_tokens)
  assert.equal((await client.responses.retrieve(first.id)).id, first.id)
})

test('the list of models', async () => {
  const ids = []
  for await (const { id } of client.models.list()) ids.push(id)
  assert.deepEqual(ids, ['demo', 'embedder'])
  assert.equal((await client.models.retrieve('demo')).id, 'demo')
})

test('errors are those of the client', async () => {
  await assert.rejects(client.chat.completions.create({ ...FRANCE, model: 'x' }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError)
    assert.equal(error.code, 'model_not_found')
    assert.equal(error.param, 'model')
    return true
  })
  await assert.rejects(
    client.chat.completions.create({ ...FRANCE, temperature: 50 }),
    OpenAI.BadRequestError,
  )
  const stranger = client.withOptions({ apiKey: 'wrong' })
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError)
  await assert.rejects(
    client.embeddings.create({ model: 'embedder', input: 'x', dimensions: 99 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === 'dimensions',
  )
})

test('embeddings', async () => {
  const input = ['A fox ran away.', 'Bread needs yeast.']
  const { data, usage, model } = await client.embeddings.create({ model: 'embedder', input })
  assert.equal(model, 'embedder')
  assert.deepEqual(
    data.map(({ index }) => index),
    [0, 1],
  )
  // The client asks for base64 where nothing else is said, and decodes it.
  assert.equal(data[0].embedding.length, 32)
  const options = { model: 'embedder', input, encoding_format: 'float' }
  const floats = await client.embeddings.create(options)
  data[1].embedding.forEach((value, at) =>
    assert.ok(Math.abs(value - floats.data[1].embedding[at]) < 1e-6),
  )
  assert.equal(usage.total_tokens, floats.usage.prompt_tokens)
  const short = await client.embeddings.create({ ...options, dimensions: 8 })
  assert.equal(short.data[0].embedding.length, 8)
})

test('a stream that is left', async () => {
  const stream = await client.chat.completions.create({
    ...FRANCE,
    messages: [{ role: 'user', content: 'Tell me a long story.' }],
    stream: true,
  })
  for await (const chunk of stream) {
    assert.ok(chunk)
    break
  }
  assert.ok(stream.controller.signal.aborted)
})

const WEATHER = {
  type: 'object',
  properties: { city: { type: 'string', description: 'The name of the city' } },
  required: ['city'],
}
const describe = { name: 'get_weather', description: 'Get the weather in a city' }
const tools = [{ type: 'function', function: { ...describe, parameters: WEATHER } }]
const messages = [{ role: 'user', content: 'What is the weather in Paris?' }]

test('a call of a tool, and an answer from its result', async () => {
  const { choices } = await client.chat.completions.create({ ...FRANCE, messages, tools })
  const [{ message, finish_reason: reason }] = choices
  assert.equal(reason, 'tool_calls')
  assert.equal(message.tool_calls[0].function.name, 'get_weather')
  assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { city: 'Paris' })
  const result = { role: 'tool', tool_call_id: message.tool_calls[0].id, content: '{"temp": 21}' }
  const next = await client.chat.completions.create({
    ...FRANCE,
    messages: [...messages, message, result],
    tools,
  })
  assert.match(next.choices[0].message.content, /21/)
})

const RESULT = '{"city": "Paris", "temperature": 21, "condition": "sunny"}'

test('a call of a tool, and an object from its result', async () => {
  const schema = {
    type: 'object',
    properties: { temperature: { type: 'integer', minimum: -50, maximum: 50 } },
    required: ['temperature'],
    additionalProperties: false,
  }
  const format = { type: 'json_schema', json_schema: { name: 'weather', strict: true, schema } }
  const request = { ...FRANCE, messages, tools, response_format: format }
  const { choices } = await client.chat.completions.create(request)
  const [{ message, finish_reason: reason }] = choices
  assert.equal(reason, 'tool_calls')
  assert.equal(message.content, null)
  const content = '{"city": "Paris", "temperature": 21}'
  const result = { role: 'tool', tool_call_id: message.tool_calls[0].id, content }
  const next = { ...request, messages: [...messages, message, result] }
  const answer = (await client.chat.completions.create(next)).choices[0]
  assert.equal(answer.finish_reason, 'stop')
  assert.ok(Number.isInteger(JSON.parse(answer.message.content).temperature))
  const response = await client.responses.create({
    model: 'demo',
    input: messages,
    temperature: 0,
    tools: [{ type: 'function', ...describe, parameters: WEATHER, strict: false }],
    text: { format: { type: 'json_schema', name: 'weather', strict: true, schema } },
  })
  assert.equal(response.output.find(({ type }) => type === 'function_call').name, 'get_weather')
})

test('a streamed call of a tool', async () => {
  const stream = client.chat.completions.stream({ ...FRANCE, messages, tools })
  const { message, finish_reason: reason } = (await stream.finalChatCompletion()).choices[0]
  assert.equal(reason, 'tool_calls')
  assert.equal(message.tool_calls[0].function.arguments.replaceAll(' ', ''), '{"city":"Paris"}')
})

test('a call of a tool in a response', async () => {
  const { output } = await client.responses.create({
    model: 'demo',
    input: messages,
    temperature: 0,
    tools: [{ type: 'function', ...describe, parameters: WEATHER, strict: false }],
  })
  const call = output.find(({ type }) => type === 'function_call')
  assert.equal(call.name, 'get_weather')
  assert.deepEqual(JSON.parse(call.arguments), { city: 'Paris' })
})

test('the tokens of a request are counted', async () => {
  const request = {
    model: 'demo',
    input: messages,
    instructions: 'Be brief.',
    tools: [{ type: 'function', ...describe, parameters: WEATHER, strict: false }],
  }
  const { object, input_tokens: count } = await client.responses.inputTokens.count(request)
  const { usage } = await client.responses.create({ ...request, max_tool_calls: 3 })
  assert.deepEqual([object, count], ['response.input_tokens', usage.input_tokens])
})

test("the client's own runner of tools", async () => {
  const own = { ...describe, parameters: WEATHER, parse: JSON.parse }
  const called = []
  const run = (city) => {
    called.push(city)
    return { ...city, temperature: 21, condition: 'sunny' }
  }
  for (const stream of [false, true]) {
    const tools = [{ type: 'function', function: { ...own, function: run } }]
    const runner = client.chat.completions.runTools({ ...FRANCE, messages, tools, stream })
    assert.match(await runner.finalContent(), /sunny/)
  }
  assert.deepEqual(called, [{ city: 'Paris' }, { city: 'Paris' }])
})

test('objects of a schema of zod', async () => {
  const schema = z.object({ city: z.string() })
  const request = { ...FRANCE, response_format: zodResponseFormat(schema, 'answer') }
  const { choices } = await client.chat.completions.parse(request)
  assert.match(choices[0].message.parsed.city, /Paris/)
  const text = { format: zodTextFormat(schema, 'answer') }
  const asked = { model: 'demo', input: FRANCE.messages, temperature: 0, text }
  const { output_parsed: object } = await client.responses.parse(asked)
  assert.match(object.city, /Paris/)
})

test('a streamed call of a tool in a response, and an answer from its result', async () => {
  const strict = { ...WEATHER, additionalProperties: false }
  const tools = [{ type: 'function', ...describe, parameters: strict, strict: true }]
  const request = { model: 'demo', temperature: 0, tools }
  const stream = client.responses.stream({ ...request, input: messages })
  let written = ''
  stream.on('response.function_call_arguments.delta', ({ delta }) => (written += delta))
  const { id, output } = await stream.finalResponse()
  const call = output.find(({ type }) => type === 'function_call')
  assert.deepEqual([JSON.parse(written), call.arguments], [{ city: 'Paris' }, written])
  const result = { type: 'function_call_output', call_id: call.call_id, output: RESULT }
  const next = client.responses.stream({ ...request, previous_response_id: id, input: [result] })
  assert.match((await next.finalResponse()).output_text, /sunny/)
})

test('a model that never reasons, asked not to, and to', async () => {
  for (const effort of ['none', 'low']) {
    const asked = { ...FRANCE, reasoning_effort: effort }
    const { choices } = await client.chat.completions.create(asked)
    assert.match(choices[0].message.content, /Paris/)
  }
})

test('prompts that are scored, many at once', async () => {
  const prompt = Array.from({ length: 20 }, (_, index) => `The number ${index}`)
  const request = { model: 'demo', prompt, echo: true, logprobs: 1, max_tokens: 0, seed: -1 }
  const { choices } = await client.completions.create(request)
  assert.deepEqual(
    choices.map(({ text }) => text),
    prompt,
  )
  for (const { logprobs } of choices) {
    assert.equal(logprobs.token_logprobs[0], null)
    assert.ok(logprobs.token_logprobs.slice(1).every((value) => value <= 0))
  }
})

test('the input of a response, and an item of it by reference', async () => {
  const first = await client.responses.create({ model: 'demo', input: 'Hi', temperature: 0 })
  const items = []
  for await (const item of client.responses.inputItems.list(first.id)) items.push(item)
  assert.equal(items.length, 1)
  const input = [...items, { type: 'item_reference', id: first.output[0].id }]
  const next = await client.responses.create({
    model: 'demo',
    input: [...input, { role: 'user', content: 'And?' }],
  })
  assert.ok(next.usage.input_tokens > first.usage.input_tokens)
  await assert.rejects(client.responses.cancel(first.id), OpenAI.BadRequestError)
})

test('500 requests, 32 at once, of which some are left', async () => {
  const request = { ...FRANCE, max_completion_tokens: 3 }
  const { choices } = await client.chat.completions.create(request)
  const expected = choices[0].message.content
  let next = 0
  let answered = 0
  const ask = async () => {
    while (next < 500) {
      const number = next++
      const stream = await client.chat.completions.create({ ...request, stream: true })
      let text = ''
      for await (const chunk of stream) {
        text += chunk.choices[0]?.delta.content ?? ''
        if (number % 7 === 3) break
      }
      if (number % 7 === 3) continue
      assert.equal(text, expected)
      answered++
    }
  }
  await Promise.all(Array.from({ length: 32 }, ask))
  assert.equal(answered, 500 - Math.ceil((500 - 3) / 7))
})

test('JSON mode gives an object', async () => {
  const messages = [{ role: 'user', content: 'How much is 1 + 1? Answer with a number.' }]
  const request = { ...FRANCE, messages, max_completion_tokens: 30 }
  const format = { type: 'json_object' }
  const { choices } = await client.chat.completions.create({ ...request, response_format: format })
  assert.match(choices[0].message.content, /^\s*\{/)
  const response = await client.responses.create({
    model: 'demo',
    input: messages,
    max_output_tokens: 30,
    text: { format },
  })
  assert.match(response.output_text, /^\s*\{/)
})

test('an effort that the model knows nothing of changes nothing', async () => {
  const plain = await client.chat.completions.create(FRANCE)
  const { choices } = await client.chat.completions.create({ ...FRANCE, reasoning_effort: 'high' })
  assert.equal(choices[0].message.content, plain.choices[0].message.content)
})
