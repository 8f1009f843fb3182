import type { Api } from '../call.js'
import { STATUS, toFailure, type Failure, type FailureKind } from '../failure.js'
import { frame, COMMENT } from '../sse.js'

const TYPES: Partial<Record<FailureKind, string>> = {
  unauthorized: 'authentication_error',
  forbidden: 'permission_error',
  busy: 'rate_limit_error',
  timeout: 'timeout_error',
  unavailable: 'server_error',
  internal: 'server_error',
}

const NAMES: Readonly<Record<string, string>> = {
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

/** An option's path with the names of OpenAI's API. */
export function openaiName(option: string): string {
  const [, first = '', rest = ''] = /^(\w+)(.*)$/s.exec(option) ?? []
  return `${NAMES[first] ?? first}${rest}`
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

/** Errors as OpenAI's API gives them. */
export const OPENAI: Api = {
  name: 'openai',
  rename: openaiName,
  toFailure: (error) => toFailure(error, openaiName),
  body,
  status: ({ kind }) => STATUS[kind],
  failed: (failure) => frame(body(failure)),
  ping: COMMENT,
}

/** How OpenAI's API refuses a field that it does not know. */
export function unknownField(path: string, hint: string): string {
  return `Unrecognized request argument supplied: ${path}${hint}`
}
