import type { GenerateOptions } from '../../types.js'
import { nucleus } from '../../nucleus.js'
import { anything, record } from '../fields.js'
import { arrayOf, boolean, integer, number, oneOf, string, type Check } from '../../validate.js'
import { seed } from '../../seed.js'
import { invalidField } from '../failure.js'

const stop: Check<string | string[]> = (value, path) =>
  typeof value === 'string'
    ? value
    : arrayOf(string, 'a string or an array of strings')(value, path)

const logitBias: Check<Record<string, unknown>> = record

/** The fields that completions of both kinds have. */
export const SAMPLING_FIELDS = {
  model: string,
  stream: boolean,
  stream_options: record,
  max_tokens: number,
  temperature: number,
  top_p: number,
  presence_penalty: number,
  frequency_penalty: number,
  logit_bias: logitBias,
  stop,
  seed,
  n: integer(1, 1_000_000),
  // Of other servers of local models.
  top_k: integer(-1, 2 ** 31 - 1),
  min_p: number,
  repetition_penalty: number,
  repetition_context_size: number,
  xtc_probability: number,
  xtc_threshold: number,
  min_tokens: number,
  typical_p: number,
  top_n_sigma: number,
  dynatemp_range: number,
  dynatemp_exponent: number,
  mirostat: number,
  mirostat_tau: number,
  mirostat_eta: number,
  dry_multiplier: number,
  dry_base: number,
  dry_allowed_length: number,
  dry_penalty_last_n: number,
  dry_sequence_breakers: arrayOf(string, 'an array of texts'),
  stop_token_ids: arrayOf(number, 'an array of tokens'),
  bad_words: arrayOf(string, 'an array of texts'),
  t_max_predict_ms: number,
  // They change nothing here.
  user: anything,
  metadata: anything,
  service_tier: anything,
  safety_identifier: anything,
  prompt_cache_key: anything,
  prompt_cache_retention: oneOf('in_memory', 'in-memory', '24h'),
}

interface Sampling {
  temperature?: number
  top_p?: number
  presence_penalty?: number
  frequency_penalty?: number
  logit_bias?: Record<string, unknown>
  stop?: string | string[]
  seed?: number
  top_k?: number
  min_p?: number
  repetition_penalty?: number
  repetition_context_size?: number
  xtc_probability?: number
  xtc_threshold?: number
  min_tokens?: number
  typical_p?: number
  top_n_sigma?: number
  dynatemp_range?: number
  dynatemp_exponent?: number
  mirostat?: number
  mirostat_tau?: number
  mirostat_eta?: number
  dry_multiplier?: number
  dry_base?: number
  dry_allowed_length?: number
  dry_penalty_last_n?: number
  dry_sequence_breakers?: string[]
  stop_token_ids?: number[]
  bad_words?: string[]
  t_max_predict_ms?: number
}

/** The options of `generate` that these fields ask for. */
export function samplingOptions(fields: Sampling): GenerateOptions {
  const stops = typeof fields.stop === 'string' ? [fields.stop] : fields.stop
  // An empty one would end every answer at once; others take it for none.
  const stop = stops?.filter((text) => text !== '')
  return {
    temperature: fields.temperature,
    topP: nucleus(fields.top_p),
    // Others have -1 for no limit.
    topK: fields.top_k === -1 ? 0 : fields.top_k,
    minP: fields.min_p,
    presencePenalty: fields.presence_penalty,
    frequencyPenalty: fields.frequency_penalty,
    repetitionPenalty: fields.repetition_penalty,
    penaltyContextSize: fields.repetition_context_size,
    xtcProbability: fields.xtc_probability,
    xtcThreshold: fields.xtc_threshold,
    minTokens: fields.min_tokens,
    typicalP: fields.typical_p,
    topNSigma: fields.top_n_sigma,
    dynamicTemperatureRange: fields.dynatemp_range,
    dynamicTemperatureExponent: fields.dynatemp_exponent,
    mirostat: fields.mirostat as 0 | 2 | undefined,
    mirostatTau: fields.mirostat_tau,
    mirostatEta: fields.mirostat_eta,
    dryMultiplier: fields.dry_multiplier,
    dryBase: fields.dry_base,
    dryAllowedLength: fields.dry_allowed_length,
    // Others have -1 for the whole context.
    dryContextSize: fields.dry_penalty_last_n === -1 ? undefined : fields.dry_penalty_last_n,
    drySequenceBreakers: fields.dry_sequence_breakers,
    stopTokens: fields.stop_token_ids,
    bannedStrings: fields.bad_words,
    maxTimeMs: fields.t_max_predict_ms,
    logitBias: fields.logit_bias as Record<number, number> | undefined,
    stop: stop === undefined || stop.length === 0 ? undefined : stop,
    seed: fields.seed,
  }
}

/** Whether a stream is to end with a chunk of the usage. */
export function includesUsage(options: Record<string, unknown> | undefined): boolean {
  const include = options?.['include_usage'] ?? false
  if (typeof include === 'boolean') return include
  throw invalidField('stream_options.include_usage', 'expected true or false')
}
