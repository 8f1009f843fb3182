import type { Api } from '../call.js'
import { STATUS, toFailure, type Failure, type FailureKind, type Names } from '../failure.js'
import { frame, COMMENT } from '../sse.js'

const TYPES: Partial<Record<FailureKind, string>> = {
  unauthorized: 'authentication_error',
  forbidden: 'permission_error',
  busy: 'rate_limit_error',
  timeout: 'timeout_error',
  unavailable: 'server_error',
  internal: 'server_error',
}

const NAMES: Names = {
  maxTokens: 'max_tokens',
  topP: 'top_p',
  topK: 'top_k',
  minP: 'min_p',
  presencePenalty: 'presence_penalty',
  frequencyPenalty: 'frequency_penalty',
  repetitionPenalty: 'repetition_penalty',
  penaltyContextSize: 'repetition_context_size',
  xtcProbability: 'xtc_probability',
  xtcThreshold: 'xtc_threshold',
  minTokens: 'min_tokens',
  typicalP: 'typical_p',
  topNSigma: 'top_n_sigma',
  dynamicTemperatureRange: 'dynatemp_range',
  dynamicTemperatureExponent: 'dynatemp_exponent',
  mirostatTau: 'mirostat_tau',
  mirostatEta: 'mirostat_eta',
  dryMultiplier: 'dry_multiplier',
  dryBase: 'dry_base',
  dryAllowedLength: 'dry_allowed_length',
  dryContextSize: 'dry_penalty_last_n',
  drySequenceBreakers: 'dry_sequence_breakers',
  stopTokens: 'stop_token_ids',
  bannedStrings: 'bad_words',
  maxTimeMs: 't_max_predict_ms',
  logitBias: 'logit_bias',
  logprobs: 'top_logprobs',
  responseFormat: 'response_format',
  'responseFormat.schema': 'response_format.json_schema.schema',
  reasoning: 'reasoning_effort',
  toolChoice: 'tool_choice',
  parallelToolCalls: 'parallel_tool_calls',
  templateVariables: 'chat_template_kwargs',
  addGenerationPrompt: 'add_generation_prompt',
  continueFinalMessage: 'continue_final_message',
  prompt: 'messages',
  texts: 'input',
  topN: 'top_n',
}

function body(failure: Failure): unknown {
  const { message, kind, param, code } = failure
  return {
    error: {
      message,
      type: TYPES[kind] ?? 'invalid_request_error',
      param: param ?? null,
      code: code ?? null,
    },
  }
}

/** Errors as OpenAI's API gives them, of a route that has `own` names for some options. */
function openai(own: Names = {}): Api {
  const names = { ...NAMES, ...own }
  return {
    toFailure: (error, more) => toFailure(error, { ...names, ...more }),
    body,
    status: ({ kind }) => STATUS[kind],
    failed: (failure) => frame(body(failure)),
    ping: COMMENT,
  }
}

export const OPENAI = openai()

/** Of text completions. */
export const COMPLETIONS = openai({
  prompt: 'prompt',
  'prompt.text': 'prompt',
  'prompt.tokens': 'prompt',
  logprobs: 'logprobs',
})

/** Of responses. A stream's errors are events with a type, as all of its events are. */
export const RESPONSES: Api = {
  ...openai({
    maxTokens: 'max_output_tokens',
    prompt: 'input',
    reasoning: 'reasoning.effort',
    responseFormat: 'text.format',
    'responseFormat.schema': 'text.format.schema',
  }),
  failed: (failure) => frame({ ...errorEvent(failure), sequence_number: 0 }, 'error'),
}

/** The event that tells of an error in a stream of a response. */
export function errorEvent(failure: Failure): object {
  const { message, param, code } = failure
  return { type: 'error', code: code ?? responseErrorCode(failure), message, param: param ?? null }
}

/** What a response that failed calls the kind of an error. */
export function responseErrorCode({ kind }: Failure): string {
  if (kind === 'busy') return 'rate_limit_exceeded'
  return STATUS[kind] < 500 ? 'invalid_prompt' : 'server_error'
}

/** How OpenAI's API refuses a field that it does not know. */
export function unknownField(path: string, hint: string): string {
  return `Unrecognized request argument supplied: ${path}${hint}`
}
