/** What waits for a signal, and the one listener for all of it. */
interface Waiting {
  callbacks: Set<() => void>
  listener: () => void
}

const waiting = new WeakMap<AbortSignal, Waiting>()

/**
 * Calls `callback` when a signal is aborted, unless the function that comes back was called before.
 * A signal may end many generations: it gets one listener for all of them, since Node.js takes more
 * than ten for a leak and warns.
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const { callbacks, listener } = waiting.get(signal) ?? listen(signal)
  // A function of its own, so that the same callback can wait twice.
  const entry = (): void => {
    callback()
  }
  callbacks.add(entry)
  return () => {
    if (!callbacks.delete(entry) || callbacks.size > 0) return
    forget(signal, listener)
  }
}

/** The promise's value, unless the signal comes first, with whose reason it then rejects. */
export async function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T> {
  if (signal === undefined) return promise
  signal.throwIfAborted()
  let stopWaiting: (() => void) | undefined
  const ended = new Promise<never>((_, reject) => {
    stopWaiting = onAbort(signal, () => {
      reject(signal.reason as Error)
    })
  })
  try {
    return await Promise.race([promise, ended])
  } finally {
    stopWaiting?.()
  }
}

function forget(signal: AbortSignal, listener: () => void): void {
  signal.removeEventListener('abort', listener)
  waiting.delete(signal)
}

function listen(signal: AbortSignal): Waiting {
  const callbacks = new Set<() => void>()
  const listener = (): void => {
    forget(signal, listener)
    const all = [...callbacks]
    callbacks.clear()
    for (const callback of all) callback()
  }
  const added = { callbacks, listener }
  waiting.set(signal, added)
  signal.addEventListener('abort', listener)
  return added
}
