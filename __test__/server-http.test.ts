// The server on `node:http`: broken and hostile requests, clients that leave, many at once.

import { once } from 'node:events'
import { connect } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { loadModel, type Model } from '../js/index.js'
import { fakeModel } from '../js/testing/index.js'
import { createHandler, serve, type RunningServer, type ServeOptions } from '../js/server/index.js'
import type { Json } from './support/http.js'

let model: Model
const servers: RunningServer[] = []

beforeAll(async () => {
  model = await loadModel('demo')
})
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close(0)))
})
afterAll(() => model.dispose())

async function started(options: Partial<ServeOptions> = {}): Promise<RunningServer> {
  const server = await serve({ models: { demo: model }, port: 0, ...options })
  servers.push(server)
  return server
}

function post(
  { url }: RunningServer,
  body: object,
  init: { signal?: AbortSignal; path?: string } = {},
): Promise<Response> {
  return fetch(`${url}${init.path ?? '/v1/completions'}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'demo', ...body }),
    ...(init.signal === undefined ? {} : { signal: init.signal }),
  })
}

/** What the server answers to bytes, until it closes the connection. */
function raw(
  { port }: RunningServer,
  text: string | Uint8Array,
  leaveOpen = true,
): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(port, '127.0.0.1', () => {
      if (leaveOpen) socket.write(text)
      else socket.end(text)
    })
    socket.setEncoding('utf8')
    socket.on('data', (data: string) => (answer += data))
    socket.on('error', reject)
    socket.on('close', () => {
      resolve(answer)
    })
  })
}

async function metric({ url }: RunningServer, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1])
}

async function until(check: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    if (await check()) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error('it never came to that')
}

const HEAD = 'Host: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n'

describe('hosts', () => {
  it('need not be named before HTTP 1.1, and are not named twice', async () => {
    const server = await started()
    expect(await raw(server, 'GET /health HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 /)
    const twice = 'GET /health HTTP/1.1\r\nHost: localhost\r\nHost: b\r\nConnection: close\r\n\r\n'
    expect(await raw(server, twice)).toMatch(/^HTTP\/1\.1 400 /)
  })
})

describe('hostile bytes', () => {
  const limits = { bodyMs: 300, bodyBytes: 10_000 }

  it.each<[string, string, RegExp]>([
    ['no HTTP', 'GARBAGE\r\n\r\n', /^HTTP\/1\.1 400 .*"invalid_request_error"/s],
    ['no host', 'GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n', /^HTTP\/1\.1 400/],
    [
      'a broken host',
      'GET / HTTP/1.1\r\nHost: a b/c?\r\nConnection: close\r\n\r\n',
      /^HTTP\/1\.1 400/,
    ],
    [
      "another site's host",
      'GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n',
      /^HTTP\/1\.1 403 .*permission_error/s,
    ],
    ['a proxy request', `GET http://x/ HTTP/1.1\r\n${HEAD}\r\n`, /^HTTP\/1\.1 400/],
    ['TRACE', `TRACE / HTTP/1.1\r\n${HEAD}\r\n`, /^HTTP\/1\.1 405/],
    ['headers without end', `GET / HTTP/1.1\r\nX: ${'x'.repeat(40_000)}`, /^HTTP\/1\.1 431/],
    [
      'a length that lies',
      `POST /v1/completions HTTP/1.1\r\n${HEAD}Content-Length: 999999\r\n\r\n{"model":`,
      /^HTTP\/1\.1 413 .*larger than/s,
    ],
    [
      'a body that does not come',
      `POST /v1/completions HTTP/1.1\r\n${HEAD}Content-Length: 500\r\n\r\n{"model":`,
      /^HTTP\/1\.1 408 .*took longer/s,
    ],
    [
      'a chunked body without end',
      `POST /v1/completions HTTP/1.1\r\n${HEAD}Transfer-Encoding: chunked\r\n\r\n${`400\r\n${'x'.repeat(1024)}\r\n`.repeat(12)}`,
      /^HTTP\/1\.1 413/,
    ],
    [
      'a broken chunk',
      `POST /v1/completions HTTP/1.1\r\n${HEAD}Transfer-Encoding: chunked\r\n\r\nxyz\r\n`,
      /^HTTP\/1\.1 400/,
    ],
  ])('with %s are answered with 4xx', async (_, bytes, expected) => {
    const server = await started({ limits })
    expect(await raw(server, bytes)).toMatch(expected)
    expect((await fetch(`${server.url}/health`)).status).toBe(200)
  })

  it.each(['Content-Length: 400000', 'Transfer-Encoding: chunked'])(
    'of a body that is too large do not cost the client its answer: %s',
    async (header) => {
      const server = await started({ limits })
      const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
      const failed = once(socket, 'error').then(([error]) => String(error))
      // Many clients read nothing before they have written everything.
      socket.write(`POST /v1/completions HTTP/1.1\r\n${HEAD}${header}\r\n\r\n`)
      for (let piece = 0; piece < 40; piece++) {
        socket.write(
          header.endsWith('chunked') ? `2710\r\n${'x'.repeat(10_000)}\r\n` : 'x'.repeat(10_000),
        )
        await new Promise((resolve) => setImmediate(resolve))
      }
      if (header.endsWith('chunked')) socket.write('0\r\n\r\n')
      const read = (async () => {
        let text = ''
        for await (const chunk of socket) text += String(chunk)
        return text
      })()
      expect(await Promise.race([read, failed])).toMatch(/^HTTP\/1\.1 413 .*larger than/s)
    },
  )

  it('that end half-way through a body leave nothing behind', async () => {
    const server = await started({ limits })
    const half = `POST /v1/completions HTTP/1.1\r\n${HEAD}Content-Length: 500\r\n\r\n{"model":`
    await raw(server, half, false)
    await until(() => Promise.resolve(server.handler.active === 0))
  })
})

describe('a client that leaves', () => {
  const LONG = {
    prompt: 'Once',
    max_tokens: 3000,
    temperature: 1,
    logit_bias: { 2: -100, 0: -100 },
  }

  it.each([true, false])('stops its generation (stream: %s)', async (stream) => {
    const server = await started()
    const leaving = new AbortController()
    const asked = post(server, { ...LONG, stream }, { signal: leaving.signal })
    if (stream) await (await asked).body?.getReader().read()
    else await until(async () => (await metric(server, 'nodemlx_running')) === 1)
    leaving.abort()
    await expect(stream ? (await asked).text() : asked).rejects.toThrow()
    await until(async () => (await metric(server, 'nodemlx_running')) === 0)
    expect(await metric(server, 'nodemlx_aborted_total')).toBe(1)
  })

  it('while it waits leaves its place', async () => {
    const server = await started({ limits: { concurrent: 1 } })
    const leaving = new AbortController()
    const first = post(server, { ...LONG, stream: true }, { signal: leaving.signal })
    await (await first).body?.getReader().read()
    const waiting = new AbortController()
    const second = post(server, { ...LONG }, { signal: waiting.signal })
    await until(async () => (await metric(server, 'nodemlx_waiting')) === 1)
    waiting.abort()
    await expect(second).rejects.toThrow()
    await until(async () => (await metric(server, 'nodemlx_waiting')) === 0)
    leaving.abort()
  })
})

describe('a client that does not read', () => {
  const body = JSON.stringify({ model: 'demo', prompt: 'Once', stream: true, max_tokens: 1000 })

  it('loses its place to others, and its connection', async () => {
    // More than the system's buffers take.
    const answers = { text: Array.from({ length: 400 }, () => 'x'.repeat(100_000)) }
    const info = { contextLength: 100_000_000 }
    const fake = fakeModel({ answers, info })
    const limits = { concurrent: 1, stallMs: 2000 }
    const server = await started({ models: { demo: fake }, limits })
    const ended = new Promise((resolve) => {
      const socket = connect(server.port, '127.0.0.1', () => {
        socket.write(
          `POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n` +
            `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        )
      })
      socket.once('readable', () => undefined)
      socket.once('error', resolve).once('close', resolve)
      socket.pause()
      void until(async () => (await metric(server, 'nodemlx_aborted_total')) === 1).then(() => {
        socket.resume()
      })
    })
    await until(async () => (await metric(server, 'nodemlx_running')) === 1)
    const other = await post(server, { prompt: 'Hi', max_tokens: 1 })
    expect(other.status).toBe(200)
    await ended
    expect(server.handler.active).toBe(0)
  })

  it('has a stream that fails, without a port as well', async () => {
    const handler = createHandler({ models: { demo: model }, limits: { stallMs: 30 } })
    const headers = { 'content-type': 'application/json' }
    const url = 'http://localhost/v1/completions'
    const unread = await handler(new Request(url, { method: 'POST', headers, body }))
    await until(() => Promise.resolve(handler.active === 0))
    await expect(unread.text()).rejects.toThrow('nobody has read the stream for 30 ms')
    await handler.close()
  })
})

describe('limits', () => {
  const LONG = { prompt: 'Once', max_tokens: 3000, logit_bias: { 2: -100, 0: -100 } }
  /** A model that takes half a minute for them, however fast the machine is. */
  const endless = () => fakeModel({ answers: 'word '.repeat(3000), tokenMs: 10 })

  it('of the queue refuse with 429 and when to try again', async () => {
    const server = await started({ limits: { concurrent: 1, queued: 0 } })
    const leaving = new AbortController()
    const first = await post(server, { ...LONG, stream: true }, { signal: leaving.signal })
    const refused = await post(server, { prompt: 'x' })
    expect(refused.status).toBe(429)
    expect(refused.headers.get('retry-after')).toBe('5')
    expect(((await refused.json()) as Json).error.type).toBe('rate_limit_error')
    const messages = [{ role: 'user', content: 'x' }]
    const other = await post(server, { messages, max_tokens: 1 }, { path: '/v1/messages' })
    expect(((await other.json()) as Json).error.type).toBe('rate_limit_error')
    expect(first.status).toBe(200)
    leaving.abort()
  })

  it('of waiting and answering end them', async () => {
    const limits = { concurrent: 1, queueMs: 100, answerMs: 1500 }
    const server = await started({ models: { demo: endless() }, limits })
    const first = post(server, { ...LONG, stream: true })
    await (await first).body?.getReader().read()
    expect((await post(server, { prompt: 'x' })).status).toBe(429)
    await until(async () => (await metric(server, 'nodemlx_running')) === 0)
    const late = await post(server, LONG)
    expect(late.status).toBe(503)
    expect(((await late.json()) as Json).error.message).toMatch(/longer than 1500 ms/)
    const stream = await (await post(server, { ...LONG, stream: true })).text()
    expect(stream).toMatch(/data: \{"error":\{"message":"the answer took longer [^\n]*\n\n$/)
  })

  it('of tokens hold whatever is asked for', async () => {
    const server = await started({ limits: { maxTokens: 3 } })
    const { usage } = (await (await post(server, LONG)).json()) as Json
    expect(usage.completion_tokens).toBe(3)
  })

  it('of silence are bridged by comments', async () => {
    const limits = { concurrent: 1, keepAliveMs: 50 }
    const server = await started({ models: { demo: endless() }, limits })
    const leaving = new AbortController()
    const first = await post(server, { ...LONG, stream: true }, { signal: leaving.signal })
    void first.body?.getReader().read()
    const response = await post(server, { prompt: 'x', max_tokens: 1, stream: true })
    expect(response.status).toBe(200)
    let text = ''
    const decoder = new TextDecoder()
    for await (const bytes of response.body ?? []) {
      text += decoder.decode(bytes as Uint8Array, { stream: true })
      if (text.split('keep-alive').length > 2) leaving.abort()
    }
    expect(text).toMatch(/^(?:: keep-alive\n\n){2,}data: /)
    expect(text).toMatch(/data: \[DONE\]\n\n$/)
  })
})

describe('closing', () => {
  const LONG = { prompt: 'Once', max_tokens: 3000, logit_bias: { 2: -100, 0: -100 }, stream: true }

  it('waits for what is being answered, and refuses the rest', async () => {
    const server = await started()
    const answer = await post(server, { ...LONG, max_tokens: 20 })
    const closing = server.close()
    await expect(post(server, { prompt: 'x' })).rejects.toThrow()
    expect(await answer.text()).toMatch(/data: \[DONE\]\n\n$/)
    await closing
  })

  it('ends what takes too long', async () => {
    const server = await started()
    const answer = await post(server, LONG)
    const text = answer.text().catch(() => 'broken off')
    await server.close(200)
    expect(await text).toMatch(/the server is stopping|broken off/)
    expect(server.handler.active).toBe(0)
  })

  it('does not wait for who reads nothing', async () => {
    const handler = createHandler({ models: { demo: model } })
    const request = new Request('http://localhost/v1/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'demo', ...LONG }),
    })
    await handler(request)
    await handler.close(50)
    expect((await handler(new Request('http://localhost/v1/models'))).status).toBe(503)
    expect(model.disposed).toBe(false)
  })
})

describe('many requests, 32 at once, some of which leave', () => {
  const REQUEST = { prompt: [10, 20, 30], max_tokens: 3, temperature: 0 }

  it.each<[string, number, () => Model]>([
    ['a fake model', 500, () => fakeModel({ answers: 'Once upon a time', tokenMs: 2 })],
    ['the demo model', 500, () => model],
  ])('lose nothing and leave nothing behind: %s, %d', async (_, count, made) => {
    const limits = { concurrent: 16, queued: 500 }
    const server = await started({ models: { demo: made() }, limits })
    const whole = (await (await post(server, REQUEST)).json()) as Json
    const expected = whole.choices[0].text as string
    const memory = (): number => {
      global.gc?.()
      return process.memoryUsage().rss
    }
    const outcome = { answered: 0, left: 0 }
    let before = 0
    let next = 0
    const ask = async (): Promise<void> => {
      while (next < count) {
        const number = next++
        if (number === 100) before = memory()
        const leaves = number % 7 === 3
        const stream = number % 2 === 1
        const leaving = new AbortController()
        const asked = post(server, { ...REQUEST, stream }, { signal: leaving.signal })
        if (leaves) {
          setTimeout(() => {
            leaving.abort()
          }, number % 40)
        }
        try {
          const response = await asked
          const text = await response.text()
          expect(response.status).toBe(200)
          expect(said(text, stream)).toBe(expected)
          outcome.answered++
        } catch (error) {
          if (!leaves) throw error
          outcome.left++
        }
      }
    }
    await Promise.all(Array.from({ length: 32 }, ask))
    expect(outcome.answered + outcome.left).toBe(count)
    expect(outcome.left).toBeLessThanOrEqual(Math.ceil(count / 7))
    await until(() => Promise.resolve(server.handler.active === 0))
    expect(await metric(server, 'nodemlx_running')).toBe(0)
    expect(await metric(server, 'nodemlx_waiting')).toBe(0)
    if (before > 0) expect(memory() - before).toBeLessThan(150e6)
  })

  function said(text: string, stream: boolean): string {
    const chunks = stream ? [...text.matchAll(/^data: (\{.*)$/gm)].map(([, data]) => data) : [text]
    return chunks
      .map((chunk = '') => (JSON.parse(chunk).choices[0].text as string | undefined) ?? '')
      .join('')
  }
})
