import type { SharedV4ProviderOptions } from '@ai-sdk/provider'
import type { Model } from '../types.js'
import { fields, type Checked, type Fields } from '../validate.js'
import { codeOf } from '../errors.js'
import type { ModelPool } from '../model-pool.js'

/** Does something with a model, which stays until it is done. */
export async function used<T>(
  pool: ModelPool,
  id: string,
  signal: AbortSignal | undefined,
  use: (model: Model) => Promise<T>,
): Promise<T> {
  const lease = await pool.use(id, signal)
  try {
    return await use(lease.model)
  } catch (error) {
    if (codeOf(error) === 'ENGINE_FAILED') lease.discard()
    // As with fetch, and as the AI SDK's own functions end.
    signal?.throwIfAborted()
    throw error
  } finally {
    lease.release()
  }
}

/** The options of a call that are this provider's own, checked. */
export function ownFields<F extends Fields>(
  options: SharedV4ProviderOptions | undefined,
  provider: string,
  known: F,
): Checked<F> {
  return fields(options?.[provider], `providerOptions.${provider}`, known)
}
