import { invalidArgument } from './errors.js'
import { show, type Check } from './validate.js'

const BITS = 53

/**
 * A seed as others give it, as one of the addon's: they have whole numbers of 64 bits with a sign,
 * and it has what a `number` can tell apart. The same seed stays the same.
 */
export const seed: Check<number> = (value, option) => {
  if (!Number.isInteger(value) || Math.abs(value as number) > 2 ** 63)
    throw invalidArgument(option, `expected a whole number of 64 bits, got ${show(value)}`)
  return Number(BigInt.asUintN(BITS, BigInt(value as number)))
}
