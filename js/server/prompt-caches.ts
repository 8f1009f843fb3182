import type { GenerateOptions, Model, Prompt, PromptCache } from '../types.js'

/** More conversations of a model than this are not kept. */
const MOST = 8

interface Entry {
  readonly promptCache: PromptCache
  /** The tools and messages that were read last, each as JSON. */
  parts: readonly string[]
  bytes: number
  used: boolean
}

/** A prompt cache that a generation uses. */
export interface Borrowed {
  readonly promptCache: PromptCache
  /** Gives it back once the generation has ended. */
  release(): Promise<void>
}

/**
 * The prompt caches of conversations: a request that goes on from an earlier one, or asks the same
 * again, reads only what is new. What was not used for longest leaves.
 */
export class PromptCaches {
  readonly #mostBytes: number
  /** By model, the latest last. They leave with their model. */
  readonly #entries = new WeakMap<Model, Entry[]>()

  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes
  }

  /** A cache for a conversation; none for other prompts, or where all are used. */
  take(model: Model, prompt: Prompt, options: GenerateOptions): Borrowed | undefined {
    if (this.#mostBytes === 0 || !Array.isArray(prompt)) return undefined
    const head = JSON.stringify([options.tools, options.templateVariables, options.documents])
    const parts = [head, ...prompt.map((message) => JSON.stringify(message))]
    const entries = this.#entries.get(model) ?? []
    this.#entries.set(model, entries)
    const entry = continued(entries, parts) ?? added(entries, model) ?? oldest(entries)
    if (entry === undefined) return undefined
    entry.used = true
    entry.parts = parts
    entries.splice(entries.indexOf(entry), 1)
    entries.push(entry)
    return { promptCache: entry.promptCache, release: () => this.#release(entries, entry) }
  }

  async #release(entries: Entry[], entry: Entry): Promise<void> {
    try {
      entry.bytes = (await entry.promptCache.size()).bytes
    } catch {
      // The model has gone, and its caches with it.
      entries.splice(entries.indexOf(entry), 1)
      return
    }
    entry.used = false
    for (const candidate of [...entries]) {
      const total = entries.reduce((sum, { bytes }) => sum + bytes, 0)
      if (total <= this.#mostBytes) return
      if (candidate.used) continue
      candidate.promptCache.dispose()
      entries.splice(entries.indexOf(candidate), 1)
    }
  }
}

/** The cache of which the conversation goes on furthest. */
function continued(entries: readonly Entry[], parts: readonly string[]): Entry | undefined {
  const fitting = entries.filter(
    (entry) => !entry.used && entry.parts.every((part, index) => part === parts[index]),
  )
  return fitting.sort((one, other) => other.parts.length - one.parts.length)[0]
}

function added(entries: Entry[], model: Model): Entry | undefined {
  if (entries.length >= MOST) return undefined
  const entry = { promptCache: model.createPromptCache(), parts: [], bytes: 0, used: false }
  entries.push(entry)
  return entry
}

function oldest(entries: readonly Entry[]): Entry | undefined {
  return entries.find(({ used }) => !used)
}
