import type { Capabilities, Model } from '../types.js'
import type { Call } from './call.js'
import { Failure } from './failure.js'

/**
 * Runs what asks a model for something else than text, while it has a place and the model stays
 * loaded.
 *
 * @param needed - What the model must be able to do, and how that is called in errors.
 */
export async function evaluated<T>(
  { engine, lifetime }: Call,
  name: string,
  needed: keyof Capabilities,
  called: string,
  use: (model: Model, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { signal } = lifetime
  engine.models.find(name)
  const leave = await engine.queue.enter(1, signal)
  try {
    return await engine.models.with(name, signal, async (model) => {
      if (!model.info.capabilities[needed]) {
        throw new Failure('invalid', `the model ${name} does not support ${called}`, {
          param: 'model',
          code: 'unsupported_model',
        })
      }
      return use(model, signal)
    })
  } finally {
    leave()
    lifetime.done()
  }
}
