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
  /** The model does not fit the device's memory. */
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

/** Every error that this package throws or rejects with. */
export class NodeMlxError extends Error {
  /** Stable, and meant for `switch`; the message is meant for people and may change. */
  readonly code: NodeMlxErrorCode
  /**
   * With `INVALID_ARGUMENT`: the option or argument, as the caller wrote it (`temperature`,
   * `messages[2].role`).
   */
  declare readonly option?: string
  /** The file that is broken, or could not be read or written. */
  declare readonly path?: string
  /** With `INVALID_OUTPUT`: the answer. */
  declare readonly text?: string

  constructor(
    code: NodeMlxErrorCode,
    message: string,
    details: {
      cause?: unknown
      option?: string | undefined
      path?: string | undefined
      text?: string
    } = {},
  ) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined)
    this.code = code
    // Only where there is one: an undefined field would show up in every printed error.
    if (details.option !== undefined) this.option = details.option
    if (details.path !== undefined) this.path = details.path
    if (details.text !== undefined) this.text = details.text
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

/** An `INVALID_ARGUMENT` error for `option`; the message starts with the option's name. */
export function invalidArgument(option: string, message: string): NodeMlxError {
  return new NodeMlxError('INVALID_ARGUMENT', `${option}: ${message}`, { option })
}

/** An `ABORTED` error that keeps the caller's reason. */
export function aborted(what: string, reason: unknown): NodeMlxError {
  return new NodeMlxError('ABORTED', `${what} was aborted`, { cause: reason })
}

/**
 * What the addon throws, as a {@link NodeMlxError}; anything that is not the addon's is kept as the
 * cause.
 */
export function fromNative(error: unknown): NodeMlxError {
  if (error instanceof NodeMlxError) return error
  const code = codeOf(error)
  const isOurs = typeof code === 'string' && /^[A-Z_]+$/.test(code)
  return new NodeMlxError(isOurs ? code : 'INTERNAL_ERROR', messageOf(error), {
    cause: error,
    option: isOurs ? textField(error, 'option') : undefined,
    path: isOurs ? textField(error, 'path') : undefined,
  })
}

function textField(error: unknown, name: string): string | undefined {
  const value = (error as Record<string, unknown>)[name]
  return typeof value === 'string' ? value : undefined
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
