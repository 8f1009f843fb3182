import { fromNative } from '../errors.js'

/** What is wrong with a request or its answer; each API has a status and a word for it. */
export type FailureKind =
  | 'invalid'
  | 'unauthorized'
  | 'forbidden'
  | 'not-found'
  | 'method'
  | 'timeout'
  | 'too-large'
  | 'media-type'
  | 'busy'
  | 'unavailable'
  | 'internal'

export const STATUS: Record<FailureKind, number> = {
  invalid: 400,
  unauthorized: 401,
  forbidden: 403,
  'not-found': 404,
  method: 405,
  timeout: 408,
  'too-large': 413,
  'media-type': 415,
  busy: 429,
  unavailable: 503,
  internal: 500,
}

/** Why a request is refused, in no API's shape yet. */
export class Failure extends Error {
  readonly kind: FailureKind
  /** The field of the request that is wrong. */
  readonly param: string | undefined
  /** A stable word for programs, where an API has one. */
  readonly code: string | undefined
  readonly headers: Readonly<Record<string, string>>
  /** More for programs, where an API has it. */
  readonly details: Readonly<Record<string, unknown>> | undefined

  constructor(
    kind: FailureKind,
    message: string,
    details: {
      param?: string | undefined
      code?: string | undefined
      headers?: Record<string, string>
      details?: Record<string, unknown>
      cause?: unknown
    } = {},
  ) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined)
    this.kind = kind
    this.param = details.param
    this.code = details.code
    this.headers = details.headers ?? {}
    this.details = details.details
  }
}

/** A wrong field of a request. */
export function invalidField(param: string, message: string): Failure {
  return new Failure('invalid', message, { param })
}

/** What each code of the package means to a client; the rest is the server's own fault. */
const KINDS: Readonly<Record<string, FailureKind>> = {
  INVALID_ARGUMENT: 'invalid',
  UNSUPPORTED: 'invalid',
  CONTEXT_OVERFLOW: 'invalid',
  TEMPLATE_ERROR: 'invalid',
  NO_CHAT_TEMPLATE: 'invalid',
  NO_TOKENIZER: 'invalid',
  INSUFFICIENT_MEMORY: 'unavailable',
  DISPOSED: 'unavailable',
  ENGINE_FAILED: 'unavailable',
  HOST_GONE: 'unavailable',
}

/** What an API calls options of `generate`, such as `max_tokens` for `maxTokens`. */
export type Names = Readonly<Record<string, string>>

/** An option's path with the name that an API has for it. */
function rename(option: string, names: Names): string {
  for (const [name, own] of Object.entries(names))
    if (name.includes('.') && option.startsWith(name)) return own + option.slice(name.length)
  const [, first = '', rest = ''] = /^(\w+)(.*)$/s.exec(option) ?? []
  return `${names[first] ?? first}${rest}`
}

/** What was thrown, as a {@link Failure}. */
export function toFailure(error: unknown, names: Names): Failure {
  if (error instanceof Failure) return error
  const { code, message, option, problem, path } = fromNative(error)
  const kind = KINDS[code] ?? 'internal'
  // A path of this machine is none of a client's business.
  if (kind === 'internal') {
    const what = path === undefined && code !== 'INTERNAL_ERROR' ? message : 'the server failed'
    return new Failure(kind, what, { code: code.toLowerCase(), cause: error })
  }
  const about = option ?? (code === 'TEMPLATE_ERROR' ? 'prompt' : undefined)
  const param = about === undefined ? undefined : rename(about, names)
  const text = param === undefined || problem === undefined ? message : `${param}: ${problem}`
  const word = code === 'CONTEXT_OVERFLOW' ? 'context_length_exceeded' : undefined
  return new Failure(kind, text, { param, code: word, cause: error })
}
