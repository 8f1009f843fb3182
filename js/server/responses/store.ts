import type { Message } from '../../types.js'
import { Failure } from '../failure.js'

/** A response that can be gone on from. */
export interface StoredResponse {
  /** What was said until then, the answer included; without the instructions, as the API has it. */
  messages: readonly Message[]
  /** The response as it was given. */
  body: unknown
}

/** What responses may take together, roughly. */
const MOST_CHARACTERS = 32 * 2 ** 20
const MOST = 1000

/** The last responses, for `previous_response_id`. They are kept in memory alone. */
export class ResponseStore {
  readonly #kept = new Map<string, { response: StoredResponse; size: number }>()
  #size = 0

  get(id: string, param?: string): StoredResponse {
    const found = this.#kept.get(id)
    if (found !== undefined) return found.response
    throw new Failure('not-found', `there is no response ${JSON.stringify(id)} (any more)`, {
      param,
      code: param === undefined ? undefined : 'previous_response_not_found',
    })
  }

  add(id: string, response: StoredResponse): void {
    const size = JSON.stringify(response).length
    this.#kept.set(id, { response, size })
    this.#size += size
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= MOST && this.#size <= MOST_CHARACTERS) break
      this.delete(oldest)
    }
  }

  /** Whether there was one. */
  delete(id: string): boolean {
    this.#size -= this.#kept.get(id)?.size ?? 0
    return this.#kept.delete(id)
  }
}
