// OpenAI's API of responses, asked as `fetch` asks it, with the demo model.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Client, events, type Json } from './support/http.js'

const PATH = '/v1/responses'

let client: Client
beforeAll(() => {
  client = new Client({ models: { demo: { model: 'demo', prefixCache: false } } })
})
afterAll(() => client.handler.close())

const FRANCE = { model: 'demo', input: 'What is the capital of France?', temperature: 0 }

async function ask(body: unknown): Promise<{ status: number; body: Json }> {
  const response = await client.post(PATH, body)
  return { status: response.status, body: await response.json() }
}

describe('responses', () => {
  it('have items and usage', async () => {
    const { status, body } = await ask(FRANCE)
    expect(status).toBe(200)
    expect(body).toMatchObject({
      id: expect.stringMatching(/^resp_/) as string,
      object: 'response',
      status: 'completed',
      error: null,
      output: [
        {
          type: 'message',
          role: 'assistant',
          status: 'completed',
          content: [
            {
              type: 'output_text',
              text: expect.stringContaining('Paris') as string,
              annotations: [],
            },
          ],
        },
      ],
      usage: { input_tokens_details: { cached_tokens: 0 } },
    })
  })

  it('are streamed as events in their order', async () => {
    const { body: whole } = await ask(FRANCE)
    const all = events(await (await client.post(PATH, { ...FRANCE, stream: true })).text())
    all.forEach(({ event, data }, index) => {
      expect(data).toMatchObject({ type: event, sequence_number: index })
    })
    const names = all.map(({ event }) => event)
    expect(names.filter((name) => name !== 'response.output_text.delta')).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.completed',
    ])
    const deltas = all.filter(({ event }) => event === 'response.output_text.delta')
    const text = deltas.map(({ data }) => data.delta as string).join('')
    expect(text).toBe(whole.output[0].content[0].text)
    const { response } = (all.at(-1) as Json).data
    expect(response.output[0].content).toEqual(whole.output[0].content)
    expect(response.usage).toEqual(whole.usage)
    expect(response.output[0].id).toBe(deltas[0]?.data.item_id)
  })

  it('go on from an earlier one, which can be read and deleted', async () => {
    const input = [{ role: 'user', content: [{ type: 'input_text', text: 'My name is Ann.' }] }]
    const first = (await ask({ ...FRANCE, input })).body
    const next = await ask({ ...FRANCE, input: 'Hi!', previous_response_id: first.id })
    expect(next.body.previous_response_id).toBe(first.id)
    expect(next.body.usage.input_tokens).toBeGreaterThan(first.usage.total_tokens as number)
    expect(await (await client.get(`${PATH}/${String(first.id)}`)).json()).toEqual(first)
    const gone = new Request(`http://localhost${PATH}/${String(first.id)}`, { method: 'DELETE' })
    expect(await (await client.handler(gone)).json()).toMatchObject({ deleted: true })
    expect((await ask({ ...FRANCE, previous_response_id: first.id })).status).toBe(404)
    const unkept = (await ask({ ...FRANCE, store: false })).body
    expect((await client.get(`${PATH}/${String(unkept.id)}`)).status).toBe(404)
  })

  it('take references to items of others, and list what they were asked with', async () => {
    const asked = [{ role: 'user', content: 'My name is Ann.' }]
    const first = (await ask({ ...FRANCE, input: asked })).body
    const reference = { type: 'item_reference', id: first.output[0].id as string }
    const again = { role: 'user', content: 'Hi!' }
    const whole = await ask({ ...FRANCE, input: [...asked, first.output[0], again] })
    const next = await ask({ ...FRANCE, input: [...asked, reference, again] })
    expect(next.status).toBe(200)
    expect(next.body.usage.input_tokens).toBe(whole.body.usage.input_tokens)
    const short = await ask({ ...FRANCE, input: [...asked, { id: reference.id }, again] })
    expect(short.body.usage.input_tokens).toBe(whole.body.usage.input_tokens)
    const list = async (query = ''): Promise<Json> =>
      (await client.get(`${PATH}/${String(next.body.id)}/input_items${query}`)).json()
    const { data, has_more: more } = await list('?order=asc')
    expect(data.map(({ type }: Json) => type as string)).toEqual(['message', 'message', 'message'])
    expect(data[1]).toEqual(first.output[0])
    expect(more).toBe(false)
    expect((await list()).data).toEqual([...data].reverse())
    const page = await list(`?limit=1&order=asc&after=${String(data[0].id)}`)
    expect(page).toMatchObject({ data: [data[1]], last_id: data[1].id, has_more: true })
    const wrong = await ask({ ...FRANCE, input: [{ type: 'item_reference', id: 'msg_x' }] })
    expect(wrong.body.error).toMatchObject({ param: 'input[0].id' })
    expect((await list('?limit=0')).error.param).toBe('limit')
    expect((await client.get(`${PATH}/resp_x/input_items`)).status).toBe(404)
    const cancel = (id: string): Promise<Response> => client.post(`${PATH}/${id}/cancel`, '')
    expect((await cancel(String(first.id))).status).toBe(400)
    expect((await cancel('resp_x')).status).toBe(404)
  })

  it('may be limited to some of their tools', async () => {
    const tool = (name: string): object => ({ type: 'function', name, parameters: {} })
    const tools = [tool('get_weather'), tool('get_time')]
    const some = {
      type: 'allowed_tools',
      mode: 'required',
      tools: [{ type: 'function', name: 'get_time' }],
    }
    const { status, body } = await ask({ ...FRANCE, tools, tool_choice: some })
    expect(status).toBe(200)
    expect(body.tool_choice).toEqual(some)
    expect(body.output.at(-1)).toMatchObject({ type: 'function_call', name: 'get_time' })
    const none = { ...some, tools: [{ type: 'function', name: 'x' }] }
    expect((await ask({ ...FRANCE, tools, tool_choice: none })).body.error.param).toBe(
      'tool_choice',
    )
  })

  it('that are cut off say so', async () => {
    const { body } = await ask({ ...FRANCE, max_output_tokens: 2 })
    expect(body).toMatchObject({
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      usage: { output_tokens: 2 },
    })
  })

  it('take the items of an agent, and give log-probabilities', async () => {
    const { status, body } = await ask({
      ...FRANCE,
      instructions: 'Be brief.',
      input: [
        { role: 'user', content: 'What is the weather in Rome?' },
        { type: 'reasoning', id: 'rs_1', summary: [], content: [] },
        { type: 'function_call', call_id: 'a', name: 'get_weather', arguments: '{"city":"Rome"}' },
        { type: 'function_call_output', call_id: 'a', output: '20 °C' },
      ],
      tools: [
        { type: 'function', name: 'get_weather', parameters: { type: 'object' }, strict: true },
      ],
      include: ['message.output_text.logprobs'],
      top_logprobs: 1,
    })
    expect({ status, error: body.error }).toEqual({ status: 200, error: null })
    const message = body.output.find(({ type }: Json) => type === 'message')
    expect(message.content[0].logprobs[0].top_logprobs).toHaveLength(1)
  })

  it.each<[object, number, string]>([
    [{ model: 'x' }, 404, 'model'],
    [{ input: undefined }, 400, 'input'],
    [{ input: [] }, 400, 'input'],
    [{ input: [{ type: 'image' }] }, 400, 'input[0].type'],
    [{ input: [{ role: 'user', content: [{ type: 'input_image' }] }] }, 400, 'input[0].content[0]'],
    [{ previous_response_id: 'resp_x' }, 404, 'previous_response_id'],
    [{ background: true }, 400, 'background'],
    [{ tools: [{ type: 'web_search' }] }, 400, 'tools[0].type'],
    [{ text: { format: { type: 'xml' } } }, 400, 'text.format.type'],
    [{ max_tokens: 3 }, 400, 'max_tokens'],
    [{ max_output_tokens: 0 }, 400, 'max_output_tokens'],
    [{ input: [{ type: 'function_call_output', call_id: 'a', output: 'x' }] }, 400, 'input'],
    [{ reasoning: { effort: 'some' } }, 400, 'reasoning.effort'],
    [{ input: [{ role: 'bogus', content: 'x' }] }, 400, 'input'],
  ])('refuse %j', async (fields, status, param) => {
    const answer = await ask({ ...FRANCE, ...fields })
    expect(answer.status).toBe(status)
    expect(answer.body.error.param).toBe(param)
  })
})
