import { fields, integer } from '../validate.js'

/** What requests may take of the server. */
export interface Limits {
  /** The largest body, in bytes. @defaultValue 32 MiB */
  bodyBytes: number
  /** How long a body may take to arrive. @defaultValue 30000 */
  bodyMs: number
  /** Generations at the same time, of all models together; others wait. @defaultValue 16 */
  concurrent: number
  /** Requests that wait; more are refused with 429 and `Retry-After`. @defaultValue 128 */
  queued: number
  /** How long a request waits before it is refused with 429. @defaultValue 120000 */
  queueMs: number
  /** How long an answer may take, loading of its model included. @defaultValue 1800000 */
  answerMs: number
  /** The most tokens of an answer, whatever it asks for. @defaultValue as the context allows */
  maxTokens: number
  /** The most choices (`n`) of a request. @defaultValue 8 */
  choices: number
  /** The most prompts of a request of `/v1/completions`. @defaultValue 256 */
  prompts: number
  /** After how long a silent stream says that it is alive. @defaultValue 15000 */
  keepAliveMs: number
  /** How long a reader may leave a stream unread before that is ended. @defaultValue 60000 */
  stallMs: number
  /** Connections at the same time, of `serve`. @defaultValue 1024 */
  connections: number
}

const LONGEST = 2 ** 31 - 1

const DEFAULTS: Limits = {
  bodyBytes: 32 * 2 ** 20,
  bodyMs: 30_000,
  concurrent: 16,
  queued: 128,
  queueMs: 120_000,
  answerMs: 30 * 60_000,
  maxTokens: LONGEST,
  choices: 8,
  prompts: 256,
  keepAliveMs: 15_000,
  stallMs: 60_000,
  connections: 1024,
}

const LIMIT_FIELDS = {
  bodyBytes: integer(1, LONGEST),
  bodyMs: integer(1, LONGEST),
  concurrent: integer(1, 1_000_000),
  queued: integer(0, 1_000_000),
  queueMs: integer(1, LONGEST),
  answerMs: integer(1, LONGEST),
  maxTokens: integer(1, LONGEST),
  choices: integer(1, 1000),
  prompts: integer(1, 100_000),
  keepAliveMs: integer(1, LONGEST),
  stallMs: integer(1, LONGEST),
  connections: integer(1, 1_000_000),
}

/** The limits, those that were left out by their defaults. */
export function checkLimits(value: unknown): Limits {
  return { ...DEFAULTS, ...fields(value, 'limits', LIMIT_FIELDS) }
}
