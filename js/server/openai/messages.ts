import type { Message } from '../../types.js'
import { isPlainObject, show } from '../../validate.js'
import { invalidField } from '../failure.js'

/** The messages of a chat, with what templates know by other names. */
export function chatMessages(value: unknown): Message[] {
  if (!Array.isArray(value) || value.length === 0)
    throw invalidField('messages', `messages: expected a non-empty array, got ${show(value)}`)
  const messages = value.map((message: unknown, index) =>
    chatMessage(message, `messages[${index}]`),
  )
  checkResults(messages)
  return messages
}

/** Refuses results of tools that answer no call, as the API does. */
function checkResults(messages: readonly Message[]): void {
  const called = new Set<unknown>()
  messages.forEach(({ role, tool_calls: calls, tool_call_id: id }, index) => {
    // What else is wrong with a call is for others to say.
    if (Array.isArray(calls))
      for (const call of calls as unknown[])
        called.add(isPlainObject(call) ? call['id'] : undefined)
    if (role !== 'tool' || (id === undefined ? called.size > 0 : called.has(id))) return
    const where = `messages[${index}]`
    throw invalidField(
      id === undefined ? `${where}.role` : `${where}.tool_call_id`,
      `${where}: a message of the role 'tool' has to answer one of the tool_calls before it`,
    )
  })
}

function chatMessage(message: unknown, where: string): Message {
  if (!isPlainObject(message))
    throw invalidField(where, `${where}: expected an object, got ${show(message)}`)
  const { reasoning, refusal, role, ...rest } = message
  const shared = Object.fromEntries(Object.entries(rest).filter(([, item]) => item !== null))
  const thought = shared['reasoning_content'] ?? reasoning
  const content = shared['content'] ?? refusal
  return {
    ...shared,
    // Few templates know this name; those that do take it for a system's message.
    role: role === 'developer' ? 'system' : (role as string),
    // Its calls say something where it has none.
    ...(content === undefined || content === null
      ? role === 'assistant'
        ? { content: '' }
        : {}
      : { content: plainContent(content) }),
    ...(thought === undefined || thought === null ? {} : { reasoning_content: thought }),
  } as Message
}

/** Parts whose text other APIs of OpenAI give by other types. */
function plainContent(content: unknown): unknown {
  if (!Array.isArray(content)) return content
  return content.map((part: unknown) => {
    if (!isPlainObject(part)) return part
    if (part['type'] === 'refusal') return { type: 'text', text: part['refusal'] }
    return part['type'] === 'text' ? { type: 'text', text: part['text'] } : part
  })
}
