import { EXIT, Interrupted } from './errors.js'
import { load, modelFolder, type LoadedModel } from '../model.js'
import type { LoadModelOptions, LoadProgress } from '../types.js'
import { ProgressBar } from './progress.js'
import { styleFor } from './style.js'

/** Warnings that were told: a model may be loaded again. */
const told = new Set<string>()

/**
 * Loads a model, which is downloaded first where it is missing, with a progress bar, and tells its
 * warnings.
 */
export async function loadWithBar(name: string, options: LoadModelOptions): Promise<LoadedModel> {
  const model = await withBar(name, (onProgress) => load(name, { ...options, onProgress }))
  const style = styleFor(process.stderr)
  for (const { message } of model.info.warnings) {
    if (!told.has(message)) process.stderr.write(`${style.bold('warning:')} ${message}\n`)
    told.add(message)
  }
  return model
}

/** Downloads what is missing of a model, with a progress bar. */
export function fetchWithBar(name: string, options: LoadModelOptions): Promise<string> {
  return withBar(name, (onProgress) => modelFolder(name, { ...options, onProgress }))
}

/** Runs something that reports progress, and shows that. */
export async function withBar<T>(
  name: string,
  run: (onProgress: (progress: LoadProgress) => void) => Promise<T>,
): Promise<T> {
  const bar = new ProgressBar(name)
  try {
    return await run((progress) => {
      bar.update(progress)
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
