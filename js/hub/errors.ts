import { NodeMlxError } from '../errors.js'
import type { Token } from './environment.js'
import { Transient, retryAfter } from './failures.js'
import { throughProxy } from './proxy.js'
import { didYouMean } from './repository.js'
import type { HubResponse } from './transport.js'

/** What was asked for, for messages. */
export interface Asked {
  /** `owner/name`. */
  id: string
  revision: string
  /** Where it was a file. */
  file?: string
  endpoint: URL
  token: Token | undefined
}

/** Answers that mean "later". */
const BUSY = new Set([408, 425, 429, 500, 502, 503, 504])

/**
 * The error for an answer that is not what was asked for: a {@link Transient} where trying again
 * can help.
 */
export function refusal(
  { status, headers }: Pick<HubResponse, 'status' | 'headers'>,
  asked: Asked,
): Error {
  const code = headers.get('x-error-code') ?? ''
  const { id, revision, file, endpoint } = asked
  const name = revision === 'main' ? id : `${id}@${revision}`
  const at = `${endpoint.host} (HTTP ${status})`
  if (BUSY.has(status)) {
    const wait = retryAfter(headers.get('retry-after'))
    const seconds = wait > 0 ? `; it asks to wait for ${Math.ceil(wait / 1000)} s` : ''
    const why = status === 429 ? 'has had too many requests' : 'has a problem of its own'
    const way = throughProxy(endpoint)
    const who = way === '' ? `the hub ${endpoint.host}` : `the hub ${endpoint.host}, asked${way},`
    const message = `${name}: ${who} ${why} (HTTP ${status})${seconds}. Try again later.`
    return new Transient(new NodeMlxError('HUB_ERROR', message), { wait })
  }
  if (code === 'GatedRepo') {
    return new NodeMlxError(
      'GATED_MODEL',
      `${name} is given only to those who agree to its conditions: do so at ${page(asked)}, then ${withToken(asked)}.`,
    )
  }
  if (code === 'RevisionNotFound') {
    return new NodeMlxError(
      'REVISION_NOT_FOUND',
      `${id} has no branch, tag or commit "${revision}"; ${page(asked)} shows which there are.`,
    )
  }
  if (file !== undefined && (code === 'EntryNotFound' || (status === 404 && code === ''))) {
    return new NodeMlxError('FILE_NOT_FOUND', `${name} has no file ${file}.`)
  }
  const isRefused = /invalid (credentials|username)/i.test(headers.get('x-error-message') ?? '')
  if (status === 404 || (code === 'RepoNotFound' && !isRefused)) {
    const login =
      asked.token === undefined
        ? ` If it is private, ${withToken(asked)}.`
        : ` The token from ${asked.token.from} was sent: it may be one without access to it.`
    return new NodeMlxError(
      'MODEL_NOT_FOUND',
      `There is no model ${id} at ${at}, or none that may be seen${didYouMean(id) || '.'}${login}`,
    )
  }
  if (status === 401 || status === 403) {
    const message =
      asked.token === undefined
        ? `${name} is not open to everyone at ${at}: ${withToken(asked)}.`
        : `${name}: the token (from ${asked.token.from}) is not accepted by ${at}: ${withToken(asked)}.`
    return new NodeMlxError('UNAUTHORIZED', message)
  }
  return new NodeMlxError('HUB_ERROR', `${name}: an answer that makes no sense from ${at}.`)
}

/** The error for a request that got no answer, or whose answer broke off. */
export function unreachable(error: unknown, { id, endpoint }: Asked, host: string): Transient {
  const codes = errorCodes(error)
  const unreached = codes.some((code) => UNREACHED.test(code))
  const through = host === endpoint.host ? '' : `, for ${endpoint.host}`
  const way = throughProxy(new URL(`${endpoint.protocol}//${host}`))
  const message =
    `${id}: no connection to ${host}${through}${way} (${codes[0] ?? messageOf(error)}). Check the ` +
    'network, and HTTPS_PROXY where there is a proxy; what has been downloaded is kept.'
  const final = new NodeMlxError('NETWORK_ERROR', message, { cause: error })
  return new Transient(final, { unreached })
}

/** The name of a host does not resolve, or nobody answers there. */
const UNREACHED =
  /^(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|EHOSTUNREACH|ENETDOWN)$|CERT|TLS|VERIFY/

/** The codes of an error and of what caused it. */
function errorCodes(error: unknown): string[] {
  const codes: string[] = []
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    if ('code' in at && typeof at.code === 'string') codes.unshift(at.code)
    if (at instanceof AggregateError && at.errors[0] !== undefined)
      codes.unshift(...errorCodes(at.errors[0]))
  }
  return codes
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** The page of a model. */
function page({ endpoint, id }: Asked): string {
  return `${endpoint.href.replace(/\/$/, '')}/${id}`
}

function withToken({ endpoint }: Asked): string {
  const settings = `${endpoint.href.replace(/\/$/, '')}/settings/tokens`
  return `give a token of yours (from ${settings}) as the option "token", in HF_TOKEN, or with "hf auth login"`
}

/** Codes of the operating system for a disk that takes no more. */
const FULL = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])

/** The error for what the operating system refused, by its code. */
export function fileError(error: unknown, path: string): NodeMlxError {
  if (error instanceof NodeMlxError) return error
  const code = errorCodes(error)[0] ?? ''
  if (FULL.has(code)) {
    return new NodeMlxError(
      'DISK_FULL',
      `${path}: the disk takes no more (${code}). Make room, or name a folder on another disk with HF_HUB_CACHE; what has been downloaded is kept.`,
      { cause: error },
    )
  }
  const hint =
    code === 'EROFS' || code === 'EACCES' || code === 'EPERM'
      ? '. Name a folder that can be written with the option "cacheDir" or HF_HUB_CACHE'
      : ''
  return new NodeMlxError('IO_ERROR', `${path}: ${messageOf(error)}${hint}`, { cause: error })
}
