import type { Message } from '../../types.js'
import { Failure } from '../failure.js'
import type { InputItem } from './input.js'
import type { FinishedResponse } from './output.js'

/** A response that can be gone on from. */
export interface StoredResponse {
  /** What was said until then, the answer included; without the instructions, as the API has it. */
  messages: readonly Message[]
  /** The items that it was asked with. */
  input: readonly InputItem[]
  /** The response as it was given. */
  body: FinishedResponse
}

/** What responses may take together, roughly. */
const MOST_CHARACTERS = 32 * 2 ** 20
const MOST = 1000

/** The last responses, for `previous_response_id`. They are kept in memory alone. */
export class ResponseStore {
  readonly #kept = new Map<string, { response: StoredResponse; size: number }>()
  /** The items of all of them. */
  readonly #items = new Map<string, InputItem>()
  #size = 0

  get(id: string, param?: string): StoredResponse {
    const found = this.#kept.get(id)
    if (found !== undefined) return found.response
    throw new Failure('not-found', `there is no response ${JSON.stringify(id)} (any more)`, {
      param,
      code: param === undefined ? undefined : 'previous_response_not_found',
    })
  }

  /** An item of the input or the output of a response. */
  item(id: string): InputItem | undefined {
    return this.#items.get(id)
  }

  add(response: StoredResponse): void {
    const id = String(response.body['id'])
    const size = JSON.stringify(response).length
    this.#kept.set(id, { response, size })
    for (const item of itemsOf(response)) this.#items.set(item.id, item)
    this.#size += size
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= MOST && this.#size <= MOST_CHARACTERS) break
      this.delete(oldest)
    }
  }

  /** Whether there was one. */
  delete(id: string): boolean {
    const kept = this.#kept.get(id)
    if (kept === undefined) return false
    this.#size -= kept.size
    this.#kept.delete(id)
    for (const item of itemsOf(kept.response))
      if (this.#items.get(item.id) === item) this.#items.delete(item.id)
    return true
  }
}

function itemsOf({ input, body }: StoredResponse): InputItem[] {
  return [...input, ...body.output]
}
