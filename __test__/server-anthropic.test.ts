// The routes of Anthropic's API, asked as `fetch` asks them, with the demo model.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fakeModel } from '../js/testing/index.js'
import { Client, events, type Json } from './support/http.js'

const MESSAGES = '/v1/messages'
const FRANCE = { role: 'user', content: 'What is the capital of France?' }

let client: Client
beforeAll(() => {
  client = new Client({ models: { demo: { model: 'demo', prefixCache: false } } })
})
afterAll(() => client.handler.close())

const message = (fields: object = {}): object => ({
  model: 'demo',
  max_tokens: 64,
  messages: [FRANCE],
  temperature: 0,
  ...fields,
})

async function ask(body: unknown, path = MESSAGES): Promise<{ status: number; body: Json }> {
  const response = await client.post(path, body, { headers: { 'anthropic-version': '2023-06-01' } })
  return { status: response.status, body: await response.json() }
}

/** The tokens of a prompt, those that were known included. */
const read = (usage: Record<string, number>): number =>
  (usage['input_tokens'] ?? 0) + (usage['cache_read_input_tokens'] ?? 0)

describe('messages', () => {
  it('are answered with blocks and usage', async () => {
    const { status, body } = await ask(message())
    expect(status).toBe(200)
    expect(body).toEqual({
      id: expect.stringMatching(/^msg_\w{32}$/) as string,
      type: 'message',
      role: 'assistant',
      model: 'demo',
      content: [
        { type: 'text', text: expect.stringContaining('Paris') as string, citations: null },
      ],
      stop_reason: 'end_turn',
      stop_sequence: null,
      usage: {
        input_tokens: expect.any(Number) as number,
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: 0,
        output_tokens: expect.any(Number) as number,
      },
    })
  })

  it('are streamed as events', async () => {
    const { body: whole } = await ask(message())
    const response = await client.post(MESSAGES, message({ stream: true }))
    const all = events(await response.text())
    for (const { event, data } of all) expect(data.type).toBe(event)
    const names = all.map(({ event }) => event)
    expect(names.filter((name) => name !== 'content_block_delta')).toEqual([
      'message_start',
      'content_block_start',
      'content_block_stop',
      'message_delta',
      'message_stop',
    ])
    expect(all[0]?.data.message).toMatchObject({
      role: 'assistant',
      content: [],
      stop_reason: null,
    })
    const first = all[0]?.data.message.usage
    expect(read(first)).toBe(read(whole.usage))
    const text = all.map(({ data }) => (data.delta?.text as string | undefined) ?? '').join('')
    expect(text).toBe(whole.content[0].text)
    const { delta, usage } = (all.at(-2) as Json).data
    expect(delta).toEqual({ stop_reason: 'end_turn', stop_sequence: null })
    expect(usage).toMatchObject({ output_tokens: whole.usage.output_tokens })
    expect({ ...usage, output_tokens: 0 }).toEqual(first)
  })

  it('end where the request says', async () => {
    expect((await ask(message({ max_tokens: 2 }))).body).toMatchObject({
      stop_reason: 'max_tokens',
      usage: { output_tokens: 2 },
    })
    expect((await ask(message({ stop_sequences: [' Paris'] }))).body).toMatchObject({
      stop_reason: 'stop_sequence',
      stop_sequence: ' Paris',
    })
  })

  it('may be blocks, of the same speaker twice, and a beginning of the answer', async () => {
    const { status, body } = await ask(
      message({
        system: [{ type: 'text', text: 'Be brief.', cache_control: { type: 'ephemeral' } }],
        messages: [
          { role: 'user', content: [{ type: 'text', text: 'A question.' }] },
          FRANCE,
          { role: 'assistant', content: 'The capital of France is' },
        ],
        metadata: { user_id: 'x' },
      }),
    )
    expect({ status, error: body.error }).toEqual({ status: 200, error: undefined })
    expect(body.content[0].text).toMatch(/^ ?Paris/)
  })

  it('are not disturbed by asking a model that never thinks to do so, or not to', async () => {
    const plain = await ask(message())
    const asking = [
      { thinking: { type: 'disabled' } },
      { thinking: { type: 'adaptive' } },
      { thinking: { type: 'enabled', budget_tokens: 2000 } },
      { thinking: { type: 'adaptive' }, output_config: { effort: 'high' } },
      { output_config: { effort: 'low' } },
    ]
    for (const fields of asking) {
      const { status, body } = await ask(message(fields))
      expect({ status, error: body.error }).toEqual({ status: 200, error: undefined })
      expect(body.content).toEqual(plain.body.content)
    }
  })

  it('may hold calls of tools and their results', async () => {
    const messages = [
      { role: 'user', content: 'What is the weather in Rome?' },
      {
        role: 'assistant',
        content: [
          { type: 'thinking', thinking: 'I call it.', signature: '' },
          { type: 'text', text: 'I look.' },
          { type: 'tool_use', id: 'a', name: 'get_weather', input: { city: 'Rome' } },
        ],
      },
      {
        role: 'user',
        content: [
          { type: 'tool_result', tool_use_id: 'a', content: [{ type: 'text', text: '20 °C' }] },
          { type: 'text', text: 'And?' },
        ],
      },
    ]
    const tools = [{ name: 'get_weather', input_schema: { type: 'object' }, description: 'x' }]
    expect((await ask(message({ messages, tools }))).status).toBe(200)
  })

  it('of the assistant are one, too, with what each of them has', async () => {
    const model = fakeModel({ answers: 'Fine.' })
    const fake = new Client({ models: { fake: model } })
    const call = { type: 'tool_use', id: 'a', name: 'f', input: {} }
    const search = { type: 'search_result', source: 'x.example', title: 'X', content: [] }
    const messages = [
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: [{ type: 'thinking', thinking: 'Hm.', signature: '' }] },
      { role: 'assistant', content: 'I look.' },
      { role: 'assistant', content: [call] },
      { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'a', content: 'Y' }] },
      { role: 'user', content: [{ ...search, content: [{ type: 'text', text: 'Z' }] }] },
    ]
    const body = message({ model: 'fake', messages, context_management: { edits: [] } })
    expect((await fake.post(MESSAGES, body)).status).toBe(200)
    expect(model.requests[0]?.messages).toMatchObject([
      { role: 'user', content: 'Hi' },
      {
        role: 'assistant',
        content: 'I look.',
        reasoning_content: 'Hm.',
        tool_calls: [{ id: 'a' }],
      },
      { role: 'tool', tool_call_id: 'a', content: 'Y' },
      { role: 'user', content: 'X\n\nx.example\n\nZ' },
    ])
    await fake.handler.close()
  })

  const CALLED = {
    role: 'assistant',
    content: [{ type: 'tool_use', id: 'a', name: 'f', input: {} }],
  }
  const result = (id: string): object => ({
    role: 'user',
    content: [{ type: 'tool_result', tool_use_id: id, content: 'x' }],
  })

  it.each<[string, object[], RegExp]>([
    ['a call at the end', [FRANCE, CALLED], /no tool_result for the tool_use a/],
    ['a call without a result', [FRANCE, CALLED, FRANCE], /no tool_result for the tool_use a/],
    ['a result of another call', [FRANCE, CALLED, result('b')], /no tool_use b/],
    ['a result of no call', [result('a')], /no tool_use a/],
    ['two results of a call', [FRANCE, CALLED, result('a'), result('a')], /no tool_use a/],
    ['nothing', [{ role: 'user', content: '' }], /messages\.0\.content: is empty/],
    [
      'thinking at the end',
      [
        FRANCE,
        { role: 'assistant', content: [{ type: 'thinking', thinking: 'Hm.', signature: '' }] },
      ],
      /thinking alone/,
    ],
  ])('with %s are refused', async (_, messages, problem) => {
    const { status, body } = await ask(message({ messages }))
    expect(status).toBe(400)
    expect(body.error.message).toMatch(problem)
  })

  it('are counted as they are read', async () => {
    const { body } = await ask({ model: 'demo', messages: [FRANCE] }, `${MESSAGES}/count_tokens`)
    const { usage } = (await ask(message())).body
    expect(body).toEqual({ input_tokens: read(usage) })
  })

  it.each<[object, number, string, RegExp]>([
    [{ model: 'x' }, 404, 'not_found_error', /no model "x"/],
    [{ max_tokens: undefined }, 400, 'invalid_request_error', /max_tokens/],
    [{ max_tokens: 0 }, 400, 'invalid_request_error', /^max_tokens: /],
    [{ messages: [] }, 400, 'invalid_request_error', /^messages: /],
    [
      { messages: [{ role: 'bot', content: 'x' }] },
      400,
      'invalid_request_error',
      /messages\.0\.role/,
    ],
    [
      { messages: [{ role: 'user', content: 3 }] },
      400,
      'invalid_request_error',
      /messages\.0\.content/,
    ],
    [
      { messages: [{ role: 'user', content: [{ type: 'image', source: {} }] }] },
      400,
      'invalid_request_error',
      /messages\.0\.content\.0: .*no images/,
    ],
    [
      { messages: [{ role: 'user', content: [{ type: 'tool_use', id: 'a', name: 'b' }] }] },
      400,
      'invalid_request_error',
      /tool_use/,
    ],
    [{ top_q: 1 }, 400, 'invalid_request_error', /top_q: Extra inputs are not permitted/],
    [{ temperature: '1' }, 400, 'invalid_request_error', /temperature: expected a number/],
    [{ tools: [{ type: 'bash_20250124', name: 'bash' }] }, 400, 'invalid_request_error', /tools/],
    [{ tool_choice: { type: 'any' } }, 400, 'invalid_request_error', /tool_choice/],
    [
      { thinking: { type: 'enabled', budget_tokens: -5 } },
      400,
      'invalid_request_error',
      /^thinking\.budget_tokens: /,
    ],
    [
      { thinking: { type: 'adaptive' }, output_config: { effort: 'some' } },
      400,
      'invalid_request_error',
      /^output_config\.effort: /,
    ],
  ])('refuse %j', async (fields, status, type, message_) => {
    for (const stream of [false, true]) {
      const answer = await ask(message({ stream, ...fields }))
      expect(answer.status).toBe(status)
      expect(answer.body).toMatchObject({
        type: 'error',
        error: { type, message: expect.stringMatching(message_) as string },
        request_id: expect.stringMatching(/^req_/) as string,
      })
    }
  })

  it('of no key, method or path are refused in the same shape', async () => {
    const keyed = new Client({ apiKey: 'x' })
    const denied = await keyed.post(MESSAGES, message())
    expect(denied.status).toBe(401)
    expect(await denied.json()).toMatchObject({ error: { type: 'authentication_error' } })
    const wrong = await client.get(MESSAGES)
    expect(wrong.status).toBe(405)
    expect(await wrong.json()).toMatchObject({ type: 'error' })
    expect((await ask({}, `${MESSAGES}/nothing`)).body.error.type).toBe('not_found_error')
    await keyed.handler.close()
  })
})
