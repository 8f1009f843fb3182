import type { Limits } from './limits.js'

/** How many tokens an answer may have: what was asked for, within the server's limit. */
export function limitedTokens(
  asked: number | undefined,
  { maxTokens }: Limits,
): number | undefined {
  if (asked === undefined) return maxTokens < 2 ** 31 - 1 ? maxTokens : undefined
  return Math.min(asked, maxTokens)
}
