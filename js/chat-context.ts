import { isAsked } from './chat-turn.js'
import { invalidArgument, NodeMlxError } from './errors.js'
import { UserError } from './generation.js'
import { messagesJson } from './prompt.js'
import { unlessAborted } from './signal.js'
import type { ChatOptions, Message } from './types.js'

/** How many tokens an answer is to have room for when old turns are dropped for it. */
const ROOM = 1024

export interface ContextRoom {
  full: ChatOptions['onContextFull']
  contextLength: number | undefined
  maxTokens: number | undefined
  signal: AbortSignal
  /** How many tokens the messages have now. */
  count: () => Promise<number>
}

/**
 * Makes the messages shorter, as the caller wants it, until they leave room for an answer; where
 * they cannot be made shorter, until they fit at all.
 */
export async function makeRoom(messages: Message[], room: ContextRoom): Promise<void> {
  const { full, contextLength, maxTokens = ROOM, signal, count } = room
  if (full === undefined || full === 'error' || contextLength === undefined) return
  const limit = Math.max(1, contextLength - Math.min(maxTokens, contextLength / 2))
  let tokens = await count()
  while (tokens > limit && !signal.aborted) {
    if (full === 'drop-oldest') {
      if (!dropOldest(messages)) break
    } else await replace(messages, full, { tokens, limit }, signal)
    const before = tokens
    tokens = await count()
    if (tokens >= before) break
  }
  // An answer has one token at least.
  if (tokens < contextLength || signal.aborted) return
  throw new NodeMlxError(
    'CONTEXT_OVERFLOW',
    `the conversation has ${tokens} tokens, and the context holds ${contextLength}; nothing more can be dropped`,
    { tokens, contextLength },
  )
}

/** Puts what the caller's function makes of the messages in their place. */
async function replace(
  messages: Message[],
  full: Exclude<ChatOptions['onContextFull'], string | undefined>,
  context: { tokens: number; limit: number },
  signal: AbortSignal,
): Promise<void> {
  let made: unknown
  try {
    const making = Promise.resolve(structuredClone(messages)).then((all) => full(all, context))
    // Where nobody waits any longer, its errors are nobody's.
    making.catch(() => undefined)
    made = await unlessAborted(making, signal)
  } catch (error) {
    if (signal.aborted) return
    throw new UserError(error)
  }
  if (!Array.isArray(made))
    throw new UserError(invalidArgument('onContextFull', 'is to return an array of messages'))
  messagesJson(made, 'onContextFull')
  messages.splice(0, messages.length, ...(structuredClone(made) as Message[]))
}

/** Takes the oldest turn away: a user's message with all that answers it. */
function dropOldest(messages: Message[]): boolean {
  const first = messages.findIndex(isAsked)
  const next = messages.findIndex((message, index) => index > first && isAsked(message))
  if (first < 0 || next < 0) return false
  messages.splice(first, next - first)
  return true
}
