import type {
  LanguageModelV4Content,
  LanguageModelV4FinishReason,
  LanguageModelV4StreamPart,
  LanguageModelV4Usage,
  SharedV4ProviderMetadata,
} from '@ai-sdk/provider'
import type { AnswerPiece, GenerationResult } from '../types.js'

type Part = LanguageModelV4StreamPart

/** Makes parts of the AI SDK's streams out of an answer's pieces. */
export class Parts {
  /** The block that is open. */
  #block: { type: 'text' | 'reasoning'; id: string } | undefined
  #blocks = 0
  /** The calls that have begun and not ended. */
  readonly #calls = new Map<number, { id: string; name: string; input: string }>()

  /** The parts of a piece. */
  of(chunk: AnswerPiece): Part[] {
    switch (chunk.type) {
      case 'text':
      case 'reasoning':
        return chunk.text === '' ? [] : this.#said(chunk.type, chunk.text)
      case 'tool-call-start': {
        const { id, name } = chunk
        this.#calls.set(chunk.index, { id, name, input: '' })
        return [...this.end(), { type: 'tool-input-start', id, toolName: name }]
      }
      case 'tool-call-delta': {
        const call = this.#calls.get(chunk.index)
        if (call !== undefined) call.input += chunk.argumentsText
        return [{ type: 'tool-input-delta', id: chunk.id, delta: chunk.argumentsText }]
      }
      case 'tool-call-end':
        this.#calls.delete(chunk.index)
        return [
          { type: 'tool-input-end', id: chunk.id },
          {
            type: 'tool-call',
            toolCallId: chunk.id,
            toolName: chunk.name,
            input: JSON.stringify(chunk.arguments),
          },
        ]
      case 'tool-call-invalid':
        return this.#invalid(chunk.index, chunk.raw)
    }
  }

  /** Ends the block that is open. */
  end(): Part[] {
    if (this.#block === undefined) return []
    const { type, id } = this.#block
    this.#block = undefined
    return [{ type: `${type}-end`, id }]
  }

  #said(type: 'text' | 'reasoning', delta: string): Part[] {
    if (this.#block?.type === type) return [{ type: `${type}-delta`, id: this.#block.id, delta }]
    const before = this.end()
    const id = String(this.#blocks++)
    this.#block = { type, id }
    return [...before, { type: `${type}-start`, id }, { type: `${type}-delta`, id, delta }]
  }

  /**
   * A call whose name is known is handed on with the input as far as it came, which the AI SDK can
   * have repaired; what is not even that is text.
   */
  #invalid(index: number, raw: string): Part[] {
    const call = this.#calls.get(index)
    if (call === undefined) return this.#said('text', raw)
    this.#calls.delete(index)
    const { id, name, input } = call
    return [
      { type: 'tool-input-end', id },
      { type: 'tool-call', toolCallId: id, toolName: name, input: input === '' ? raw : input },
    ]
  }
}

/** What an answer's parts say, as contents in their order. */
export function toContent(parts: readonly Part[]): LanguageModelV4Content[] {
  const content: LanguageModelV4Content[] = []
  const open = new Map<string, { type: 'text' | 'reasoning'; text: string }>()
  for (const part of parts) {
    if (part.type === 'text-start' || part.type === 'reasoning-start') {
      const block = { type: part.type === 'text-start' ? 'text' : 'reasoning', text: '' } as const
      const added: { type: 'text' | 'reasoning'; text: string } = { ...block }
      open.set(part.id, added)
      content.push(added)
    } else if (part.type === 'text-delta' || part.type === 'reasoning-delta') {
      const block = open.get(part.id)
      if (block !== undefined) block.text += part.delta
    } else if (part.type === 'tool-call') content.push(part)
  }
  return content
}

export function toUsage({ usage }: GenerationResult): LanguageModelV4Usage {
  const { promptTokens, cachedTokens, completionTokens, reasoningTokens } = usage
  return {
    inputTokens: {
      total: promptTokens,
      noCache: promptTokens - cachedTokens,
      cacheRead: cachedTokens,
      cacheWrite: 0,
    },
    outputTokens: {
      total: completionTokens,
      text: completionTokens - reasoningTokens,
      reasoning: reasoningTokens,
    },
    raw: { ...usage },
  }
}

export function toFinishReason({ finishReason }: GenerationResult): LanguageModelV4FinishReason {
  return { unified: finishReason === 'abort' ? 'other' : finishReason, raw: finishReason }
}

/** What else is known of an answer. */
export function toMetadata(result: GenerationResult, provider: string): SharedV4ProviderMetadata {
  const { stopString, logprobs, invalidToolCalls, timings, peakMemoryBytes } = result
  return {
    [provider]: {
      timings: { ...timings },
      peakMemoryBytes,
      ...(stopString === undefined ? {} : { stopString }),
      ...(logprobs === undefined ? {} : { logprobs: logprobs as unknown as [] }),
      ...(invalidToolCalls.length === 0
        ? {}
        : { invalidToolCalls: invalidToolCalls.map(({ raw, error }) => ({ raw, error })) }),
    },
  }
}
