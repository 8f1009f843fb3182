import type { Limits } from './limits.js'

/** A share of likely tokens: none at all leaves the likeliest, as in these APIs. */
export function nucleus(topP: number | undefined): number | undefined {
  return topP === 0 ? 1e-6 : topP
}

/** How many tokens an answer may have: what was asked for, within the server's limit. */
export function limitedTokens(
  asked: number | undefined,
  { maxTokens }: Limits,
): number | undefined {
  if (asked === undefined) return maxTokens < 2 ** 31 - 1 ? maxTokens : undefined
  return Math.min(asked, maxTokens)
}
