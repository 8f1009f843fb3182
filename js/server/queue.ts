import { onAbort } from '../signal.js'
import { Failure } from './failure.js'
import type { Limits } from './limits.js'

interface Waiting {
  weight: number
  start: () => void
}

/** Lets so many generations run at the same time; others wait in the order in which they came. */
export class Queue {
  #running = 0
  #waiting: Waiting[] = []
  readonly #limits: Limits

  constructor(limits: Limits) {
    this.#limits = limits
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /**
   * Waits for places for `weight` generations; the function that comes back gives them back.
   * Rejects where too many wait already, where it takes too long, and when the signal is aborted.
   */
  async enter(weight: number, signal: AbortSignal): Promise<() => void> {
    // Who needs more places than there are gets all of them.
    const places = Math.min(weight, this.#limits.concurrent)
    if (this.#waiting.length > 0 || this.#running + places > this.#limits.concurrent)
      await this.#wait(places, signal)
    else this.#running += places
    let left = false
    return () => {
      if (left) return
      left = true
      this.#running -= places
      this.#next()
    }
  }

  #wait(weight: number, signal: AbortSignal): Promise<void> {
    const { queued, queueMs } = this.#limits
    if (this.#waiting.length >= queued)
      return Promise.reject(busy(`${queued} requests are waiting already`))
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer)
        forget()
      }
      const entry: Waiting = {
        weight,
        start: () => {
          leave()
          resolve()
        },
      }
      const giveUp = (error: unknown): void => {
        leave()
        this.#waiting = this.#waiting.filter((other) => other !== entry)
        reject(error instanceof Error ? error : new Error('aborted', { cause: error }))
        this.#next()
      }
      const timer = setTimeout(() => {
        giveUp(busy(`no place became free in ${queueMs} ms`))
      }, queueMs)
      const forget = onAbort(signal, () => {
        giveUp(signal.reason)
      })
      this.#waiting.push(entry)
    })
  }

  #next(): void {
    for (;;) {
      const first = this.#waiting[0]
      if (first === undefined || this.#running + first.weight > this.#limits.concurrent) return
      this.#waiting.shift()
      this.#running += first.weight
      first.start()
    }
  }
}

const RETRY_SECONDS = 5

/** The message says when, too: a stream that was waiting has its headers already. */
function busy(why: string): Failure {
  const message = `the server is busy: ${why}; try again in ${RETRY_SECONDS} seconds`
  return new Failure('busy', message, {
    code: 'rate_limit_exceeded',
    headers: { 'retry-after': String(RETRY_SECONDS) },
  })
}
