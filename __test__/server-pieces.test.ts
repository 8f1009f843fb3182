// Reasoning, calls of tools and failures of a model, in the shape of each API.

import { afterEach, describe, expect, it } from 'vitest'
import { fakeModel, type FakeAnswers, type FakeModel } from '../js/testing/index.js'
import { Client, events, type Json } from './support/http.js'

const CHAT = '/v1/chat/completions'
const MESSAGES = '/v1/messages'
const RESPONSES = '/v1/responses'

const WEATHER = { type: 'object', properties: { city: { type: 'string' } } }
const CALL = { name: 'get_weather', arguments: { city: 'Paris' }, id: 'call00001' }
const ASKED = [{ role: 'user', content: 'How is the weather in Paris?' }]

const clients: Client[] = []
afterEach(async () => {
  await Promise.all(clients.splice(0).map(({ handler }) => handler.close()))
})

function answering(answers: FakeAnswers): { client: Client; model: FakeModel } {
  const model = fakeModel({ answers })
  const client = new Client({ models: { fake: model } })
  clients.push(client)
  return { client, model }
}

async function ask(client: Client, path: string, body: object): Promise<Json> {
  return (await client.post(path, { model: 'fake', ...body })).json()
}

async function stream(client: Client, path: string, body: object): Promise<Json[]> {
  const response = await client.post(path, { model: 'fake', stream: true, ...body })
  return events(await response.text()).map(({ data }) => data)
}

describe('a text completion', () => {
  it('is all that the model wrote, reasoning and calls too, also as a stream', async () => {
    const { client } = answering({ reasoning: 'hmm', text: 'ans', toolCalls: [CALL] })
    const path = '/v1/completions'
    const body = { prompt: 'x', logprobs: 1, max_tokens: 500 }
    const { choices, usage } = await ask(client, path, body)
    const [{ text, logprobs }] = choices
    expect(text).toMatch(/^<think>hmm.*ans.*get_weather/s)
    expect(logprobs.tokens.join('')).toBe(text)
    expect(logprobs.tokens).toHaveLength(usage.completion_tokens as number)
    const chunks = await stream(client, path, body)
    const pieces = chunks.slice(0, -1).map((chunk) => chunk.choices[0])
    expect(pieces.map((piece) => piece.text as string).join('')).toBe(text)
    expect(pieces.flatMap((piece) => piece.logprobs?.tokens ?? [])).toEqual(logprobs.tokens)
  })
})

describe('reasoning', () => {
  const ANSWER = { reasoning: 'I have to look.', text: 'It is sunny.' }

  it('is beside the content of a chat', async () => {
    const { client } = answering(ANSWER)
    const { choices, usage } = await ask(client, CHAT, { messages: ASKED })
    expect(choices[0].message).toMatchObject({
      content: 'It is sunny.',
      reasoning_content: 'I have to look.',
      reasoning: 'I have to look.',
    })
    expect(usage.completion_tokens_details.reasoning_tokens).toBeGreaterThan(0)
    const chunks = (await stream(client, CHAT, { messages: ASKED })).slice(0, -1)
    const deltas = chunks.map((chunk) => chunk.choices[0].delta)
    const join = (name: string): string => deltas.map((delta) => delta[name] ?? '').join('')
    expect(join('reasoning_content')).toBe('I have to look.')
    expect(join('content')).toBe('It is sunny.')
  })

  it('is a block of a message', async () => {
    const { client } = answering(ANSWER)
    const body = { messages: ASKED, max_tokens: 100 }
    expect((await ask(client, MESSAGES, body)).content).toEqual([
      { type: 'thinking', thinking: 'I have to look.', signature: '' },
      { type: 'text', text: 'It is sunny.', citations: null },
    ])
    const all = await stream(client, MESSAGES, body)
    const starts = all.filter(({ type }) => type === 'content_block_start')
    expect(starts.map(({ index, content_block: { type } }) => [index, type])).toEqual([
      [0, 'thinking'],
      [1, 'text'],
    ])
    const deltas = all.filter(({ type }) => type === 'content_block_delta')
    expect(deltas.map(({ delta }) => delta.thinking ?? '').join('')).toBe('I have to look.')
    expect(deltas.filter(({ delta }) => delta.type === 'signature_delta')).toHaveLength(1)
  })

  it('is an item of a response', async () => {
    const { client } = answering(ANSWER)
    const { output } = await ask(client, RESPONSES, { input: 'Hi' })
    expect(output.map(({ type }: Json) => type)).toEqual(['reasoning', 'message'])
    expect(output[0].content).toEqual([{ type: 'reasoning_text', text: 'I have to look.' }])
    const all = await stream(client, RESPONSES, { input: 'Hi' })
    const last = all.at(-1)
    expect(last.response.output.map(({ content }: Json) => content)).toEqual(
      output.map(({ content }: Json) => content),
    )
  })

  it('of an earlier turn goes back to the model', async () => {
    const { client, model } = answering('Fine.')
    const turn = { role: 'assistant', content: 'Hello', reasoning: 'Greet.' }
    await ask(client, CHAT, { messages: [...ASKED, turn, ...ASKED] })
    expect(model.requests[0]?.messages?.[1]).toMatchObject({ reasoning_content: 'Greet.' })
  })
})

describe('calls of tools', () => {
  const ANSWER = { text: 'I look.', toolCalls: [CALL, { ...CALL, id: 'call00002' }] }

  it('are those of a chat', async () => {
    const { client, model } = answering(ANSWER)
    const tools = [{ type: 'function', function: { name: 'get_weather', parameters: WEATHER } }]
    const body = { messages: ASKED, tools, tool_choice: 'auto' }
    const { choices } = await ask(client, CHAT, body)
    expect(choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: {
        content: 'I look.',
        tool_calls: [
          {
            id: 'call00001',
            type: 'function',
            function: { name: 'get_weather', arguments: '{"city":"Paris"}' },
          },
          { id: 'call00002' },
        ],
      },
    })
    expect(model.requests[0]?.tools).toEqual(tools)
    const chunks = (await stream(client, CHAT, body)).slice(0, -1)
    const pieces = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? [])
    const calls = [0, 1].map((index) => pieces.filter((piece) => piece.index === index))
    for (const own of calls) {
      const [first, ...rest] = own
      expect(first).toMatchObject({ type: 'function', function: { name: 'get_weather' } })
      expect(rest.map((piece) => piece.function.arguments).join('')).toBe('{"city":"Paris"}')
    }
    expect(chunks.at(-1)?.choices[0].finish_reason).toBe('tool_calls')
  })

  it('are blocks of a message', async () => {
    const { client, model } = answering(ANSWER)
    const tools = [{ name: 'get_weather', input_schema: WEATHER }]
    const body = { messages: ASKED, tools, max_tokens: 100 }
    expect(await ask(client, MESSAGES, body)).toMatchObject({
      stop_reason: 'tool_use',
      content: [
        { type: 'text' },
        { type: 'tool_use', id: 'call00001', name: 'get_weather', input: { city: 'Paris' } },
        { type: 'tool_use', id: 'call00002' },
      ],
    })
    expect(model.requests[0]?.tools?.[0]?.function.parameters).toEqual(WEATHER)
    const all = await stream(client, MESSAGES, body)
    const json = all.filter(({ delta }) => delta?.type === 'input_json_delta')
    const second = json.filter(({ index }) => index === 2)
    expect(second.map(({ delta }) => delta.partial_json).join('')).toBe('{"city":"Paris"}')
    const stops = all.filter(({ type }) => type === 'content_block_stop')
    expect(stops.map(({ index }) => index)).toEqual([0, 1, 2])
  })

  it('are items of a response', async () => {
    const { client } = answering(ANSWER)
    const tools = [{ type: 'function', name: 'get_weather', parameters: WEATHER }]
    const { output } = await ask(client, RESPONSES, { input: 'Hi', tools })
    expect(output[1]).toMatchObject({
      type: 'function_call',
      call_id: 'call00001',
      name: 'get_weather',
      arguments: '{"city":"Paris"}',
      status: 'completed',
    })
    const all = await stream(client, RESPONSES, { input: 'Hi', tools })
    const done = all.filter(({ type }) => type === 'response.function_call_arguments.done')
    expect(done.map((event) => event.arguments)).toEqual(['{"city":"Paris"}', '{"city":"Paris"}'])
    const { response } = all.at(-1)
    expect(response.output.map(({ type }: Json) => type)).toEqual([
      'message',
      'function_call',
      'function_call',
    ])
  })

  it('that are to be made, or not, are told to the model', async () => {
    const { client, model } = answering({ toolCalls: [CALL] })
    const tools = [{ type: 'function', function: { name: 'get_weather' } }]
    await ask(client, CHAT, { messages: ASKED, tools, tool_choice: 'none' })
    const anthropic = { messages: ASKED, max_tokens: 50, tools: [{ name: 'get_weather' }] }
    await ask(client, MESSAGES, { ...anthropic, tool_choice: { type: 'none' } })
    // The tools are then not told to the model at all.
    for (const { tools: told } of model.requests) expect(told ?? []).toEqual([])
    expect(model.requests).toHaveLength(2)
  })

  it('that cannot be read are text, and do not count', async () => {
    const { client } = answering({
      parts: [
        { invalidToolCall: { raw: '<tool_call>{</tool_call>', error: 'no JSON' } },
        { toolCall: CALL },
      ],
    })
    const tools = [{ type: 'function', function: { name: 'get_weather' } }]
    const { choices } = await ask(client, CHAT, { messages: ASKED, tools })
    expect(choices[0].message.content).toBe('<tool_call>{</tool_call>')
    expect(choices[0].message.tool_calls).toHaveLength(1)
    const chunks = (await stream(client, CHAT, { messages: ASKED, tools })).slice(0, -1)
    const [first] = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? [])
    expect(first.index).toBe(0)
  })
})

describe('an answer that fails', () => {
  const FAILS = { text: 'Well', error: { code: 'MLX_ERROR', message: 'out of memory' } }

  it('is an error of the server', async () => {
    const { client } = answering(FAILS)
    const response = await client.post(CHAT, { model: 'fake', messages: ASKED })
    expect(response.status).toBe(500)
    expect(await response.json()).toMatchObject({ error: { type: 'server_error' } })
    const message = { model: 'fake', messages: ASKED, max_tokens: 9 }
    const other = await client.post(MESSAGES, message)
    expect(other.status).toBe(500)
    expect(await other.json()).toMatchObject({ error: { type: 'api_error' } })
  })

  it('ends a stream with an error that clients know', async () => {
    const { client } = answering(FAILS)
    const chat = await stream(client, CHAT, { messages: ASKED })
    expect(chat.at(-1)).toMatchObject({ error: { message: 'out of memory' } })
    const message = await stream(client, MESSAGES, { messages: ASKED, max_tokens: 9 })
    expect(message.at(-1)).toMatchObject({ type: 'error', error: { type: 'api_error' } })
    expect(message[0].type).toBe('message_start')
  })

  it('ends the stream of a response that has begun as one that failed', async () => {
    const { client } = answering({ text: 'a b c', error: { code: 'MLX_ERROR', message: 'boom' } })
    const all = await stream(client, RESPONSES, { input: 'hi' })
    all.forEach((event, index) => {
      expect(event.sequence_number).toBe(index)
    })
    const [error, failed] = all.slice(-2)
    expect(error).toMatchObject({ type: 'error', code: 'mlx_error', message: 'boom', param: null })
    expect(failed).toMatchObject({
      type: 'response.failed',
      response: { status: 'failed', error: { code: 'server_error', message: 'boom' } },
    })
    const { response } = failed
    const kept = await client.get(`${RESPONSES}/${String(response.id)}`)
    expect(await kept.json()).toEqual(response)
  })

  it('is told to the server, in streams too', async () => {
    const told: unknown[] = []
    const client = new Client({
      models: { fake: fakeModel({ answers: FAILS }) },
      onError: (error) => told.push(error),
    })
    clients.push(client)
    await stream(client, CHAT, { messages: ASKED })
    await stream(client, RESPONSES, { input: 'hi' })
    await ask(client, CHAT, { messages: ASKED })
    expect(told).toMatchObject([
      { code: 'MLX_ERROR' },
      { code: 'MLX_ERROR' },
      { code: 'MLX_ERROR' },
    ])
  })

  it('is answered, whatever who is told of it does', async () => {
    const model = fakeModel({ answers: { error: { code: 'MLX_ERROR' } } })
    const tellers = [
      () => {
        throw new Error('mine')
      },
      () => Promise.reject(new Error('mine')) as unknown as undefined,
    ]
    for (const onError of tellers) {
      const client = new Client({ models: { fake: model }, onError })
      clients.push(client)
      const { status } = await client.post(CHAT, { model: 'fake', messages: ASKED })
      expect(status).toBe(500)
    }
  })

  it('because the engine died has the model loaded anew', async () => {
    let loads = 0
    const load = () => {
      loads++
      const dead = { error: { code: 'ENGINE_FAILED', message: 'the engine died' } }
      return Promise.resolve(fakeModel({ answers: loads === 1 ? dead : 'Hello!' }))
    }
    const client = new Client({ models: { fake: load } })
    clients.push(client)
    const first = await client.post(CHAT, { model: 'fake', messages: ASKED })
    expect(first.status).toBe(503)
    const second = await ask(client, CHAT, { messages: ASKED })
    expect(second.choices[0].message.content).toBe('Hello!')
  })
})

it.each([
  [CHAT, { messages: ASKED, response_format: { type: 'json_object' } }],
  [RESPONSES, { input: ASKED, text: { format: { type: 'json_object' } } }],
])('an object is asked for where a format of JSON is: %s', async (path, body) => {
  const { client, model } = answering({ object: {} })
  expect((await client.post(path, { model: 'fake', ...body })).status).toBe(200)
  const { responseFormat } = model.requests[0]?.options as { responseFormat: Json }
  expect(JSON.parse(responseFormat.schemaJson as string)).toEqual({ type: 'object' })
})

it('what a conversation had before is not read again, and told in each API', async () => {
  const { client } = answering('Hello!')
  const { usage } = await ask(client, CHAT, { messages: ASKED })
  expect(usage.prompt_tokens_details.cached_tokens).toBe(0)
  const answer = { role: 'assistant', content: 'Hello!' }
  const next = await ask(client, CHAT, { messages: [...ASKED, answer, ...ASKED] })
  expect(next.usage.prompt_tokens_details.cached_tokens).toBeGreaterThanOrEqual(
    usage.prompt_tokens - 1,
  )
  const other = await ask(client, CHAT, { messages: [{ role: 'user', content: 'Another' }] })
  expect(other.usage.prompt_tokens_details.cached_tokens).toBe(0)
  const message = await ask(client, MESSAGES, { messages: ASKED, max_tokens: 9 })
  const { input_tokens: read, cache_read_input_tokens: cached } = message.usage as Record<
    string,
    number
  >
  expect((read ?? 0) + (cached ?? 0)).toBe(usage.prompt_tokens)
})
