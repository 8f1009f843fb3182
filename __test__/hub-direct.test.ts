// Parts of large files are read over connections of our own: what a server may do to these.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { downloadModel, type DownloadedModel } from '../js/index.js'
import { runModule } from './support/child.js'
import { HubFixture, modelFiles, noise } from './support/hub-fixtures.js'
import type { Fault, Seen } from './support/hub-server.js'

const hub = new HubFixture()
const WEIGHTS = noise(28_000_000, 3)
const PART = 8 << 20

const isPart = ({ at, method }: Seen): boolean => at === 'content' && method === 'GET'
/** Node's client says that it keeps connections; ours does not need to, since HTTP/1.1 does. */
const isDirect = (seen: Seen): boolean => isPart(seen) && seen.headers.connection === undefined
const direct = (): Seen[] => hub.server.requests.filter(isDirect)

const download = (options: object = {}): Promise<DownloadedModel> =>
  downloadModel('owner/name', { ...hub.options, ...options })

const isWhole = ({ path }: DownloadedModel): boolean =>
  readFileSync(join(path, 'model.safetensors')).equals(WEIGHTS)

/** What happens to the first requests over connections of our own, one after the other. */
function faults(...list: ((seen: Seen) => Fault | undefined)[]): void {
  hub.server.fault = (seen) => (isDirect(seen) ? list.shift()?.(seen) : undefined)
}

/** The bytes that a request asks for, and the head of the right answer. */
function answer({ headers }: Seen): { head: string; body: Buffer } {
  const [, from = '', to = ''] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? []
  const body = WEIGHTS.subarray(Number(from), Number(to) + 1)
  const head =
    `HTTP/1.1 206 Partial Content\r\ncontent-range: bytes ${from}-${to}/${WEIGHTS.length}\r\n` +
    `content-length: ${body.length}\r\n`
  return { head, body }
}

const hints = 'HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n'
const byte = (value: number): Buffer => Buffer.from([value])

beforeEach(() => {
  hub.server.add('owner/name', modelFiles(WEIGHTS))
})

describe('parts of a large file', () => {
  it('come directly from where the first one came from, over few connections', async () => {
    const large = noise(90_000_000, 4)
    hub.server.add('owner/large', modelFiles(large))
    const { path } = await downloadModel('owner/large', hub.options)
    expect(readFileSync(join(path, 'model.safetensors')).equals(large)).toBe(true)
    const seen = hub.server.requests.filter(isPart)
    expect(seen.map(({ headers }) => headers.range).sort()).toEqual(
      Array.from({ length: 11 }, (_, at) => {
        const end = Math.min((at + 1) * PART, large.length)
        return `bytes=${at * PART}-${end - 1}`
      }).sort(),
    )
    expect(seen.map(isDirect)).toEqual([false, ...Array.from({ length: 10 }, () => true)])
    expect(new Set(direct().map(({ port }) => port)).size).toBeLessThanOrEqual(4)
    // The hub is asked once for where the content is.
    expect(hub.server.of('model.safetensors').filter(({ at }) => at === 'hub')).toHaveLength(1)
  })

  it('come through the fetch that was given, or a proxy', async () => {
    await download({ fetch })
    expect(hub.server.requests.filter(isPart)).toHaveLength(4)
    expect(direct()).toEqual([])
  })

  it('come over https, whose certificate is checked', async () => {
    const [key, cert] = [join(hub.cacheDir, 'key.pem'), join(hub.cacheDir, 'cert.pem')]
    const options = '-newkey rsa:2048 -nodes -days 2 -subj /CN=localhost'
    const names = '-addext subjectAltName=DNS:localhost'
    const command = `req -x509 ${options} ${names} -keyout ${key} -out ${cert}`
    execFileSync('openssl', command.split(' '), { stdio: 'ignore' })
    const certificate = { key: readFileSync(key), cert: readFileSync(cert) }
    // Both hosts of the hub behind one that speaks TLS.
    const secure = createSecureServer(certificate, (incoming, outgoing) => {
      const { method, url = '', headers } = incoming
      const [, content] = /^\/content(\/.*)/.exec(url) ?? []
      const target =
        content === undefined
          ? `${hub.server.endpoint}${url}`
          : `${hub.server.contentHost}${content}`
      request(target, { method, headers }, (response) => {
        const { location } = response.headers
        const moved = location?.replace(hub.server.contentHost, `${endpoint}/content`)
        outgoing.writeHead(response.statusCode ?? 0, {
          ...response.headers,
          ...(moved !== undefined && { location: moved }),
        })
        response.pipe(outgoing)
      }).end()
    })
    await new Promise<void>((resolve) => secure.listen(0, resolve))
    const endpoint = `https://localhost:${(secure.address() as AddressInfo).port}`
    const source = `
      import { downloadModel } from 'nodemlx'
      const options = ${JSON.stringify({ ...hub.options, endpoint })}
      console.log(JSON.stringify(await downloadModel('owner/name', options)))`
    try {
      const refused = await runModule(source)
      expect(refused.stderr).toMatch(/NETWORK_ERROR/)
      hub.server.requests.length = 0
      const environment = { NODE_EXTRA_CA_CERTS: cert }
      const { stdout, stderr } = await runModule(source, { environment })
      expect(stderr).toBe('')
      expect(isWhole(JSON.parse(stdout) as DownloadedModel)).toBe(true)
    } finally {
      secure.closeAllConnections()
      secure.close()
    }
  })
})

describe('a server that', () => {
  it.each<[string, (seen: Seen) => Fault]>([
    ['cuts an answer within its body', () => ({ cutAfter: 1_234_567 })],
    ['cuts an answer before its body', () => ({ cutAfter: 0 })],
    ['says less than it was asked for', () => ({ contentLength: 1000, cutAfter: 1000 })],
    ['says more than it was asked for', () => ({ contentLength: PART + 1 })],
    ['says what is no HTTP', () => ({ raw: ['NONSENSE\r\n\r\n'] })],
    ['never ends its head', () => ({ raw: Array.from({ length: 40 }, () => 'x: y'.repeat(200)) })],
    ['sends a line without a name', (seen) => ({ raw: [answer(seen).head, ': nothing\r\n\r\n'] })],
    ['folds a line', (seen) => ({ raw: [answer(seen).head, ' folded\r\n\r\n'] })],
    ['names two lengths', (seen) => ({ raw: [answer(seen).head, 'content-length: 5\r\n\r\n'] })],
    [
      'sends chunks',
      (seen) => {
        const { head, body } = answer(seen)
        const chunk = `transfer-encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n`
        return { raw: [head.replace(/content-length.*\r\n/, ''), chunk, body, '\r\n0\r\n\r\n'] }
      },
    ],
    ['packs what it sends', () => ({ headers: { 'content-encoding': 'gzip' } })],
    ['leads elsewhere', () => ({ status: 302, headers: { location: '/elsewhere' } })],
    ['is busy', () => ({ status: 503 })],
    ['has too many requests', () => ({ status: 429, headers: { 'retry-after': '1' } })],
    ['refuses an address that was good', () => ({ status: 403, body: 'expired' })],
    ['sends everything', () => ({ ignoreRange: true })],
    ['sends another part', () => ({ headers: { 'content-range': `bytes 5-9/${WEIGHTS.length}` } })],
  ])('%s is asked again', async (_, fault) => {
    faults(fault, () => undefined, fault)
    expect(isWhole(await download())).toBe(true)
  })

  it('stands still is left', async () => {
    process.env['HF_HUB_DOWNLOAD_TIMEOUT'] = '0.5'
    faults(
      () => ({ stallAfter: 100_000 }),
      () => ({ silent: true }),
    )
    expect(isWhole(await download())).toBe(true)
  })

  it('sends its head in pieces, and news before it, is understood', async () => {
    faults(
      (seen) => {
        const { head, body } = answer(seen)
        return { raw: [...Buffer.from(`${hints}${head}\r\n`)].map(byte).concat(body) }
      },
      (seen) => {
        const { head, body } = answer(seen)
        const early = `HTTP/1.1 100 Continue\r\n\r\n${head}\r\n`
        return { raw: [Buffer.concat([Buffer.from(early), body])] }
      },
    )
    expect(isWhole(await download())).toBe(true)
    expect(hub.server.requests.filter(isPart)).toHaveLength(4)
  })

  it('sends more than it said is not believed', async () => {
    faults((seen) => {
      const { head, body } = answer(seen)
      return { raw: [`${head}\r\n`, body, 'HTTP/1.1 206 Partial Content\r\n\r\n'] }
    })
    expect(isWhole(await download())).toBe(true)
  })

  it('closes a connection behind an answer is asked over another', async () => {
    const large = noise(60_000_000, 5)
    hub.server.add('owner/closes', modelFiles(large))
    hub.server.fault = (seen) => (isDirect(seen) ? { headers: { connection: 'close' } } : undefined)
    const { path } = await downloadModel('owner/closes', hub.options)
    expect(readFileSync(join(path, 'model.safetensors')).equals(large)).toBe(true)
    expect(direct()).toHaveLength(7)
  })

  it('has another file by now is read from the beginning', async () => {
    faults(() => ({ headers: { etag: '"another"' } }))
    expect(isWhole(await download())).toBe(true)
    expect(
      hub.server.requests.filter(({ headers }) => headers.range === `bytes=0-${PART - 1}`).length,
    ).toBeGreaterThan(1)
  })

  it('sends other bytes is found out', async () => {
    hub.server.fault = (seen) =>
      isDirect(seen) ? { content: noise(WEIGHTS.length, 9) } : undefined
    await expect(download()).rejects.toMatchObject({ code: 'HASH_MISMATCH' })
  })
})

it('an abort while parts come leaves a beginning of the file, and no connection', async () => {
  const controller = new AbortController()
  hub.server.fault = (seen) => (isDirect(seen) ? { slowMs: 1 } : undefined)
  let count = 0
  hub.server.onContent = (seen) => {
    if (isDirect(seen) && ++count === 3)
      setTimeout(() => {
        controller.abort()
      }, 100)
  }
  await expect(download({ signal: controller.signal })).rejects.toMatchObject({ code: 'ABORTED' })
  const [name = ''] = hub.names('owner/name', 'blobs').filter((it) => it.endsWith('.incomplete'))
  const left = readFileSync(join(hub.cacheDir, 'models--owner--name', 'blobs', name))
  expect(left.equals(WEIGHTS.subarray(0, left.length))).toBe(true)
  hub.server.fault = () => undefined
  expect(isWhole(await download())).toBe(true)
})
