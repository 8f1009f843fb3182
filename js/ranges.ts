import { fromNative } from './errors.js'
import { loadRequest } from './model.js'
import { getNative, type Native } from './native.js'
import { nativeSettings } from './options.js'
import type { GenerateOptions, LoadModelOptions } from './types.js'

/**
 * Refuses options that are out of range before a model is loaded for them. The addon knows the
 * ranges; where there is none, that is told by what needs it.
 */
export function checkRanges(load: LoadModelOptions = {}, generate: GenerateOptions = {}): void {
  let native: Native
  try {
    native = getNative()
  } catch {
    return
  }
  try {
    native.checkLoadRequest?.(loadRequest('', load))
    native.checkGenerateRequest?.({ prompt: { text: '' }, ...nativeSettings(generate) })
  } catch (error) {
    throw fromNative(error)
  }
}
