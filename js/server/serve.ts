import { createServer, type Server, STATUS_CODES } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { invalidArgument } from '../errors.js'
import { integer, nonEmptyString } from '../validate.js'
import { Failure } from './failure.js'
import { createHandler, type Handler } from './handler.js'
import { nodeListener } from './listener.js'
import { OPENAI } from './openai/api.js'
import { handlerOptions, type HandlerOptions } from './options.js'
import { isLoopback } from './security.js'

/** Options of `serve`. */
export interface ServeOptions extends HandlerOptions {
  /** 0 takes a free one. @defaultValue 8080 */
  port?: number | undefined
  /** The address to listen at; one that other machines reach needs an `apiKey`. @defaultValue '127.0.0.1' */
  host?: string | undefined
}

/** A server that runs. */
export interface RunningServer extends AsyncDisposable {
  /** Where it is, such as `http://127.0.0.1:8080`. */
  readonly url: string
  readonly port: number
  readonly handler: Handler
  /**
   * Takes no more connections, waits for what is being answered, at most for so long, and ends.
   *
   * @param deadlineMs - @defaultValue 10000
   */
  close(deadlineMs?: number): Promise<void>
}

/** Serves models at an address. */
export async function serve(options: ServeOptions): Promise<RunningServer> {
  const { port: wanted = 8080, host = '127.0.0.1', ...rest } = options
  integer(0, 65_535)(wanted, 'port')
  nonEmptyString(host, 'host')
  const { access, limits } = handlerOptions(rest)
  if (!isLoopback(host) && access.keys.length === 0) {
    throw invalidArgument(
      'host',
      `${host} can be reached from other machines, and needs an apiKey (--api-key)`,
    )
  }
  const handler = createHandler(rest)
  const server = createServer(
    { headersTimeout: 10_000, requestTimeout: limits.bodyMs + 10_000, keepAliveTimeout: 15_000 },
    nodeListener(handler),
  )
  server.maxConnections = limits.connections
  server.on('clientError', refuse)
  await listening(server, wanted, host)
  const { port } = server.address() as AddressInfo
  let closing: Promise<void> | undefined
  const close = (deadlineMs?: number): Promise<void> =>
    (closing ??= closeServer(server, handler, deadlineMs))
  const running = {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${port}`,
    port,
    handler,
    close,
  }
  // Older versions of Node.js 20 have no such symbol.
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-condition -- see above
  if (Symbol.asyncDispose) Object.assign(running, { [Symbol.asyncDispose]: () => close() })
  return running as RunningServer
}

function listening(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

async function closeServer(
  server: Server,
  handler: Handler,
  deadlineMs: number | undefined,
): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    server.close(() => {
      resolve()
    })
  })
  server.closeIdleConnections()
  await handler.close(deadlineMs)
  server.closeAllConnections()
  await closed
}

/** Answers what is no HTTP, or too slow or too large for it. */
function refuse(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const [status, why] =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? ([431, 'the headers are too large'] as const)
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? ([408, 'the request took too long to arrive'] as const)
        : ([400, 'the request is no valid HTTP'] as const)
  const body = JSON.stringify(OPENAI.body(new Failure('invalid', why), ''))
  socket.end(
    [
      `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
      'Content-Type: application/json; charset=utf-8',
      `Content-Length: ${Buffer.byteLength(body)}`,
      'Connection: close',
      '',
      body,
    ].join('\r\n'),
  )
}
