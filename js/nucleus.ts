/**
 * A share of likely tokens as other APIs have it: none at all leaves the likeliest, where `topP`
 * wants more than none.
 */
export function nucleus(topP: number | undefined): number | undefined {
  return topP === 0 ? 1e-6 : topP
}
