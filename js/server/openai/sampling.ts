import type { GenerateOptions } from '../../types.js'
import { anything, record } from '../fields.js'
import { arrayOf, boolean, integer, number, oneOf, string, type Check } from '../../validate.js'
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
  seed: integer(0, Number.MAX_SAFE_INTEGER),
  n: integer(1, 1_000_000),
  // Of other servers of local models.
  top_k: integer(-1, 2 ** 31 - 1),
  min_p: number,
  repetition_penalty: number,
  repetition_context_size: number,
  xtc_probability: number,
  xtc_threshold: number,
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
}

/** The options of `generate` that these fields ask for. */
export function samplingOptions(fields: Sampling): GenerateOptions {
  const stops = typeof fields.stop === 'string' ? [fields.stop] : fields.stop
  // An empty one would end every answer at once; others take it for none.
  const stop = stops?.filter((text) => text !== '')
  return {
    temperature: fields.temperature,
    topP: fields.top_p,
    // Others have -1 for no limit.
    topK: fields.top_k === -1 ? 0 : fields.top_k,
    minP: fields.min_p,
    presencePenalty: fields.presence_penalty,
    frequencyPenalty: fields.frequency_penalty,
    repetitionPenalty: fields.repetition_penalty,
    penaltyContextSize: fields.repetition_context_size,
    xtcProbability: fields.xtc_probability,
    xtcThreshold: fields.xtc_threshold,
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
