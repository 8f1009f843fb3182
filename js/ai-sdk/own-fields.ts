import type { SharedV4ProviderOptions } from '@ai-sdk/provider'
import { fields, type Checked, type Fields } from '../validate.js'

/** The options of a call that are this provider's own, checked. */
export function ownFields<F extends Fields>(
  options: SharedV4ProviderOptions | undefined,
  provider: string,
  known: F,
): Checked<F> {
  return fields(options?.[provider], `providerOptions.${provider}`, known)
}
