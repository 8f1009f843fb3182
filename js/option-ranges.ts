import { invalidArgument } from './errors.js'
import type { NativeGenerateRequest } from './native.js'
import { OPTION_LIMITS } from './option-limits.js'

/** What an option may be. */
type Limit =
  | { choices: readonly number[] }
  | { above: number; max: number }
  | { whole?: true; min: number; max: number }

/** What was expected in place of `value`; `undefined` where it fits. NaN fails every comparison. */
function expected(limit: Limit, value: number): string | undefined {
  if ('choices' in limit)
    return limit.choices.includes(value) ? undefined : `one of ${limit.choices.join(', ')}`
  const { max } = limit
  if ('above' in limit)
    return value > limit.above && value <= max
      ? undefined
      : `a number above ${limit.above} and up to ${max}`
  const { whole, min } = limit
  if ((whole === undefined || Number.isInteger(value)) && value >= min && value <= max)
    return undefined
  return `a ${whole === undefined ? '' : 'whole '}number from ${min} to ${max}`
}

function check(limit: Limit, value: number, option: string): void {
  const what = expected(limit, value)
  if (what !== undefined) throw invalidArgument(option, `expected ${what}, got ${value}`)
}

/**
 * Refuses options of a generation that no model could honour, as the addon does: for models that
 * run where there is no addon.
 */
export function checkOptionRanges(request: Partial<NativeGenerateRequest>): void {
  const { logitBias: bias, draftTokens, ...limits } = OPTION_LIMITS
  const values = request as Record<string, unknown>
  for (const [option, limit] of Object.entries(limits)) {
    const value = values[option]
    if (typeof value === 'number') check(limit, value, option)
  }
  const drafted = request.speculation?.draftTokens
  if (drafted !== undefined) check(draftTokens, drafted, 'speculation.draftTokens')
  for (const [token, value] of Object.entries(request.logitBias ?? {}))
    check(bias, value, `logitBias[${token}]`)
}
