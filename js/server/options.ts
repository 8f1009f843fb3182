import { invalidArgument } from '../errors.js'
import type { Keeping } from '../model-pool.js'
import type { ModelSource } from '../model-sources.js'
import { arrayOf, boolean, fields, nonEmptyString, show, type Check } from '../validate.js'
import { checkLimits, type Limits } from './limits.js'
import type { Access } from './security.js'
import { modelSources, type Models } from './sources.js'

/** Options of `createHandler`. */
export interface HandlerOptions {
  /** The models that may be asked for; each is loaded at its first request. */
  models: Models
  /** A key that requests have to bring, or several. @defaultValue none is needed */
  apiKey?: string | readonly string[] | undefined
  /** Origins of other sites whose pages may ask, or `'*'` with an `apiKey`. @defaultValue none */
  cors?: '*' | readonly string[] | undefined
  /**
   * Names of hosts under which the server is asked.
   *
   * @defaultValue those of this machine (localhost); with an `apiKey` any
   */
  hosts?: readonly string[] | undefined
  /** What requests may take. */
  limits?: Partial<Limits> | undefined
  /**
   * The most bytes of weights that stay loaded: what was not used for longest leaves.
   *
   * @defaultValue as much as fits
   */
  memoryBytes?: number | undefined
  /**
   * After how long without requests a model is unloaded; `Infinity` for never.
   *
   * @defaultValue 600000, ten minutes
   */
  idleMs?: number | undefined
  /** The path before all routes, such as `'/api/llm'`. @defaultValue none */
  basePath?: string | undefined
  /** Serve the chat page at `/`. @defaultValue true */
  page?: boolean | undefined
  /** Called for what goes wrong on the server's side. @defaultValue it is told to nobody */
  onError?: ((error: unknown) => void) | undefined
}

/** Options of `createHandler`, checked. */
export interface CheckedOptions {
  sources: ReadonlyMap<string, ModelSource>
  access: Access
  limits: Limits
  keeping: Keeping
  basePath: string
  page: boolean
  onError: (error: unknown) => void
}

const positive: Check<number> = (value, option) => {
  if (typeof value === 'number' && value > 0) return value
  throw invalidArgument(option, `expected a number above 0, got ${show(value)}`)
}

const keys: Check<readonly string[]> = (value, option) =>
  typeof value === 'string'
    ? [nonEmptyString(value, option)]
    : arrayOf(nonEmptyString, 'a key or an array of keys')(value, option)

const origins: Check<readonly string[]> = (value, option) =>
  value === '*'
    ? ['*']
    : arrayOf(nonEmptyString, "'*' or an array of origins")(value, option).map((origin) =>
        checkOrigin(origin, option),
      )

/** An origin as browsers write it; `null` and schemes of one's own are compared as they are. */
function checkOrigin(origin: string, option: string): string {
  if (origin === 'null' || origin === '*') return origin
  try {
    const { protocol, host } = new URL(origin)
    if (host !== '') return `${protocol}//${host}`
  } catch {
    // Told below.
  }
  throw invalidArgument(option, `${show(origin)} is no origin such as https://example.com`)
}

const basePath: Check<string> = (value, option) => {
  const path = nonEmptyString(value, option)
  if (!path.startsWith('/')) throw invalidArgument(option, `has to begin with /, got ${show(path)}`)
  return path.replace(/\/+$/, '')
}

const onError: Check<(error: unknown) => void> = (value, option) => {
  if (typeof value === 'function') return value as (error: unknown) => void
  throw invalidArgument(option, `expected a function, got ${show(value)}`)
}

const FIELDS = {
  models: modelSources,
  apiKey: keys,
  cors: origins,
  hosts: arrayOf(nonEmptyString, "an array of names, such as ['chat.example']"),
  limits: checkLimits,
  memoryBytes: positive,
  idleMs: positive,
  basePath,
  page: boolean,
  onError,
}

/** Checks the options of `createHandler`. */
export function handlerOptions(options: unknown): CheckedOptions {
  const checked = fields(options, '', FIELDS)
  return {
    sources: checked.models ?? modelSources(undefined),
    access: {
      keys: checked.apiKey ?? [],
      hosts: checked.hosts ?? [],
      origins: checked.cors ?? [],
    },
    limits: checked.limits ?? checkLimits(undefined),
    keeping: {
      memoryBytes: checked.memoryBytes ?? Number.POSITIVE_INFINITY,
      idleMs: checked.idleMs ?? 600_000,
    },
    basePath: checked.basePath ?? '',
    page: checked.page ?? true,
    onError: checked.onError ?? (() => undefined),
  }
}
