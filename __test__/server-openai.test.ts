// The routes of OpenAI's API, asked as `fetch` asks them, with the demo model.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadModel } from '../js/index.js'
import { Client, events, type Json } from './support/http.js'

const FRANCE = { role: 'user', content: 'What is the capital of France?' }
const CHAT = '/v1/chat/completions'

let client: Client
beforeAll(() => {
  client = new Client({ models: { demo: { model: 'demo', prefixCache: false } } })
})
afterAll(() => client.handler.close())

async function tokensOf(text: string): Promise<number[]> {
  const model = await loadModel('demo')
  try {
    return await model.tokenize({ text })
  } finally {
    await model.dispose()
  }
}

const chat = (fields: object = {}): object => ({
  model: 'demo',
  messages: [FRANCE],
  temperature: 0,
  ...fields,
})

async function ask(path: string, body: unknown): Promise<{ status: number; body: Json }> {
  const response = await client.post(path, body)
  return { status: response.status, body: await response.json() }
}

describe('what was read before', () => {
  const LONG = 'You are a helpful assistant who answers in one short sentence. '.repeat(5)
  const cached = new Client()
  afterAll(() => cached.handler.close())

  const tokens = async (): Promise<number[]> => {
    const text = await (await cached.get('/metrics')).text()
    const of = (name: string) => Number(new RegExp(`^${name} (\\d+)`, 'm').exec(text)?.[1])
    return [of('nodemlx_prompt_tokens_total'), of('nodemlx_cached_tokens_total')]
  }

  it('is not read again for other choices, texts and turns', async () => {
    const post = async (path: string, body: unknown): Promise<Json> =>
      (await cached.post(path, body)).json()
    const messages = [{ role: 'system', content: LONG }, FRANCE]
    const body = chat({ messages, n: 4, max_tokens: 8 })
    const { usage, choices } = await post(CHAT, body)
    const length = usage.prompt_tokens as number
    expect(usage.prompt_tokens_details.cached_tokens).toBe(0)
    expect(await tokens()).toEqual([4 * length, 3 * (length - 1)])
    const answer = choices[0].message as object
    const next = await post(CHAT, chat({ messages: [...messages, answer, FRANCE], max_tokens: 2 }))
    expect(next.usage.prompt_tokens_details.cached_tokens).toBeGreaterThanOrEqual(length)
    const [read = 0, spared = 0] = await tokens()
    const texts = { model: 'demo', prompt: `Once upon a time. ${LONG}`, n: 3, max_tokens: 2 }
    const { usage: used } = await post('/v1/completions', texts)
    const text = used.prompt_tokens as number
    expect(await tokens()).toEqual([read + 3 * text, spared + 2 * (text - 1)])
  })
})

describe('chat completions', () => {
  it('answer with a message, usage and timings', async () => {
    const { status, body } = await ask(CHAT, chat())
    expect(status).toBe(200)
    expect(body).toMatchObject({
      id: expect.stringMatching(/^chatcmpl-\w{32}$/) as string,
      object: 'chat.completion',
      model: 'demo',
      choices: [
        {
          index: 0,
          message: {
            role: 'assistant',
            content: expect.stringContaining('Paris') as string,
            refusal: null,
          },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      timings: { cache_n: 0 },
    })
    const { usage } = body as { usage: Record<string, number> }
    expect(usage['total_tokens']).toBe(
      (usage['prompt_tokens'] ?? 0) + (usage['completion_tokens'] ?? 0),
    )
    expect(body.usage.prompt_tokens_details).toEqual({ cached_tokens: 0 })
  })

  it('stream the same answer in pieces', async () => {
    const { body: whole } = await ask(CHAT, chat())
    const options = { include_usage: true }
    const response = await client.post(CHAT, chat({ stream: true, stream_options: options }))
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    const all = events(await response.text()).map(({ data }) => data)
    expect(all.at(-1)).toBe('[DONE]')
    expect(all[0].choices[0].delta).toEqual({ role: 'assistant', content: '' })
    const usage = all.at(-2)
    expect(usage).toMatchObject({ choices: [], usage: whole.usage })
    const chunks = all.slice(0, -2)
    for (const chunk of chunks) {
      expect(chunk).toMatchObject({ object: 'chat.completion.chunk', id: all[0].id, usage: null })
    }
    const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join('')
    expect(text).toBe(whole.choices[0].message.content)
    expect(chunks.map((chunk) => chunk.choices[0].finish_reason).filter(Boolean)).toEqual(['stop'])
  })

  it('end where the request says', async () => {
    const short = await ask(CHAT, chat({ max_tokens: 2 }))
    expect(short.body.choices[0].finish_reason).toBe('length')
    expect(short.body.usage.completion_tokens).toBe(2)
    const newer = await ask(CHAT, chat({ max_completion_tokens: 3 }))
    expect(newer.body.usage.completion_tokens).toBe(3)
    const stopped = await ask(CHAT, chat({ stop: [' Paris'] }))
    expect(stopped.body.choices[0]).toMatchObject({ finish_reason: 'stop' })
    expect(stopped.body.choices[0].message.content).not.toContain('Paris')
    const empty = await ask(CHAT, chat({ stop: '' }))
    expect(empty.body.choices[0].message.content).toContain('Paris')
  })

  it('are not disturbed by asking a model that never reasons not to', async () => {
    const plain = await ask(CHAT, chat())
    const { status, body } = await ask(CHAT, chat({ reasoning_effort: 'none' }))
    expect({ status, error: body.error }).toEqual({ status: 200, error: undefined })
    expect(body.choices).toEqual(plain.body.choices)
  })

  it('give several choices, the same for the same seed', async () => {
    const messages = [{ role: 'user', content: 'Tell me a short story.' }]
    const body = chat({ messages, n: 3, seed: 5, temperature: 1.5, max_tokens: 6 })
    const contents = async (): Promise<string[]> =>
      (await ask(CHAT, body)).body.choices.map((choice: Json) => choice.message.content as string)
    const first = await contents()
    expect(first).toHaveLength(3)
    expect(new Set(first).size).toBeGreaterThan(1)
    expect(await contents()).toEqual(first)
    const stream = events(await (await client.post(CHAT, { ...body, stream: true })).text())
    const choices = stream.slice(0, -1).map(({ data }) => data.choices[0])
    const streamed = [0, 1, 2].map((index) =>
      choices
        .filter((choice) => choice.index === index)
        .map(({ delta }) => (delta.content as string | undefined) ?? '')
        .join(''),
    )
    expect(streamed).toEqual(first)
  })

  it('give log-probabilities, in streams too', async () => {
    const body = chat({ logprobs: true, top_logprobs: 2 })
    const { content } = (await ask(CHAT, body)).body.choices[0].logprobs
    expect(content.length).toBeGreaterThan(3)
    for (const { token, logprob, bytes, top_logprobs: top } of content) {
      expect(logprob).toBeLessThanOrEqual(0)
      expect(bytes).toEqual([...Buffer.from(token as string)])
      expect(top).toHaveLength(2)
      expect(top[0].logprob).toBe(logprob)
    }
    const stream = events(await (await client.post(CHAT, { ...body, stream: true })).text())
    const streamed = stream
      .slice(0, -1)
      .flatMap(({ data }) => data.choices[0].logprobs?.content ?? [])
    expect(streamed).toEqual(content)
  })

  it('take what the messages of clients have', async () => {
    const messages = [
      { role: 'developer', content: 'Answer briefly.' },
      { role: 'user', content: [{ type: 'text', text: 'My name is Ann.' }] },
      { role: 'assistant', content: 'Hello Ann!', refusal: null, audio: null },
      { ...FRANCE, name: 'ann' },
    ]
    const { status, body } = await ask(CHAT, chat({ messages, user: 'someone', metadata: {} }))
    expect({ status, error: body.error }).toEqual({ status: 200, error: undefined })
  })

  it.each<[object, number, string | null, RegExp]>([
    [{ model: 'gpt' }, 404, 'model', /there is no model "gpt"; there are demo/],
    [{ model: undefined }, 400, 'model', /you must provide model/],
    [{ messages: undefined }, 400, 'messages', /you must provide messages/],
    [{ messages: [] }, 400, 'messages', /non-empty array/],
    [{ messages: 'Hi' }, 400, 'messages', /got "Hi"/],
    [{ messages: [{ role: 'user' }] }, 400, 'messages[0].content', /expected a string/],
    [{ messages: [{ role: 'usr', content: '' }] }, 400, 'messages[0].role', /mean 'user'/],
    [
      { tempreature: 1 },
      400,
      'tempreature',
      /Unrecognized .* tempreature; did you mean temperature/,
    ],
    [{ temperature: 'hot' }, 400, 'temperature', /expected a number/],
    [{ temperature: 11 }, 400, 'temperature', /from 0 to 10/],
    [{ max_tokens: 0 }, 400, 'max_tokens', /from 1/],
    [{ top_p: 2 }, 400, 'top_p', /top_p/],
    [{ n: 100 }, 400, 'n', /from 1 to 8/],
    [{ top_logprobs: 2 }, 400, 'top_logprobs', /logprobs: true/],
    [{ stream: 'yes' }, 400, 'stream', /true or false/],
    [{ seed: 1.5 }, 400, 'seed', /whole number/],
    [{ seed: 1e20 }, 400, 'seed', /whole number/],
    [{ store: true }, 400, 'store', /keeps no completions/],
    [{ max_completion_tokens: -1 }, 400, 'max_completion_tokens', /^max_completion_tokens: /],
    [{ messages: [{ role: 'bogus', content: 'x' }] }, 400, 'messages', /./],
    [{ messages: [{ role: 3, content: 'x' }] }, 400, 'messages[0].role', /^messages\[0\]\.role: /],
    [
      { messages: [FRANCE, { role: 'tool', tool_call_id: 'a', content: 'x' }] },
      400,
      'messages[1].tool_call_id',
      /has to answer one of the tool_calls/,
    ],
    [{ functions: [{ name: 'f' }] }, 400, 'functions', /use tools/],
    [
      {
        response_format: {
          type: 'json_schema',
          json_schema: { name: 'x', schema: { type: 'strange' } },
        },
      },
      400,
      'response_format.json_schema.schema',
      /^response_format\.json_schema\.schema: .*is none of array/,
    ],
    [{ modalities: ['audio'] }, 400, 'modalities', /text/],
    [{ tool_choice: 'required' }, 400, 'tool_choice', /only goes with tools/],
    [{ response_format: { type: 'xml' } }, 400, 'response_format.type', /json_schema/],
    [{ logit_bias: { 99999: 1 } }, 400, 'logit_bias[99999]', /not a token/],
    [
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
      400,
      'messages[0].content[0]',
      /takes text only/,
    ],
    [{ messages: [{ role: 'user', content: 'word '.repeat(5000) }] }, 400, null, /context/],
  ])('refuse %j', async (fields, status, param, message) => {
    for (const stream of [false, true]) {
      const answer = await ask(CHAT, chat({ stream, ...fields }))
      expect(answer.status).toBe(status)
      expect(Object.keys(answer.body.error as object)).toEqual(['message', 'type', 'param', 'code'])
      expect(answer.body.error.message).toMatch(message)
      expect(answer.body.error.param).toBe(param)
      expect(answer.body.error.type).toBe('invalid_request_error')
    }
  })
})

it('what changes nothing is taken, and no share of likely tokens is the likeliest', async () => {
  const plain = await ask(CHAT, chat())
  const { status, body } = await ask(
    CHAT,
    chat({ temperature: 2, top_p: 0, verbosity: 'low', functions: [], seed: 3 }),
  )
  expect(status).toBe(200)
  expect(body.choices[0].message).toEqual(plain.body.choices[0].message)
  const response = await ask('/v1/responses', {
    model: 'demo',
    input: 'Hi',
    truncation: 'auto',
    text: { verbosity: 'high' },
    max_output_tokens: 2,
    top_p: 0,
  })
  expect(response.status).toBe(200)
})

it('a body that is packed is refused', async () => {
  const headers = { 'content-encoding': 'gzip' }
  expect((await client.post(CHAT, chat(), { headers })).status).toBe(415)
})

describe('a format', () => {
  it('of JSON is an object, in chats and responses', async () => {
    const counted = { role: 'user', content: 'How much is 1 + 1? Answer with a number.' }
    const options = { temperature: 1, seed: 1, max_tokens: 30 }
    const response_format = { type: 'json_object' }
    const answers = await Promise.all([
      ask(CHAT, chat({ ...options, messages: [counted], response_format })),
      ask('/v1/responses', {
        model: 'demo',
        input: [counted],
        max_output_tokens: 30,
        text: { format: response_format },
      }),
    ])
    const [first, second] = answers.map(({ body }) => body)
    expect(first?.choices[0].message.content).toMatch(/^\s*\{/)
    expect(second?.output[0].content[0].text).toMatch(/^\s*\{/)
  })
})

describe('how much to think', () => {
  it.each(['low', 'high', 'xhigh'])('is nothing to a model that does not: %s', async (effort) => {
    const plain = await ask(CHAT, chat())
    const { status, body } = await ask(CHAT, chat({ reasoning_effort: effort, n: 2 }))
    expect(status).toBe(200)
    for (const { message } of body.choices as Json[])
      expect(message).toEqual(plain.body.choices[0].message)
    const streamed = await client.post(CHAT, chat({ reasoning_effort: effort, stream: true }))
    const deltas = events(await streamed.text()).map(
      ({ data }) => (data.choices?.[0]?.delta?.content ?? '') as string,
    )
    expect(deltas.join('')).toBe(plain.body.choices[0].message.content)
  })
})

describe('completions', () => {
  const PATH = '/v1/completions'

  it('continue texts and tokens', async () => {
    const prompt = 'Once upon a time'
    const { status, body } = await ask(PATH, { model: 'demo', prompt, temperature: 0 })
    expect(status).toBe(200)
    expect(body).toMatchObject({ object: 'text_completion', usage: { completion_tokens: 16 } })
    expect(body.choices[0]).toMatchObject({ finish_reason: 'length', logprobs: null })
    const echoed = await ask(PATH, { model: 'demo', prompt, temperature: 0, echo: true })
    expect(echoed.body.choices[0].text).toBe(`${prompt}${String(body.choices[0].text)}`)
    const many = await ask(PATH, { model: 'demo', prompt: [prompt, [100, 200]], n: 2 })
    expect(many.body.choices.map(({ index }: Json) => index as number)).toEqual([0, 1, 2, 3])
  })

  it('give the prompt back, with how likely it is, as it is scored by others', async () => {
    const prompt = 'The capital of France is Paris.'
    const tokens = await tokensOf(prompt)
    const scoring = { model: 'demo', temperature: 0, logprobs: 1, max_tokens: 1, echo: true }
    for (const asked of [prompt, tokens]) {
      const { status, body } = await ask(PATH, { ...scoring, prompt: asked })
      expect({ status, error: body.error }).toEqual({ status: 200, error: undefined })
      const [{ text, logprobs }] = body.choices
      expect(text.startsWith(prompt)).toBe(true)
      for (const list of Object.values(logprobs as Record<string, unknown[]>))
        expect(list).toHaveLength(tokens.length + 1)
      expect([logprobs.token_logprobs[0], logprobs.top_logprobs[0]]).toEqual([null, null])
      expect(logprobs.text_offset.at(-1)).toBe(prompt.length)
      expect(logprobs.tokens.join('')).toBe(text)
      logprobs.tokens.slice(1).forEach((token: string, index: number) => {
        const top = logprobs.top_logprobs[index + 1] as Record<string, number>
        const [likeliest = 0] = Object.values(top)
        expect(logprobs.token_logprobs[index + 1]).toBeLessThanOrEqual(likeliest)
        if (token in top) expect(logprobs.token_logprobs[index + 1]).toBe(likeliest)
      })
    }
  })

  it('read prompts alone where no tokens are asked for', async () => {
    const prompt = ['Once upon a time', 'x']
    const body = { model: 'demo', prompt, max_tokens: 0, echo: true, logprobs: 2 }
    const { choices, usage } = (await ask(PATH, body)).body
    expect(choices.map(({ text }: Json) => text as string)).toEqual(prompt)
    expect(choices[0]).toMatchObject({ index: 0, finish_reason: 'length' })
    const counts = choices.map(({ logprobs }: Json) => logprobs.tokens.length as number)
    expect(counts).toEqual([(await tokensOf('Once upon a time')).length, 1])
    const read = (counts[0] as number) + 1
    expect(usage).toMatchObject({ prompt_tokens: read, completion_tokens: 0, total_tokens: read })
    const silent = (await ask(PATH, { ...body, echo: false, logprobs: undefined })).body
    expect(silent.choices[0]).toMatchObject({ text: '', logprobs: null })
  })

  it('stream the prompt, too', async () => {
    for (const max_tokens of [0, 3]) {
      const body = { model: 'demo', prompt: ['Once', 'Hello'], temperature: 0, logprobs: 1 }
      const asked = { ...body, max_tokens, n: 2, echo: true }
      const { choices } = (await ask(PATH, asked)).body
      const stream = events(await (await client.post(PATH, { ...asked, stream: true })).text())
      const pieces = stream.slice(0, -1).map(({ data }) => data.choices[0])
      for (const { index, text, logprobs, finish_reason } of choices) {
        const own = pieces.filter((piece) => piece.index === index)
        expect(own.map((piece) => piece.text as string).join('')).toBe(text)
        expect(own.flatMap((piece) => piece.logprobs?.text_offset ?? [])).toEqual(
          logprobs.text_offset,
        )
        expect(own.at(-1).finish_reason).toBe(finish_reason)
      }
    }
  })

  it('take more prompts than choices', async () => {
    const prompt = Array.from({ length: 20 }, (_, index) => `Number ${index}`)
    const { status, body } = await ask(PATH, { model: 'demo', prompt, max_tokens: 1 })
    expect(status).toBe(200)
    expect(body.choices.map(({ index }: Json) => index as number)).toEqual([...prompt.keys()])
  })

  it('take seeds of other ranges, and tell them apart', async () => {
    const text = async (seed: number): Promise<string> => {
      const fields = { prompt: 'Tell me a story.', temperature: 1.5, max_tokens: 8, seed }
      const { status, body } = await ask(PATH, { model: 'demo', ...fields })
      expect(status).toBe(200)
      return body.choices[0].text as string
    }
    const texts = new Set<string>()
    for (const seed of [-1, -2, -(2 ** 62), 2 ** 62 + 4096]) {
      texts.add(await text(seed))
      expect(texts).toContain(await text(seed))
    }
    expect(texts.size).toBeGreaterThan(1)
  })

  it('stream, with log-probabilities', async () => {
    const body = { model: 'demo', prompt: 'Once', temperature: 0, max_tokens: 5, logprobs: 1 }
    const whole = (await ask(PATH, body)).body.choices[0]
    const stream = events(await (await client.post(PATH, { ...body, stream: true })).text())
    const choices = stream.slice(0, -1).map(({ data }) => data.choices[0])
    expect(choices.map(({ text }) => text as string).join('')).toBe(whole.text)
    const offsets = choices.flatMap(({ logprobs }) => (logprobs?.text_offset ?? []) as number[])
    expect(offsets).toEqual(whole.logprobs.text_offset)
    expect(whole.logprobs.tokens).toHaveLength(5)
  })

  it.each<[object, string]>([
    [{ prompt: undefined }, 'prompt'],
    [{ prompt: {} }, 'prompt'],
    [{ prompt: [] }, 'prompt'],
    [{ prompt: [['a']] }, 'prompt[0]'],
    [{ suffix: 'x' }, 'suffix'],
    [{ best_of: 3 }, 'best_of'],
    [{ prompt: ['a', 5] }, 'prompt[1]'],
    [{ prompt: [1e9] }, 'prompt[0]'],
    [{ prompt: [[1], [2, 1e9]] }, 'prompt[1][1]'],
    [{ prompt: Array.from({ length: 257 }, () => 'a') }, 'prompt'],
    [{ n: 9 }, 'n'],
    [{ logprobs: 99 }, 'logprobs'],
    [{ max_tokens: -1 }, 'max_tokens'],
  ])('refuse %j', async (fields, param) => {
    const { status, body } = await ask(PATH, { model: 'demo', prompt: 'x', ...fields })
    expect(status).toBe(400)
    expect(body.error.param).toBe(param)
  })
})

describe('models', () => {
  it('are listed in both APIs, with what is known once they are loaded', async () => {
    await ask(CHAT, chat({ max_tokens: 1 }))
    expect(await (await client.get('/v1/models')).json()).toEqual({
      object: 'list',
      data: [
        {
          id: 'demo',
          object: 'model',
          created: expect.any(Number) as number,
          owned_by: 'nodemlx',
          state: 'loaded',
          max_model_len: expect.any(Number) as number,
        },
      ],
    })
    const headers = { 'anthropic-version': '2023-06-01' }
    expect(await (await client.get('/v1/models', headers)).json()).toMatchObject({
      data: [{ type: 'model', id: 'demo', display_name: 'demo' }],
      has_more: false,
      first_id: 'demo',
      last_id: 'demo',
    })
  })

  it('are described by their names, slashes and all', async () => {
    const named = new Client({ models: { 'a/b': 'demo' } })
    for (const path of ['/v1/models/a/b', '/v1/models/a%2Fb'])
      expect(await (await named.get(path)).json()).toMatchObject({ id: 'a/b', state: 'not-loaded' })
    expect((await named.get('/v1/models/c')).status).toBe(404)
    await named.handler.close()
  })
})
