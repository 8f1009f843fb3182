import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { invalidArgument, NodeMlxError } from '../errors.js'

/** The variables that say where the hub and its cache are; those of huggingface_hub. */
export type Environment = Readonly<Record<string, string | undefined>>

const DEFAULT_ENDPOINT = 'https://huggingface.co'

/** A token, and where it is from, for messages: the token itself is never shown. */
export interface Token {
  value: string
  from: string
}

/**
 * The folder of the cache: the option, `HF_HUB_CACHE`, the older `HUGGINGFACE_HUB_CACHE`, or `hub`
 * in {@link home}.
 */
export function cacheFolder(option?: string, environment: Environment = process.env): string {
  const path =
    option ?? filled(environment, 'HF_HUB_CACHE') ?? filled(environment, 'HUGGINGFACE_HUB_CACHE')
  return path === undefined ? join(home(environment), 'hub') : expand(path, environment)
}

/** `HF_HOME`, or `huggingface` in `XDG_CACHE_HOME` or `~/.cache`. */
function home(environment: Environment): string {
  const own = filled(environment, 'HF_HOME')
  if (own !== undefined) return expand(own, environment)
  const caches = filled(environment, 'XDG_CACHE_HOME') ?? join('~', '.cache')
  return join(expand(caches, environment), 'huggingface')
}

/** The hub's address without a slash at its end: the option, `HF_ENDPOINT`, or the public hub. */
export function endpointAddress(option?: string, environment: Environment = process.env): URL {
  const text = option ?? filled(environment, 'HF_ENDPOINT') ?? DEFAULT_ENDPOINT
  const url = URL.canParse(text) ? new URL(text) : undefined
  const name = option === undefined ? 'HF_ENDPOINT' : 'endpoint'
  // It is not shown, either.
  if (url !== undefined && (url.username !== '' || url.password !== ''))
    throw invalidArgument(name, 'has a user name or password, which are not sent: leave them out')
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    const message = `expected an address such as ${DEFAULT_ENDPOINT}, got ${JSON.stringify(text)}`
    throw invalidArgument(name, message)
  }
  url.pathname = url.pathname.replace(/\/+$/, '')
  url.search = ''
  url.hash = ''
  return url
}

/**
 * Whether nothing may be asked of the network: the option, `HF_HUB_OFFLINE` or
 * `TRANSFORMERS_OFFLINE`.
 */
export function isOffline(option?: boolean, environment: Environment = process.env): boolean {
  return (
    option ??
    isTrue(filled(environment, 'HF_HUB_OFFLINE') ?? filled(environment, 'TRANSFORMERS_OFFLINE'))
  )
}

/** Whether snapshots are to hold files in place of links. */
export function wantsNoLinks(environment: Environment = process.env): boolean {
  return isTrue(environment['HF_HUB_DISABLE_SYMLINKS'])
}

/**
 * The token to send: the option, else `HF_TOKEN`, else the file that `hf auth login` writes
 * (`HF_TOKEN_PATH`, or `token` in `HF_HOME`). `false` sends none, and
 * `HF_HUB_DISABLE_IMPLICIT_TOKEN` none but the option.
 */
export async function findToken(
  option?: string | false,
  environment: Environment = process.env,
): Promise<Token | undefined> {
  if (option === false) return undefined
  if (option !== undefined) return checkToken(option, 'token')
  if (isTrue(environment['HF_HUB_DISABLE_IMPLICIT_TOKEN'])) return undefined
  for (const name of ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN']) {
    const value = environment[name]?.trim()
    if (value) return checkToken(value, name)
  }
  const named = filled(environment, 'HF_TOKEN_PATH')
  const path = named === undefined ? join(home(environment), 'token') : expand(named, environment)
  const value = (await readFile(path, 'utf8').catch(() => '')).trim()
  return value === '' ? undefined : checkToken(value, path)
}

function checkToken(text: string, from: string): Token {
  const value = text.trim()
  if (/^[\x21-\x7e]+$/.test(value)) return { value, from }
  if (from === 'token') throw invalidArgument('token', 'has characters that no token has')
  throw new NodeMlxError('UNAUTHORIZED', `${from} holds no token: it has characters none has`)
}

/** Seconds that a variable gives, in milliseconds. */
export function milliseconds(name: string, fallback: number): number {
  const seconds = Number(process.env[name])
  return Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : fallback
}

/** An absolute path; `~` and `$NAME` stand for what they do in a shell. */
export function expand(path: string, environment: Environment = process.env): string {
  const named = path.replaceAll(
    /\$(?:(\w+)|\{(\w+)\})/g,
    (whole, bare: string | undefined, braced: string | undefined) =>
      environment[bare ?? braced ?? ''] ?? whole,
  )
  const user = filled(environment, 'HOME') ?? filled(environment, 'USERPROFILE') ?? homedir()
  return resolve(/^~(?=$|[/\\])/.test(named) ? join(user, named.slice(1)) : named)
}

/** A variable that is set and not empty. */
export function filled(environment: Environment, name: string): string | undefined {
  const value = environment[name]
  return value === '' ? undefined : value
}

function isTrue(value: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(value?.trim() ?? '')
}
