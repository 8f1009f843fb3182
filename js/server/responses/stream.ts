import { chatLogprobs } from '../openai/logprobs.js'
import { frame } from '../sse.js'
import type { AnswerPiece, GeneratedLogprob, GenerationResult } from '../../types.js'
import { callItem, messageItem, newId, reasoningItem, textPart, type Item } from './output.js'

/** The item that is being written. */
interface Open {
  id: string
  type: Item['type']
  text: string
  logprobs: GeneratedLogprob[]
  call: { callId: string; name: string }
}

/** Makes the events of a streamed response out of an answer's pieces. */
export class ResponseEvents {
  /** The items that are complete. */
  readonly output: Item[] = []
  #open: Open | undefined
  #sequence = 0

  event(type: string, fields: object): string {
    return frame({ type, sequence_number: this.#sequence++, ...fields }, type)
  }

  piece(piece: AnswerPiece): string[] {
    switch (piece.type) {
      case 'text':
        return piece.text === '' ? [] : this.#text(piece.text, piece.logprobs ?? [])
      case 'tool-call-invalid':
        return this.#text(piece.raw, [])
      case 'reasoning':
        return piece.text === '' ? [] : this.#reasoning(piece.text)
      case 'tool-call-start':
        return [
          ...this.#close('completed'),
          ...this.#begin('function_call', { callId: piece.id, name: piece.name }),
        ]
      case 'tool-call-delta':
        return this.#arguments(piece.argumentsText)
      case 'tool-call-end':
        return this.#close('completed')
    }
  }

  /** Ends what is open; an answer without anything has an empty message. */
  end(status: 'completed' | 'incomplete', { toolCalls }: GenerationResult): string[] {
    const begun =
      this.#open === undefined && this.output.length === 0 && toolCalls.length === 0
        ? this.#begin('message')
        : []
    return [...begun, ...this.#close(status)]
  }

  #text(delta: string, logprobs: readonly GeneratedLogprob[]): string[] {
    const begun = this.#ensure('message')
    if (this.#open === undefined) return begun
    this.#open.text += delta
    this.#open.logprobs.push(...logprobs)
    const fields = { ...this.#place(), content_index: 0, delta, logprobs: chatLogprobs(logprobs) }
    return [...begun, this.event('response.output_text.delta', fields)]
  }

  #reasoning(delta: string): string[] {
    const begun = this.#ensure('reasoning')
    if (this.#open === undefined) return begun
    this.#open.text += delta
    const fields = { ...this.#place(), content_index: 0, delta }
    return [...begun, this.event('response.reasoning_text.delta', fields)]
  }

  #arguments(delta: string): string[] {
    if (this.#open === undefined) return []
    this.#open.text += delta
    return [this.event('response.function_call_arguments.delta', { ...this.#place(), delta })]
  }

  #ensure(type: Item['type']): string[] {
    if (this.#open?.type === type) return []
    return [...this.#close('completed'), ...this.#begin(type)]
  }

  #begin(type: Item['type'], call = { callId: '', name: '' }): string[] {
    const prefix = type === 'message' ? 'msg' : type === 'reasoning' ? 'rs' : 'fc'
    this.#open = { id: newId(prefix), type, text: '', logprobs: [], call }
    const { id } = this.#open
    const item =
      type === 'message'
        ? messageItem(id, [], 'in_progress')
        : type === 'reasoning'
          ? reasoningItem(id, '', 'in_progress')
          : callItem(id, { ...call, args: '' }, 'in_progress')
    const added = this.event('response.output_item.added', {
      output_index: this.output.length,
      item,
    })
    if (type === 'function_call') return [added]
    const part = type === 'message' ? textPart('') : { type: 'reasoning_text', text: '' }
    const fields = { ...this.#place(), content_index: 0, part }
    return [added, this.event('response.content_part.added', fields)]
  }

  #close(status: 'completed' | 'incomplete'): string[] {
    const open = this.#open
    if (open === undefined) return []
    const place = this.#place()
    const { id, type, text, logprobs } = open
    const done: string[] = []
    let item: Item
    if (type === 'function_call') {
      const { name } = open.call
      const fields = { ...place, name, arguments: text }
      done.push(this.event('response.function_call_arguments.done', fields))
      item = callItem(id, { ...open.call, args: text }, status)
    } else {
      const isText = type === 'message'
      const part = isText ? textPart(text, logprobs) : { type: 'reasoning_text', text }
      const at = { ...place, content_index: 0 }
      const own = isText ? { logprobs: chatLogprobs(logprobs) } : {}
      const name = isText ? 'response.output_text.done' : 'response.reasoning_text.done'
      done.push(
        this.event(name, { ...at, text, ...own }),
        this.event('response.content_part.done', { ...at, part }),
      )
      item = isText ? messageItem(id, [part], status) : reasoningItem(id, text, status)
    }
    const index = this.output.length
    this.output.push(item)
    this.#open = undefined
    return [...done, this.event('response.output_item.done', { output_index: index, item })]
  }

  #place(): { item_id: string; output_index: number } {
    return { item_id: this.#open?.id ?? '', output_index: this.output.length }
  }
}
