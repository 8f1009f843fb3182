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
    [{ reasoning: { effort: 'medium' } }, 400, 'reasoning.effort'],
    [{ input: [{ role: 'bogus', content: 'x' }] }, 400, 'input'],
  ])('refuse %j', async (fields, status, param) => {
    const answer = await ask({ ...FRANCE, ...fields })
    expect(answer.status).toBe(status)
    expect(answer.body.error.param).toBe(param)
  })
})
