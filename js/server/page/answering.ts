import { chat, type Chunk } from './api.js'
import { messagesOf, type Conversation, type ToolCall, type Turn } from './conversation.js'

/** What goes with the messages of a chat. */
export interface AnswerOptions {
  model: string
  temperature: number | undefined
  maxTokens: number | undefined
}

/** Writes an answer into a turn, and calls `changed` at most once for each picture. */
export async function answer(
  conversation: Conversation,
  turn: Turn,
  options: AnswerOptions,
  signal: AbortSignal,
  changed: () => void,
): Promise<void> {
  const { model, temperature, maxTokens } = options
  const body = {
    model,
    messages: messagesOf(conversation, turn.parent),
    ...(temperature === undefined ? {} : { temperature }),
    ...(maxTokens === undefined ? {} : { max_completion_tokens: maxTokens }),
  }
  let scheduled = false
  const schedule = (): void => {
    if (scheduled) return
    scheduled = true
    requestAnimationFrame(() => {
      scheduled = false
      changed()
    })
  }
  try {
    for await (const chunk of chat(body, signal)) {
      add(turn, chunk)
      schedule()
    }
  } catch (error) {
    if (!signal.aborted) {
      turn.ended = 'error'
      turn.error = error instanceof Error ? error.message : String(error)
      throw error
    }
  }
  if (signal.aborted) turn.ended = 'stopped'
}

function add(turn: Turn, chunk: Chunk): void {
  turn.content += chunk.content
  if (chunk.reasoning !== '') turn.reasoning = (turn.reasoning ?? '') + chunk.reasoning
  for (const call of chunk.toolCalls) addCall((turn.toolCalls ??= []), call)
  if (chunk.finishReason === 'length') turn.ended = 'length'
  const { usage, tokensPerSecond } = chunk
  if (usage === undefined && tokensPerSecond === undefined) return
  turn.stats = {
    tokensPerSecond: 0,
    promptTokens: 0,
    completionTokens: 0,
    cachedTokens: 0,
    ...turn.stats,
    ...usage,
    ...(tokensPerSecond === undefined ? {} : { tokensPerSecond }),
  }
}

function addCall(calls: ToolCall[], piece: Chunk['toolCalls'][number]): void {
  const call = (calls[piece.index] ??= { id: '', name: '', arguments: '' })
  call.id ||= piece.id ?? ''
  call.name ||= piece.name ?? ''
  call.arguments += piece.arguments
}
