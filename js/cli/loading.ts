import { EXIT, Interrupted } from './errors.js'
import { load, type LoadedModel } from '../model.js'
import type { LoadModelOptions } from '../types.js'
import { ProgressBar } from './progress.js'
import { styleFor } from './style.js'

/** Warnings that were told: a model may be loaded again. */
const told = new Set<string>()

/** Loads a model with a progress bar, and tells its warnings. */
export async function loadWithBar(name: string, options: LoadModelOptions): Promise<LoadedModel> {
  const bar = new ProgressBar(name)
  const model = await load(name, {
    ...options,
    onProgress: (progress) => {
      bar.update(progress)
    },
  }).finally(() => {
    bar.end()
  })
  const style = styleFor(process.stderr)
  for (const { message } of model.info.warnings) {
    if (!told.has(message)) process.stderr.write(`${style.bold('warning:')} ${message}\n`)
    told.add(message)
  }
  return model
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
