// Downloads through a proxy, on every version of Node.js.

import { createServer, request, type IncomingMessage, type Server } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import { connect, type AddressInfo } from 'node:net'
import { readFileSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { downloadModel } from '../js/index.js'
import { runModule } from './support/child.js'
import { HubFixture, modelFiles, noise } from './support/hub-fixtures.js'

const hub = new HubFixture()
const seen: { method: string; url: string; authorization: string | undefined }[] = []
let proxy: Server

const note = ({ method = '', url = '', headers }: IncomingMessage): void => {
  seen.push({ method, url, authorization: headers['proxy-authorization'] })
}

beforeAll(async () => {
  proxy = createServer((incoming, outgoing) => {
    note(incoming)
    const { method, url = '', headers } = incoming
    request(url, { method, headers }, (response) => {
      outgoing.writeHead(response.statusCode ?? 0, response.rawHeaders)
      response.pipe(outgoing)
    }).end()
  })
  proxy.on('connect', (incoming: IncomingMessage, socket: Duplex) => {
    note(incoming)
    const [host = '', port = ''] = (incoming.url ?? '').split(':')
    if (host === 'refused.test') {
      socket.end('HTTP/1.1 403 Forbidden\r\n\r\n')
      return
    }
    const target = connect(Number(port), '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      target.pipe(socket).pipe(target)
    })
    for (const it of [socket, target]) it.on('error', () => undefined)
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
})

beforeEach(() => {
  seen.length = 0
})

afterAll(() => {
  proxy.closeAllConnections()
  proxy.close()
})

const address = (user = ''): string =>
  `http://${user}127.0.0.1:${(proxy.address() as AddressInfo).port}`

describe('a proxy', () => {
  it('is asked for addresses of http', async () => {
    hub.server.add('owner/proxied', modelFiles(noise(20_000_000)))
    process.env['HTTP_PROXY'] = address('user:pass%20word@')
    const { path } = await downloadModel('owner/proxied', hub.options)
    expect(readFileSync(join(path, 'model.safetensors')).equals(noise(20_000_000))).toBe(true)
    expect(seen.length).toBe(hub.server.requests.length)
    expect(seen[0]).toEqual({
      method: 'GET',
      url: `${hub.server.endpoint}/api/models/owner/proxied/revision/main?blobs=true`,
      authorization: `Basic ${Buffer.from('user:pass word').toString('base64')}`,
    })
  })

  it('is passed by where NO_PROXY says so', async () => {
    hub.server.add('owner/direct', modelFiles())
    process.env['HTTP_PROXY'] = address()
    process.env['NO_PROXY'] = 'localhost,127.0.0.1'
    await downloadModel('owner/direct', hub.options)
    expect(seen).toEqual([])
  })

  it('that is not there is named', async () => {
    process.env['HTTP_PROXY'] = 'http://127.0.0.1:9'
    await expect(downloadModel('owner/name', hub.options)).rejects.toMatchObject({
      code: 'NETWORK_ERROR',
      message: expect.stringContaining('through the proxy 127.0.0.1:9 (HTTP_PROXY') as string,
    })
  })

  it('connects to addresses of https, and sees nothing but where', async () => {
    hub.server.add('owner/secure', modelFiles())
    const certificate = selfSigned(hub.cacheDir)
    const secure = createSecureServer(certificate, (incoming, outgoing) => {
      const { method, url = '', headers } = incoming
      request(`${hub.server.endpoint}${url}`, { method, headers }, (response) => {
        outgoing.writeHead(response.statusCode ?? 0, response.rawHeaders)
        response.pipe(outgoing)
      }).end()
    })
    await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve))
    const { port } = secure.address() as AddressInfo
    const options = { cacheDir: hub.cacheDir, endpoint: `https://hub.test:${port}` }
    const source = (endpoint: string): string => `
      import { downloadModel } from 'nodemlx'
      const options = ${JSON.stringify(options)}
      const { revision } = await downloadModel('owner/secure', { ...options, endpoint: '${endpoint}' })
      console.log(revision)`
    const environment = {
      HTTPS_PROXY: address(),
      NODE_EXTRA_CA_CERTS: join(hub.cacheDir, 'cert.pem'),
    }
    const { stdout, stderr } = await runModule(source(options.endpoint), { environment })
    expect({ stdout, stderr }).toEqual({
      stdout: expect.stringMatching(/^[0-9a-f]{40}\n$/) as string,
      stderr: '',
    })
    expect(new Set(seen.map(({ method, url }) => `${method} ${url}`))).toEqual(
      new Set([`CONNECT hub.test:${port}`]),
    )
    const refused = await runModule(source('https://refused.test'), { environment })
    expect(refused.stderr).toMatch(/refuses to connect to refused\.test:443: 403 Forbidden/)
    secure.closeAllConnections()
    secure.close()
  })
})

describe('what a program has set for its requests', () => {
  const DOWNLOAD = `
    const { downloadModel } = await import('nodemlx')
    const [endpoint, cacheDir] = [process.env.ENDPOINT, process.env.CACHE]
    await downloadModel('owner/name', { endpoint, cacheDir })`
  const run = (before: string, environment: NodeJS.ProcessEnv = {}) =>
    runModule(before + DOWNLOAD, {
      environment: { ENDPOINT: 'http://hub.test', CACHE: hub.cacheDir, ...environment },
    })

  it.each([
    [
      'a fetch of its own',
      `globalThis.fetch = (url) => {
         console.log(new URL(url).host)
         process.exit()
       }`,
    ],
    [
      'a dispatcher of undici’s fetch',
      `class MockAgent {
         dispatch({ origin }) {
           console.log(new URL(origin).host)
           process.exit()
         }
       }
       for (const version of [1, 2])
         globalThis[Symbol.for('undici.globalDispatcher.' + version)] = new MockAgent()`,
    ],
  ])('is used, also from before the package was loaded: %s', async (_, before) => {
    expect(await run(before)).toMatchObject({ code: 0, stdout: 'hub.test\n', stderr: '' })
  })

  it('is nothing where it only has called fetch: then proxies are used', async () => {
    hub.server.add('owner/name', modelFiles())
    const environment = { ENDPOINT: hub.server.endpoint, HTTP_PROXY: address() }
    const { code, stderr } = await run(`await fetch('data:,Hi')`, environment)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(seen.length).toBeGreaterThan(2)
  })
})

function selfSigned(folder: string): { key: Buffer; cert: Buffer } {
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  execFileSync(
    'openssl',
    `req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=hub.test -addext subjectAltName=DNS:hub.test -keyout ${key} -out ${cert}`.split(
      ' ',
    ),
    { stdio: 'ignore' },
  )
  return { key: readFileSync(key), cert: readFileSync(cert) }
}
