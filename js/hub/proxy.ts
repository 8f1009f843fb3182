import { request as httpRequest, type OutgoingHttpHeaders } from 'node:http'
import { Agent, request as httpsRequest, type AgentOptions } from 'node:https'
import { BlockList, isIP } from 'node:net'
import type { Duplex } from 'node:stream'
import { NodeMlxError } from '../errors.js'
import type { Environment } from './environment.js'

/**
 * The proxy for an address by `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in small
 * letters or large; `undefined` for none.
 */
export function proxyFor(url: URL, environment: Environment = process.env): URL | undefined {
  const variable = (name: string): string | undefined =>
    [environment[name], environment[name.toUpperCase()]].find((value) => value)
  const text = variable(`${url.protocol.slice(0, -1)}_proxy`) ?? variable('all_proxy')
  if (text === undefined || isExempt(url, variable('no_proxy') ?? '')) return undefined
  const full = text.includes('://') ? text : `http://${text}`
  const proxy = URL.canParse(full) ? new URL(full) : undefined
  if (proxy !== undefined && /^https?:$/.test(proxy.protocol)) return proxy
  const shown =
    proxy === undefined ? 'not an address' : `of the kind ${proxy.protocol.slice(0, -1)}`
  throw new NodeMlxError(
    'UNSUPPORTED',
    `The proxy for ${url.host} is ${shown}; proxies must be http:// or https://.`,
  )
}

/** What a message says of the proxy on the way to an address; nothing where there is none. */
export function throughProxy(url: URL): string {
  const proxy = proxyFor(url)
  if (proxy === undefined) return ''
  const variable = url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY'
  return ` through the proxy ${proxy.host} (${variable} or ALL_PROXY)`
}

/** Whether `NO_PROXY` names a host: itself, a domain above it, an address range, or with a port. */
function isExempt(url: URL, list: string): boolean {
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1').toLowerCase()
  const port = url.port || (url.protocol === 'https:' ? '443' : '80')
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => {
      if (entry === '') return false
      if (entry === '*') return true
      if (entry.includes('/')) return isInRange(host, entry)
      const [, name = entry, only] = /^\[?(.+?)\]?:(\d+)$/.exec(entry) ?? []
      // More colons than one are an address of version 6.
      const isAddress = isIP(entry) !== 0
      if (!isAddress && only !== undefined && only !== port) return false
      const domain = (isAddress ? entry : name).replace(/^\*?\./, '').replace(/^\[(.*)\]$/, '$1')
      return host === domain || (isIP(host) === 0 && host.endsWith(`.${domain}`))
    })
}

function isInRange(host: string, range: string): boolean {
  const [network = '', bits = ''] = range.split('/')
  const version = isIP(network)
  if (version === 0 || isIP(host) !== version) return false
  const family = version === 4 ? 'ipv4' : 'ipv6'
  const prefix = Number(bits)
  if (!Number.isInteger(prefix) || prefix < 0 || prefix > (version === 4 ? 32 : 128)) return false
  const list = new BlockList()
  list.addSubnet(network, prefix, family)
  return list.check(host, family)
}

/** What a proxy wants to know of who asks. */
export function proxyHeaders(proxy: URL): OutgoingHttpHeaders {
  if (proxy.username === '') return {}
  const user = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`
  return { 'proxy-authorization': `Basic ${Buffer.from(user).toString('base64')}` }
}

/** How long a proxy may take to connect. */
const CONNECT_MS = 30_000

const tunnels = new Map<string, Agent>()

/** Connections through a proxy that sees only where they go (`CONNECT`, RFC 9110, 9.3.6). */
export function tunnelAgent(proxy: URL): Agent {
  const agent = tunnels.get(proxy.href) ?? new TunnelAgent(proxy)
  tunnels.set(proxy.href, agent)
  return agent
}

type Connected = (error: Error | null, stream?: Duplex) => void

interface Destination extends AgentOptions {
  host?: string
  port?: number
}

/** The method of Node's agents that opens a connection, which their types leave out. */
interface Connector {
  createConnection(options: Destination & { socket: Duplex }): Duplex
}

class TunnelAgent extends Agent {
  readonly #proxy: URL

  constructor(proxy: URL) {
    super({ keepAlive: true })
    this.#proxy = proxy
  }

  override createConnection(options: Destination, connected: Connected): undefined {
    const secured = Agent.prototype as unknown as Connector
    tunnel(this.#proxy, options).then((socket) => {
      connected(null, secured.createConnection.call(this, { ...options, socket }))
    }, connected)
  }
}

function tunnel(proxy: URL, { host = '', port = 443 }: Destination): Promise<Duplex> {
  const target = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`
  return new Promise((resolve, reject) => {
    const request = (proxy.protocol === 'https:' ? httpsRequest : httpRequest)({
      hostname: proxy.hostname.replace(/^\[(.*)\]$/, '$1'),
      port: proxy.port,
      method: 'CONNECT',
      path: target,
      headers: { host: target, ...proxyHeaders(proxy) },
      agent: false,
    })
    request.on('connect', (response, socket) => {
      socket.setTimeout(0)
      if (response.statusCode === 200) {
        resolve(socket)
        return
      }
      socket.destroy()
      const status = `${response.statusCode ?? 0} ${response.statusMessage ?? ''}`.trim()
      reject(new Error(`the proxy ${proxy.host} refuses to connect to ${target}: ${status}`))
    })
    request.setTimeout(CONNECT_MS, () => {
      request.destroy(new Error(`the proxy ${proxy.host} does not answer`))
    })
    request.on('error', reject)
    request.end()
  })
}
