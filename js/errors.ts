import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { exists } from './files.js'
import { packageFolder } from './package-folder.js'

/** The stable codes of {@link NodeMlxError}. New codes may be added in minor versions. */
export type NodeMlxErrorCode =
  /** An option or argument has a wrong name, type, range or combination; `option` names it. */
  | 'INVALID_ARGUMENT'
  /** The request is well formed, but this model or device cannot honour it. */
  | 'UNSUPPORTED'
  /** No build of the native addon exists for this operating system or processor. */
  | 'UNSUPPORTED_PLATFORM'
  /** The native addon for this platform is not installed, or could not be loaded. */
  | 'ADDON_UNAVAILABLE'
  /** There is no model at that place, or none that may be seen. */
  | 'MODEL_NOT_FOUND'
  /** The model has no such branch, tag or commit. */
  | 'REVISION_NOT_FOUND'
  /** The model has no such file. */
  | 'FILE_NOT_FOUND'
  /** The model is given only to those who agreed to its conditions. */
  | 'GATED_MODEL'
  /** The hub wants a token, or does not accept the one that it was given. */
  | 'UNAUTHORIZED'
  /** Nothing may be downloaded, and the model is not in the cache. */
  | 'OFFLINE'
  /** No connection, or one that broke off again and again. */
  | 'NETWORK_ERROR'
  /** The hub gave an answer that is of no use: it is overloaded, or no hub. */
  | 'HUB_ERROR'
  /** A downloaded file is not the one that the hub describes. */
  | 'HASH_MISMATCH'
  /** The repository has a file whose name could lead out of the model's folder. */
  | 'UNSAFE_FILE_NAME'
  /** The model does not fit the device's memory, or a generation what `memoryBytes` allows. */
  | 'INSUFFICIENT_MEMORY'
  /** There is no room for the files. */
  | 'DISK_FULL'
  /** `config.json` or `generation_config.json` is missing, is not JSON, or lacks a field. */
  | 'INVALID_CONFIG'
  /** The model's architecture is not implemented. */
  | 'UNKNOWN_ARCHITECTURE'
  /** A checkpoint file is broken, or does not hold the tensors that the configuration promises. */
  | 'INVALID_WEIGHTS'
  /** A prompt-cache file is broken, or belongs to another model. */
  | 'INVALID_PROMPT_CACHE'
  /** An adapter's files are broken, or belong to another model. */
  | 'INVALID_ADAPTER'
  /** The tokenizer's files are broken. */
  | 'INVALID_TOKENIZER'
  /** The checkpoint has no tokenizer, and the request needs text. */
  | 'NO_TOKENIZER'
  /** The chat template does not parse, or fails on these messages. */
  | 'TEMPLATE_ERROR'
  /** The model has no chat template, and the request needs one. */
  | 'NO_CHAT_TEMPLATE'
  /** The prompt and the tokens to be generated do not fit the model's context. */
  | 'CONTEXT_OVERFLOW'
  /** The caller aborted the operation; `cause` is the reason that was given. */
  | 'ABORTED'
  /** The model was disposed of. */
  | 'DISPOSED'
  /** The process or thread that runs the model for a client has ended. */
  | 'HOST_GONE'
  /** The device that was asked for is not there. */
  | 'DEVICE_UNAVAILABLE'
  /**
   * The model's logits are not numbers, or leave no token to choose: its weights are broken, or
   * overflow.
   */
  | 'INVALID_LOGITS'
  /**
   * The answer is what the JSON schema asks for, and the schema's own checks refuse it; `text` is the
   * answer, and `cause` what they say.
   */
  | 'INVALID_OUTPUT'
  /** MLX reported an error. */
  | 'MLX_ERROR'
  /** The model's engine died; this model cannot be used any more. */
  | 'ENGINE_FAILED'
  /** The operating system refused to read or write a file. */
  | 'IO_ERROR'
  /** Anything else; please report it. */
  | 'INTERNAL_ERROR'
  // Any string is accepted where a code is compared, so that new codes break no build.
  | (string & {})

/** What an error is about, beside its message. */
export interface ErrorDetails {
  /**
   * With `INVALID_ARGUMENT`: the option or argument, as the caller wrote it (`temperature`,
   * `messages[2].role`).
   */
  readonly option?: string
  /** What is wrong with the option: the message without its name. */
  readonly problem?: string
  /** The file that is broken, or could not be read or written. */
  readonly path?: string
  /** With `INVALID_WEIGHTS`: the tensor that is missing or wrong. */
  readonly tensor?: string
  /** With `UNKNOWN_ARCHITECTURE`: the `model_type` of the configuration. */
  readonly modelType?: string
  /** With `CONTEXT_OVERFLOW`: the tokens that there are, or are at least. */
  readonly tokens?: number
  /** With `CONTEXT_OVERFLOW`: the tokens that the model's context holds. */
  readonly contextLength?: number
  /** With `INVALID_OUTPUT`: the answer. */
  readonly text?: string
}

const TEXTS = ['option', 'problem', 'path', 'tensor', 'modelType', 'text'] as const
const NUMBERS = ['tokens', 'contextLength'] as const

/** What is known of an error, of ours or of the addon. */
export function detailsOf(error: unknown): ErrorDetails {
  const fields = error as Record<string, unknown>
  const known = (names: readonly string[], type: string) =>
    names.filter((name) => typeof fields[name] === type).map((name) => [name, fields[name]])
  return Object.fromEntries([
    ...known(TEXTS, 'string'),
    ...known(NUMBERS, 'number'),
  ]) as ErrorDetails
}

const pages = new Map<string, string | undefined>()

/** The address of a code's page; looked for once. */
function pageOf(code: string): string | undefined {
  if (!pages.has(code)) pages.set(code, findPage(code))
  return pages.get(code)
}

function findPage(code: string): string | undefined {
  const folder = packageFolder()
  if (folder === undefined || !/^[A-Z_]+$/.test(code)) return undefined
  const page = join(folder, 'docs', 'errors', `${code}.md`)
  return exists(page) ? pathToFileURL(page).href : undefined
}

/* eslint-disable-next-line
   @typescript-eslint/no-unsafe-declaration-merging,
   @typescript-eslint/no-empty-object-type -- the details are fields */
export interface NodeMlxError extends ErrorDetails {}

/** Every error that this package throws or rejects with. */
// eslint-disable-next-line @typescript-eslint/no-unsafe-declaration-merging -- as above
export class NodeMlxError extends Error {
  /** Stable, and meant for `switch`; the message is meant for people and may change. */
  readonly code: NodeMlxErrorCode
  /**
   * The address of the page about this code that comes with the package, and is printed with the
   * error; there is none where the program was packed without it.
   */
  declare readonly url?: string

  constructor(
    code: NodeMlxErrorCode,
    message: string,
    details: ErrorDetails & { cause?: unknown } = {},
  ) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined)
    this.code = code
    // Only what there is: an undefined field would show up in every printed error.
    Object.assign(this, detailsOf(details))
    const url = pageOf(code)
    if (url !== undefined) this.url = url
  }

  static {
    // On the prototype, where built-in errors have it: a field would show up in every printed
    // error.
    Object.defineProperty(this.prototype, 'name', {
      value: 'NodeMlxError',
      configurable: true,
      writable: true,
    })
  }
}

/** An error about `option`; the message starts with the option's name. */
export function optionError(code: NodeMlxErrorCode, option: string, problem: string): NodeMlxError {
  return new NodeMlxError(code, `${option}: ${problem}`, { option, problem })
}

/** An `INVALID_ARGUMENT` error for `option`; the message starts with the option's name. */
export function invalidArgument(option: string, problem: string): NodeMlxError {
  return optionError('INVALID_ARGUMENT', option, problem)
}

/** An `ABORTED` error that keeps the caller's reason. */
export function aborted(what: string, reason: unknown): NodeMlxError {
  return new NodeMlxError('ABORTED', `${what} was aborted`, { cause: reason })
}

/**
 * What the addon throws, as a {@link NodeMlxError} with what is behind it as the cause; anything
 * that is not the addon's is kept as the cause itself.
 */
export function fromNative(error: unknown): NodeMlxError {
  if (error instanceof NodeMlxError) return error
  const code = codeOf(error)
  const isOurs = typeof code === 'string' && /^[A-Z_]+$/.test(code)
  if (!isOurs) return new NodeMlxError('INTERNAL_ERROR', messageOf(error), { cause: error })
  const cause = (error as { cause?: unknown }).cause ?? error
  return new NodeMlxError(code, messageOf(error), { ...detailsOf(error), cause })
}

// Errors of another realm (vm, jest) are no instances of this one's `Error`.

/** The `code` of what was thrown, where it has one. */
export function codeOf(error: unknown): unknown {
  return (error as { code?: unknown } | null | undefined)?.code
}

/** The message of what was thrown. */
export function messageOf(error: unknown): string {
  const message = (error as { message?: unknown } | null | undefined)?.message
  return typeof message === 'string' ? message : String(error)
}
