import { EXIT, Interrupted } from './errors.js'
import { load, type LoadedModel } from '../model.js'
import type { LoadModelOptions } from '../types.js'
import { ProgressBar } from './progress.js'

/** Loads a model with a progress bar. */
export async function loadWithBar(name: string, options: LoadModelOptions): Promise<LoadedModel> {
  const bar = new ProgressBar(name)
  try {
    return await load(name, {
      ...options,
      onProgress: (progress) => {
        bar.update(progress)
      },
    })
  } finally {
    bar.end()
  }
}

/** Runs something that Ctrl-C aborts; a second Ctrl-C does not wait for that. */
export async function interruptible<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const onInterrupt = (): void => {
    if (controller.signal.aborted) process.exit(EXIT.interrupted)
    controller.abort(new Interrupted())
  }
  process.on('SIGINT', onInterrupt)
  try {
    const value = await run(controller.signal)
    if (controller.signal.aborted) throw new Interrupted()
    return value
  } finally {
    process.off('SIGINT', onInterrupt)
  }
}
