import { onAbort } from '../signal.js'

/** At most so many at once; the others wait in the order in which they came. */
export class Slots {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(count: number) {
    this.#free = count
  }

  /** Runs something once there is room; who is aborted waits no longer. */
  async use<T>(signal: AbortSignal, run: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--
    else await this.#turn(signal)
    try {
      return await run()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free++
      else next()
    }
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted()
      const forget = onAbort(signal, () => {
        const at = this.#waiting.indexOf(turn)
        if (at !== -1) this.#waiting.splice(at, 1)
        reject(signal.reason as Error)
      })
      const turn = (): void => {
        forget()
        resolve()
      }
      this.#waiting.push(turn)
    })
  }
}

/**
 * Runs something for each item, a few at once. The first failure is thrown, once all that have
 * begun have ended, and nothing begins after it.
 */
export async function forEach<T>(
  items: readonly T[],
  atOnce: number,
  run: (item: T) => Promise<void>,
  onFailure: (error: unknown) => void = () => undefined,
): Promise<void> {
  const rest = [...items]
  let failure: { error: unknown } | undefined
  const work = async (): Promise<void> => {
    while (rest.length > 0 && failure === undefined) {
      const item = rest.shift() as T
      try {
        await run(item)
      } catch (error) {
        failure ??= { error }
        onFailure(error)
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, work))
  if (failure !== undefined) throw failure.error
}
