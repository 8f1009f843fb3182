import { detailsOf, type ErrorDetails, fromNative, NodeMlxError } from '../errors.js'
import type {
  NativeAdapter,
  NativeBatch,
  NativeCacheLimits,
  NativeEmbeddings,
  NativeEmbedRequest,
  NativeGenerateRequest,
  NativeJudgements,
  NativeJudgeRequest,
  NativePrompt,
  NativeScoreRequest,
  NativeScores,
} from '../native.js'
import type { LoadModelOptions, LoadProgress, ModelInfo } from '../types.js'

// The two sides exchange what the addon's classes take and give, so everything above those is the
// same on both. Whoever makes an object names it by a number: the client can refer to it before
// the host has made it.

/** Raised where the messages change: both sides must be of the same kind. */
export const PROTOCOL = 3

/** The options of a load that can be sent. */
export type SentLoadOptions = Omit<LoadModelOptions, 'signal' | 'onProgress' | 'fetch' | 'adapter'>

/** What the client asks; each has an answer. */
export type Call =
  | { method: 'hello'; protocol: number; probe: Uint8Array }
  | {
      method: 'load'
      model: number
      name: string
      /** Where the model is, as the client sees it. */
      path?: string
      options: SentLoadOptions
      progress: boolean
    }
  | { method: 'next'; generation: number }
  | { method: 'tokenize' | 'countTokens'; model: number; prompt: NativePrompt }
  | { method: 'detokenize'; model: number; tokens: Uint32Array; skipSpecialTokens: boolean }
  | { method: 'applyChatTemplate'; model: number; messages: string; options: string }
  | { method: 'logits'; model: number; tokens: Uint32Array }
  | { method: 'score'; model: number; request: NativeScoreRequest }
  | { method: 'embed'; model: number; request: NativeEmbedRequest }
  | { method: 'judge'; model: number; request: NativeJudgeRequest }
  | { method: 'loadPromptCache'; model: number; cache: number; path: string }
  | { method: 'loadAdapter'; model: number; adapter: number; path: string }
  | { method: 'clearPrefixCache'; model: number }
  | { method: 'cacheSize'; cache: number }
  | { method: 'saveCache'; cache: number; path: string }
  | { method: 'disposeModel'; model: number }

/** What the client says, without an answer. */
export type Order =
  | { order: 'generate'; model: number; generation: number; request: NativeGenerateRequest }
  | { order: 'promptCache'; model: number; cache: number; limits: NativeCacheLimits }
  | { order: 'abort'; target: number }
  | { order: 'cancel'; model: number; evaluation: number }
  | { order: 'forget'; target: number }
  /** The client ends the connection. */
  | { order: 'bye' }

/** An error on its way. */
export interface SentError extends ErrorDetails {
  code: string
  message: string
  cause?: { name: string; message: string }
}

/** What each call gives. */
export interface Answers {
  hello: { protocol: number }
  load: { info: ModelInfo }
  next: NativeBatch
  tokenize: Uint32Array
  countTokens: number
  detokenize: string
  applyChatTemplate: string
  logits: { data: Float32Array; shape: number[] }
  score: NativeScores
  embed: NativeEmbeddings
  judge: NativeJudgements
  loadPromptCache: undefined
  loadAdapter: ReturnType<NativeAdapter['info']>
  clearPrefixCache: undefined
  cacheSize: { tokens: number; bytes: number }
  saveCache: undefined
  disposeModel: undefined
}

/** Everything that goes through a port. */
export type Message = { nodemlx: true } & (
  | { kind: 'call'; id: number; call: Call }
  | { kind: 'order'; order: Order }
  | { kind: 'answer'; id: number; value: unknown }
  | { kind: 'failure'; id: number; error: SentError }
  | { kind: 'progress'; model: number; progress: LoadProgress }
)

export function isOurs(value: unknown): value is Message {
  return (value as { nodemlx?: unknown } | null | undefined)?.nodemlx === true
}

/** An error of ours as plain data. */
export function sendError(thrown: unknown): SentError {
  const error = fromNative(thrown)
  const { code, message, cause } = error
  return {
    code,
    message,
    ...detailsOf(error),
    ...(cause instanceof Error ? { cause: { name: cause.name, message: cause.message } } : {}),
  }
}

/** The error that was sent. */
export function receiveError({ code, message, cause, ...about }: SentError): NodeMlxError {
  if (cause === undefined) return new NodeMlxError(code, message, about)
  const original = Object.assign(new Error(cause.message), { name: cause.name })
  return new NodeMlxError(code, message, { ...about, cause: original })
}
