import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { pageFolder } from '../package-folder.js'
import type { Call } from './call.js'
import { Failure } from './failure.js'
import { isLoopback } from './security.js'

const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
}

/** Nothing but the page's own files runs, is shown or is asked; and no other page may frame it. */
const HEADERS = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-cache',
}

/** Browsers complain of it where they do not trust the page's origin. */
const ISOLATED = { 'cross-origin-opener-policy': 'same-origin' }

/** Whether the page comes from this machine, or over HTTPS, as a proxy may say. */
function isSecure({ url, headers }: Request): boolean {
  const { protocol, hostname } = new URL(url)
  const outer = headers.get('x-forwarded-proto') ?? protocol.slice(0, -1)
  return outer === 'https' || isLoopback(hostname)
}

const files = new Map<string, Promise<Buffer>>()

/** The chat page's file of a path, or `undefined` where the path is none of the page's. */
export function pageFile(path: string): string | undefined {
  if (path === '/') return 'index.html'
  return /^\/page\/([a-z-]+\.(?:css|js|svg))$/.exec(path)?.[1]
}

/** A file of the chat page. */
export async function servePage({ request }: Call, name: string): Promise<Response> {
  const content = await read(name)
  const etag = `"${createHash('sha256').update(content).digest('base64url').slice(0, 22)}"`
  const headers = { ...HEADERS, ...(isSecure(request) ? ISOLATED : {}), etag }
  if (request.headers.get('if-none-match') === etag)
    return new Response(null, { status: 304, headers })
  const type = TYPES[extname(name)] ?? 'application/octet-stream'
  return new Response(new Uint8Array(content), { headers: { ...headers, 'content-type': type } })
}

function read(name: string): Promise<Buffer> {
  const known = files.get(name)
  if (known !== undefined) return known
  const folder = pageFolder()
  const reading =
    folder === undefined
      ? Promise.reject(new Error('nodemlx is not installed here'))
      : readFile(join(folder, name))
  const found = reading.catch((error: unknown) => {
    files.delete(name)
    throw new Failure('not-found', `the chat page has no ${name} here`, { cause: error })
  })
  files.set(name, found)
  return found
}
