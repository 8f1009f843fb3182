import { invalidArgument } from './errors.js'
import type { NativeGenerateRequest } from './native.js'

// The addon's table of ranges (src/engine/ranges.rs) once more, for models that run where there is
// no addon. A test holds the two together.

type Range = (value: number, option: string) => void

/** A number from `min` to `max`; with `above`, `min` itself is too small. */
function from(min: number, max: number, above = false): Range {
  const range = above ? `above ${min} and up to ${max}` : `from ${min} to ${max}`
  return (value, option) => {
    // NaN fails every comparison.
    if ((above ? value > min : value >= min) && value <= max) return
    throw invalidArgument(option, `expected a number ${range}, got ${value}`)
  }
}

function whole(min: number, max: number): Range {
  return (value, option) => {
    if (Number.isInteger(value) && value >= min && value <= max) return
    throw invalidArgument(option, `expected a whole number from ${min} to ${max}, got ${value}`)
  }
}

function oneOf(...choices: number[]): Range {
  return (value, option) => {
    if (choices.includes(value)) return
    throw invalidArgument(option, `expected one of ${choices.join(', ')}, got ${value}`)
  }
}

/** What a 32-bit number of tokens can be. */
const MAX_COUNT = 2 ** 31 - 1

const RANGES: Readonly<Record<string, Range>> = {
  maxTokens: whole(1, MAX_COUNT),
  temperature: from(0, 10),
  topP: from(0, 1, true),
  topK: whole(0, MAX_COUNT),
  minP: from(0, 1),
  seed: whole(0, Number.MAX_SAFE_INTEGER),
  priority: whole(-1000, 1000),
  repetitionPenalty: from(0, 10, true),
  presencePenalty: from(-2, 2),
  frequencyPenalty: from(-2, 2),
  penaltyContextSize: whole(1, MAX_COUNT),
  xtcProbability: from(0, 1),
  xtcThreshold: from(0, 0.5),
  logprobs: whole(0, 20),
  kvGroupSize: oneOf(32, 64, 128),
  kvBits: oneOf(4, 8),
  maxKvSize: whole(16, MAX_COUNT),
}

const LOGIT_BIAS = from(-100, 100)

/** Refuses options of a generation that no model could honour, as the addon does. */
export function checkOptionRanges(request: Partial<NativeGenerateRequest>): void {
  const values = request as Record<string, unknown>
  for (const [option, range] of Object.entries(RANGES)) {
    const value = values[option]
    if (typeof value === 'number') range(value, option)
  }
  for (const [token, bias] of Object.entries(request.logitBias ?? {}))
    LOGIT_BIAS(bias, `logitBias[${token}]`)
}
