import { setTimeout as sleep } from 'node:timers/promises'
import type { NodeMlxError } from '../errors.js'

/** What is known of an answer, and not that there was none. */
export class Verdict extends Error {}

/** Something that may go better the next time: a cut connection, a server that is too busy. */
export class Transient extends Verdict {
  /** What to throw where it does not get better. */
  readonly final: NodeMlxError
  /** How long the server asks to wait, in milliseconds. */
  readonly wait: number
  /** No server was reached at all. */
  readonly unreached: boolean

  constructor(final: NodeMlxError, { wait = 0, unreached = false } = {}) {
    super(final.message, { cause: final })
    this.final = final
    this.wait = wait
    this.unreached = unreached
  }
}

/** How often something is tried again without any success in between. */
const RETRIES = 5
/** Where nothing was reached, a network that is not there is said soon. */
const RETRIES_UNREACHED = 2
const FIRST_WAIT_MS = 300
/** Nobody waits for longer than this because a server says so. */
const LONGEST_WAIT_MS = 5 * 60_000

/**
 * Growing waits between tries: twice as long each time, with a random part so that many clients do
 * not come back together.
 */
export class Backoff {
  readonly #signal: AbortSignal
  readonly #onWait: (reason: string) => void
  #failures = 0
  #succeeded = false

  /** @param onWait - Told why nothing happens, before each wait. */
  constructor(signal: AbortSignal, onWait: (reason: string) => void = () => undefined) {
    this.#signal = signal
    this.#onWait = onWait
  }

  /** Something went well: the next failure counts as the first. */
  succeeded(): void {
    this.#failures = 0
    this.#succeeded = true
  }

  /** Waits for the next try, or throws what cannot be helped. */
  async pause(error: unknown): Promise<void> {
    if (this.#signal.aborted || !(error instanceof Transient)) throw error
    const retries = error.unreached && !this.#succeeded ? RETRIES_UNREACHED : RETRIES
    if (this.#failures >= retries || error.wait > LONGEST_WAIT_MS) throw error.final
    const grown = FIRST_WAIT_MS * 2 ** this.#failures++
    const wait = Math.max(error.wait, grown * (0.5 + Math.random()))
    const seconds = Math.ceil(wait / 1000)
    this.#onWait(`tries again in ${seconds} s, after: ${error.final.message}`)
    await sleep(wait, undefined, { signal: this.#signal })
  }
}

/** Runs something until it succeeds or cannot be helped. */
export async function persistently<T>(
  signal: AbortSignal,
  run: () => Promise<T>,
  onWait?: (reason: string) => void,
): Promise<T> {
  const backoff = new Backoff(signal, onWait)
  for (;;) {
    try {
      return await run()
    } catch (error) {
      await backoff.pause(error)
    }
  }
}

/** `Retry-After` in milliseconds: seconds or a date (RFC 9110, 10.2.3); 0 where it says nothing. */
export function retryAfter(value: string | null): number {
  if (value === null) return 0
  const seconds = /^\s*\d+(?:\.\d+)?\s*$/.test(value)
    ? Number(value)
    : (Date.parse(value) - Date.now()) / 1000
  return Number.isFinite(seconds) ? Math.max(0, seconds * 1000) : 0
}
