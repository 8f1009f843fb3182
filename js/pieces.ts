import { randomBytes } from 'node:crypto'
import type { SourceBatch, SourcePiece } from './generation.js'
import type { NativeLogprob } from './native.js'
import type {
  ChunkTokens,
  GeneratedLogprob,
  GeneratedToolCall,
  AnswerPiece,
  GenerationResult,
  InvalidToolCall,
} from './types.js'

/** What of a result is read off its pieces. */
type Content = Pick<
  GenerationResult,
  'text' | 'reasoning' | 'toolCalls' | 'invalidToolCalls' | 'rawText'
>

/** Makes chunks of what a generation's batches bring. */
export class Pieces {
  /** The calls that have begun and not ended, by their index. */
  readonly #open = new Map<number, { id: string; name: string; json: string }>()
  /** What the model wrote, where that is not its text alone. */
  #raw: string | undefined

  /** The chunks of a batch, in order. */
  chunks(batch: SourceBatch): AnswerPiece[] {
    const tokens = Array.from(batch.tokens)
    const logprobs = batch.logprobs && Array.from(batch.logprobs, toLogprob)
    if (batch.pieces === undefined) {
      if (tokens.length === 0 && batch.text === '') return []
      const chunk: AnswerPiece = { type: 'text', text: batch.text, tokens }
      return [logprobs === undefined ? chunk : { ...chunk, logprobs }]
    }
    this.#raw = (this.#raw ?? '') + (batch.rawText ?? '')
    let from = 0
    return Array.from(batch.pieces, (piece) => {
      const to = from + piece.tokens
      const own: ChunkTokens = { tokens: tokens.slice(from, to) }
      if (logprobs !== undefined) own.logprobs = logprobs.slice(from, to)
      from = to
      return this.#chunk(piece, own)
    })
  }

  #chunk(piece: SourcePiece, own: ChunkTokens): AnswerPiece {
    const { text, index } = piece
    switch (piece.type) {
      case 'text':
      case 'reasoning':
        return { type: piece.type, text, ...own }
      case 'tool-call-start': {
        const call = { id: piece.id ?? callId(), name: text, json: '' }
        this.#open.set(index, call)
        return { type: 'tool-call-start', index, id: call.id, name: call.name, ...own }
      }
      case 'tool-call-delta': {
        const call = this.#call(index)
        call.json += text
        return { type: 'tool-call-delta', index, id: call.id, argumentsText: text, ...own }
      }
      case 'tool-call-end': {
        const { id, name, json } = this.#call(index)
        this.#open.delete(index)
        const parsed = JSON.parse(json) as Record<string, unknown>
        return { type: 'tool-call-end', index, id, name, arguments: parsed, ...own }
      }
      case 'tool-call-invalid':
        this.#open.delete(index)
        return {
          type: 'tool-call-invalid',
          index,
          raw: text,
          error: piece.error ?? '',
          ...piece.call,
          ...own,
        }
    }
  }

  #call(index: number): { id: string; name: string; json: string } {
    const call = this.#open.get(index)
    if (call === undefined) throw new Error(`the call ${index} has not begun`)
    return call
  }

  /** What all chunks together say; `rawLength` is where what the model wrote ends before a stop. */
  content(chunks: readonly AnswerPiece[], rawLength: number | undefined): Content {
    const content: Content = {
      text: '',
      reasoning: '',
      toolCalls: [],
      invalidToolCalls: [],
      rawText: '',
    }
    for (const chunk of chunks) {
      if (chunk.type === 'text') content.text += chunk.text
      else if (chunk.type === 'reasoning') content.reasoning += chunk.text
      else if (chunk.type === 'tool-call-end') content.toolCalls.push(toCall(chunk))
      else if (chunk.type === 'tool-call-invalid') content.invalidToolCalls.push(toInvalid(chunk))
    }
    content.rawText = this.#raw?.slice(0, rawLength) ?? content.text
    return content
  }
}

function toInvalid({ raw, error, id, name, arguments: args }: InvalidToolCall): InvalidToolCall {
  if (id === undefined || name === undefined || args === undefined) return { raw, error }
  return { raw, error, id, name, arguments: args }
}

function toCall({ id, name, arguments: args }: GeneratedToolCall): GeneratedToolCall {
  return { id, name, arguments: args }
}

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'

/** An id for a call that has none. Mistral's templates take nine letters and digits only. */
export function callId(): string {
  return Array.from(randomBytes(9), (byte) => LETTERS[byte % LETTERS.length]).join('')
}

// Objects of the addon are made again: in jest and vm they are of another realm, whose arrays equal
// no array there.
function toLogprob({ top, ...token }: NativeLogprob): GeneratedLogprob {
  return { ...token, top: Array.from(top, (candidate) => ({ ...candidate })) }
}
