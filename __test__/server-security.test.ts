// Who may ask, and what requests may take.

import { afterEach, describe, expect, it } from 'vitest'
import { createHandler, type HandlerOptions } from '../js/server/index.js'
import { Client, type Json } from './support/http.js'

const CHAT = '/v1/chat/completions'
const HELLO = { model: 'demo', messages: [{ role: 'user', content: 'Hi' }], max_tokens: 1 }

const clients: Client[] = []
function client(options: Partial<HandlerOptions> = {}): Client {
  const made = new Client(options)
  clients.push(made)
  return made
}
afterEach(async () => {
  await Promise.all(clients.splice(0).map(({ handler }) => handler.close()))
})

async function status(
  { handler }: Client,
  url: string,
  headers: Record<string, string> = {},
  method = 'GET',
): Promise<number> {
  return (await handler(new Request(url, { headers, method }))).status
}

describe('a host', () => {
  it.each([
    'localhost',
    'localhost:8080',
    'app.localhost',
    '127.0.0.1:1',
    '127.1.2.3',
    '[::1]:8080',
    '[::ffff:127.0.0.1]',
  ])('%s is this machine', async (host) => {
    expect(await status(client(), `http://${host}/v1/models`)).toBe(200)
  })

  it.each([
    'evil.example',
    '127.0.0.1.evil.example',
    'localhost.evil.example',
    '10.0.0.1',
    '0.0.0.0',
  ])('%s is not, for the page of another site may be bound to it', async (host) => {
    const response = await client().handler(new Request(`http://${host}/v1/models`))
    expect(response.status).toBe(403)
    expect(((await response.json()) as Json).error.type).toBe('permission_error')
  })

  it('can be allowed by its name; a key allows any', async () => {
    const named = client({ hosts: ['chat.example'] })
    expect(await status(named, 'http://chat.example/v1/models')).toBe(200)
    expect(await status(named, 'http://other.example/v1/models')).toBe(403)
    const keyed = client({ apiKey: 'secret' })
    const headers = { authorization: 'Bearer secret' }
    expect(await status(keyed, 'http://other.example/v1/models', headers)).toBe(200)
    const both = client({ apiKey: 'secret', hosts: ['chat.example'] })
    expect(await status(both, 'http://other.example/v1/models', headers)).toBe(403)
  })
})

describe('a page of another site', () => {
  it.each<Record<string, string>>([
    { origin: 'https://evil.example' },
    { origin: 'http://localhost:3000' },
    { origin: 'null' },
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' },
    { 'sec-fetch-site': 'same-site' },
  ])('with %j is refused', async (headers) => {
    expect(await status(client(), 'http://localhost/v1/models', headers)).toBe(403)
  })

  it('may ask where its origin is allowed, and read the answer', async () => {
    const open = client({ cors: ['https://app.example'] })
    const headers = { origin: 'https://app.example', 'sec-fetch-site': 'cross-site' }
    const response = await open.get('/v1/models', headers)
    expect(response.status).toBe(200)
    expect(response.headers.get('access-control-allow-origin')).toBe('https://app.example')
    expect(await status(open, 'http://localhost/v1/models', { origin: 'https://b.example' })).toBe(
      403,
    )
    const asks = { ...headers, 'access-control-request-headers': 'x-stainless-os, content-type' }
    const preflight = await open.handler(
      new Request(`http://localhost${CHAT}`, { method: 'OPTIONS', headers: asks }),
    )
    expect(preflight.status).toBe(204)
    expect(preflight.headers.get('access-control-allow-headers')).toBe(
      'x-stainless-os, content-type',
    )
  })

  it('of its own may ask, and a link may lead to it', async () => {
    const own = { origin: 'http://localhost:8080', 'sec-fetch-site': 'same-origin' }
    expect(await status(client(), 'http://localhost:8080/v1/models', own)).toBe(200)
    const link = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }
    expect(await status(client(), 'http://localhost/health', link)).toBe(200)
  })

  it('may be any with a key only', () => {
    expect(() => createHandler({ models: ['demo'], cors: '*' })).toThrow(/apiKey/)
    expect(() => createHandler({ models: ['demo'], cors: '*', apiKey: 'x' })).not.toThrow()
  })
})

describe('a key', () => {
  it('is asked for everywhere but for the health', async () => {
    const keyed = client({ apiKey: ['one', 'two'] })
    for (const path of ['/v1/models', '/metrics', '/nothing'])
      expect(await status(keyed, `http://localhost${path}`)).toBe(401)
    expect((await keyed.post(CHAT, HELLO)).status).toBe(401)
    expect(await status(keyed, 'http://localhost/health')).toBe(200)
  })

  it.each<[Record<string, string>, number]>([
    [{ authorization: 'Bearer one' }, 200],
    [{ authorization: 'bearer two' }, 200],
    [{ 'x-api-key': 'two' }, 200],
    [{ authorization: 'Bearer on' }, 401],
    [{ authorization: 'Bearer onee' }, 401],
    [{ authorization: 'Basic one' }, 401],
    [{ 'x-api-key': '' }, 401],
  ])('in %j gives %d', async (headers, expected) => {
    const keyed = client({ apiKey: ['one', 'two'] })
    expect(await status(keyed, 'http://localhost/v1/models', headers)).toBe(expected)
  })
})

describe('a request', () => {
  const small = { limits: { bodyBytes: 1000, bodyMs: 100 } }

  it.each<[string, string | Uint8Array, number, RegExp]>([
    ['is cut off', '{"model": "demo", "mess', 400, /not valid JSON/],
    ['is empty', '', 400, /not valid JSON/],
    ['is no object', '[1]', 400, /expected an object/],
    ['is no UTF-8', Uint8Array.of(0x22, 0xff, 0xfe, 0x22), 400, /UTF-8/],
    ['is too large', JSON.stringify({ model: 'x'.repeat(2000) }), 413, /larger than 1000 bytes/],
    ['is too deep', `${'['.repeat(400)}${']'.repeat(400)}`, 400, /nested/],
  ])('that %s is refused', async (_, body, expected, message) => {
    const response = await client(small).post(CHAT, body)
    expect(response.status).toBe(expected)
    const { error } = (await response.json()) as Json
    expect(error.message).toMatch(message)
    expect(error.type).toBe('invalid_request_error')
  })

  it('that has another content type is refused', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/jsonp'])
      expect((await client().post(CHAT, HELLO, { headers: { 'content-type': type } })).status).toBe(
        415,
      )
    const headers = { 'content-type': 'application/json; charset=utf-8' }
    expect((await client().post(CHAT, HELLO, { headers })).status).toBe(200)
  })

  it('that takes too long to arrive is refused', async () => {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(new TextEncoder().encode('{"model":'))
      },
    })
    const init = { method: 'POST', headers: { 'content-type': 'application/json' }, body }
    const { handler } = client(small)
    const request = new Request(`http://localhost${CHAT}`, { ...init, duplex: 'half' })
    const response = await handler(request)
    expect(response.status).toBe(408)
  })

  it('of another method is refused with those that fit', async () => {
    const wrong = await client().get(CHAT)
    expect(wrong.status).toBe(405)
    expect(wrong.headers.get('allow')).toBe('POST, OPTIONS')
    expect((await client().post('/v1/models', {})).status).toBe(405)
    expect((await client().get('/v1/nothing')).status).toBe(404)
    expect(await status(client(), 'http://localhost/health', {}, 'HEAD')).toBe(200)
  })
})

describe('a path', () => {
  it.each([
    '/health/',
    '//health',
    '/%68ealth',
    '/v1/models/',
    '//v1//models',
    '/v1/%6dodels',
    '/v1/models/demo/',
    '/v1/models/d%65mo',
  ])('is found as %s', async (path) => {
    expect(await status(client(), `http://localhost${path}`)).toBe(200)
  })

  it('may hold what is no encoding, and is not found then', async () => {
    expect(await status(client(), 'http://localhost/v1/%zz')).toBe(404)
  })

  it('says what it takes', async () => {
    const allow = async (path: string): Promise<string | null> => {
      const request = new Request(`http://localhost${path}`, { method: 'OPTIONS' })
      const response = await client().handler(request)
      expect(response.status).toBe(path === '/nothing' ? 404 : 204)
      return response.headers.get('allow')
    }
    expect(await allow(CHAT)).toBe('POST, OPTIONS')
    expect(await allow('/v1/models')).toBe('GET, HEAD, OPTIONS')
    expect(await allow('/v1/responses/resp_x')).toBe('GET, DELETE, HEAD, OPTIONS')
    expect(await allow('/nothing')).toBeNull()
  })
})

describe('options', () => {
  it.each<[object, RegExp]>([
    [{ models: [] }, /models: .*none/],
    [{ models: { demo: 3 } }, /models.demo/],
    [{ models: { demo: { model: 'demo', dvice: 'cpu' } } }, /dvice.*device/],
    [{ apiKey: '' }, /apiKey: is empty/],
    [{ cors: ['example'] }, /cors: .*no origin/],
    [{ limits: { queue: 3 } }, /limits.queue/],
    [{ limits: { concurrent: 0 } }, /limits.concurrent/],
    [{ basePath: 'api' }, /basePath/],
    [{ prot: 3 }, /prot: is not an option/],
  ])('%j are refused', (options, message) => {
    expect(() => createHandler({ models: ['demo'], ...options })).toThrow(message)
  })

  it('can put all routes below a path', async () => {
    const below = client({ basePath: '/api/llm/' })
    expect((await below.get('/api/llm/v1/models')).status).toBe(200)
    expect((await below.get('/v1/models')).status).toBe(404)
    expect((await below.get('/api/llmv1/models')).status).toBe(404)
  })
})

describe('metrics', () => {
  it('are in the format of Prometheus', async () => {
    const watched = client()
    await watched.post(CHAT, HELLO)
    await watched.post(CHAT, {})
    await watched.get('/nothing')
    const text = await (await watched.get('/metrics')).text()
    expect(text).toContain('nodemlx_requests_total{route="/v1/chat/completions",status="200"} 1\n')
    expect(text).toContain('nodemlx_requests_total{route="/v1/chat/completions",status="400"} 1\n')
    expect(text).toContain('nodemlx_requests_total{route="none",status="404"} 1\n')
    expect(text).toContain('nodemlx_generated_tokens_total 1\n')
    expect(text).toMatch(/nodemlx_model_bytes\{model="demo"\} \d+\n/)
    expect(text).toContain('nodemlx_running 0\n')
    for (const line of text.trimEnd().split('\n'))
      expect(line).toMatch(/^(# (HELP|TYPE) .+|\w+(\{[^}]*\})? [\d.e+-]+)$/)
  })
})
