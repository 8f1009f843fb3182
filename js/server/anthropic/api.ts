import type { Api } from '../call.js'
import { STATUS, toFailure, type Failure, type FailureKind, type Names } from '../failure.js'
import { frame } from '../sse.js'

const TYPES: Partial<Record<FailureKind, string>> = {
  unauthorized: 'authentication_error',
  forbidden: 'permission_error',
  'not-found': 'not_found_error',
  'too-large': 'request_too_large',
  timeout: 'timeout_error',
  busy: 'rate_limit_error',
  unavailable: 'overloaded_error',
  internal: 'api_error',
}

const NAMES: Names = {
  maxTokens: 'max_tokens',
  topP: 'top_p',
  topK: 'top_k',
  stop: 'stop_sequences',
  responseFormat: 'output_config.format',
  reasoning: 'thinking',
  'reasoning.budgetTokens': 'thinking.budget_tokens',
  toolChoice: 'tool_choice',
  parallelToolCalls: 'tool_choice.disable_parallel_tool_use',
  prompt: 'messages',
}

function body({ message, kind, details }: Failure, id: string): unknown {
  const type = TYPES[kind] ?? 'invalid_request_error'
  const error = { type, message, ...(details === undefined ? {} : { details }) }
  return { type: 'error', error, request_id: id }
}

/** Errors as Anthropic's API gives them. */
export const ANTHROPIC: Api = {
  toFailure: (error, own) => toFailure(error, { ...NAMES, ...own }),
  body,
  // Its own status for a server that has no room.
  status: ({ kind }) => (kind === 'unavailable' ? 529 : STATUS[kind]),
  failed: (failure, id) => frame(body(failure, id), 'error'),
  ping: frame({ type: 'ping' }, 'ping'),
}

/** How Anthropic's API refuses a field that it does not know. */
export function unknownField(path: string, hint: string): string {
  return `${path}: Extra inputs are not permitted${hint}`
}
