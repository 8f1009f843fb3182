import type { Message, ToolCall } from '../../types.js'
import { oneOf, show, string, boolean, isPlainObject } from '../../validate.js'
import { invalidField } from '../failure.js'
import { anything, readFields, record, required } from '../fields.js'
import { unknownField } from './api.js'

/** What is said in one message: its text, what came before it, and calls with their results. */
interface Said {
  text: string[]
  thinking: string[]
  calls: ToolCall[]
  results: Message[]
}

const BLOCK_FIELDS = {
  text: { text: string, citations: anything },
  thinking: { thinking: string, signature: anything },
  // What a provider keeps secret is nothing for a model here.
  redacted_thinking: { data: anything },
  tool_use: { id: string, name: string, input: record, caller: anything },
  tool_result: { tool_use_id: string, content: anything, is_error: boolean },
  search_result: { source: string, title: string, content: anything, citations: anything },
  document: { source: record, title: string, context: string, citations: anything },
  image: { source: record },
}

type BlockType = keyof typeof BLOCK_FIELDS

/** The messages of a conversation, the system's first, as chat templates know them. */
export function conversation(system: unknown, messages: unknown): Message[] {
  const all: Message[] = []
  if (system !== undefined) {
    const text = typeof system === 'string' ? system : textOf(system, 'system')
    if (text !== '') all.push({ role: 'system', content: text })
  }
  if (!Array.isArray(messages) || messages.length === 0)
    throw invalidField('messages', 'messages: expected at least one message')
  messages.forEach((message: unknown, index) => {
    for (const next of toMessages(message, `messages.${index}`)) append(all, next)
  })
  checkResults(all)
  const last = all.at(-1)
  if (last?.role === 'assistant' && last.content === '' && last['reasoning_content'] !== undefined)
    throw invalidField('messages', 'messages: the last message may not be thinking alone')
  return all
}

/** The calls of a message are answered, each of them, before the assistant goes on. */
function checkResults(all: readonly Message[]): void {
  let open = new Set<string>()
  const checkAnswered = (): void => {
    if (open.size === 0) return
    const ids = [...open].join(', ')
    throw invalidField('messages', `messages: there is no tool_result for the tool_use ${ids}`)
  }
  for (const message of all) {
    if (message.role === 'assistant') {
      checkAnswered()
      open = new Set(message.tool_calls?.map(({ id = '' }) => id))
    } else if (message.role === 'tool') {
      const id = String(message.tool_call_id)
      if (!open.delete(id))
        throw invalidField(
          'messages',
          `messages: there is no tool_use ${id} that a tool_result answers`,
        )
    }
  }
  checkAnswered()
}

/** Whether the model is to go on with the last message, which is its own. */
export function isPrefilled(messages: readonly Message[]): boolean {
  return messages.at(-1)?.role === 'assistant'
}

/** This API takes messages of the same speaker for one; templates often refuse them. */
function append(all: Message[], message: Message): void {
  const last = all.at(-1)
  const isSame = last?.role === message.role && message.role !== 'tool'
  if (!isSame || typeof last.content !== 'string' || typeof message.content !== 'string') {
    all.push(message)
    return
  }
  const joined = (one: unknown, other: unknown): string =>
    [one, other].filter((text) => typeof text === 'string' && text !== '').join('\n\n')
  last.content = joined(last.content, message.content)
  const thought = joined(last['reasoning_content'], message['reasoning_content'])
  if (thought !== '') last['reasoning_content'] = thought
  const calls = [...(last.tool_calls ?? []), ...(message.tool_calls ?? [])]
  if (calls.length > 0) last.tool_calls = calls
}

function toMessages(message: unknown, where: string): Message[] {
  const { role, content } = readFields(
    message,
    where,
    { role: oneOf('user', 'assistant', 'system'), content: anything },
    unknownField,
  )
  const speaker = required(role, `${where}.role`)
  const said = read(required(content, `${where}.content`), speaker, `${where}.content`)
  const text = said.text.join('\n\n')
  if (speaker !== 'assistant') {
    if (text === '' && said.results.length === 0)
      throw invalidField(`${where}.content`, `${where}.content: is empty`)
    // Results answer the calls of the message before, so they come first.
    const own: Message[] =
      text === '' && said.results.length > 0 ? [] : [{ role: speaker, content: text }]
    return [...said.results, ...own]
  }
  const thinking = said.thinking.join('\n\n')
  return [
    {
      role: speaker,
      content: text,
      ...(thinking === '' ? {} : { reasoning_content: thinking }),
      ...(said.calls.length === 0 ? {} : { tool_calls: said.calls }),
    },
  ]
}

function read(content: unknown, role: string, where: string): Said {
  const said: Said = { text: [], thinking: [], calls: [], results: [] }
  if (typeof content === 'string') {
    said.text.push(content)
    return said
  }
  if (!Array.isArray(content))
    throw invalidField(
      where,
      `${where}: expected a text or an array of blocks, got ${show(content)}`,
    )
  content.forEach((block: unknown, index) => {
    readBlock(block, role, `${where}.${index}`, said)
  })
  return said
}

function readBlock(value: unknown, role: string, where: string, said: Said): void {
  const block = blockOf(value, where)
  const isAssistant = role === 'assistant'
  if (
    (block.type === 'tool_use' || block.type.endsWith('thinking')) !== isAssistant &&
    block.type !== 'text'
  )
    throw invalidField(where, `${where}: a ${block.type} block is none of a message of the ${role}`)
  switch (block.type) {
    case 'text':
      said.text.push(required(block.fields.text, `${where}.text`))
      break
    case 'thinking':
      said.thinking.push(block.fields.thinking ?? '')
      break
    case 'redacted_thinking':
      break
    case 'tool_use': {
      const { id, name, input = {} } = block.fields
      said.calls.push({
        id: required(id, `${where}.id`),
        type: 'function',
        function: { name: required(name, `${where}.name`), arguments: input },
      })
      break
    }
    case 'tool_result': {
      const { tool_use_id: id, content, is_error: failed } = block.fields
      const text = content === undefined ? '' : resultText(content, `${where}.content`)
      said.results.push({
        role: 'tool',
        tool_call_id: required(id, `${where}.tool_use_id`),
        content: failed === true ? `Error: ${text}` : text,
      })
      break
    }
    case 'search_result': {
      const { title, source, content } = block.fields
      const found = textOf(required(content, `${where}.content`), `${where}.content`)
      const parts = [title, source, found].filter((part) => part !== undefined && part !== '')
      said.text.push(parts.join('\n\n'))
      break
    }
    case 'document':
      said.text.push(documentText(block.fields, where))
      break
    case 'image':
      throw invalidField(where, `${where}: the models here take text only, and no images`)
  }
}

type Block = {
  [T in BlockType]: { type: T; fields: ReturnType<typeof readFields<(typeof BLOCK_FIELDS)[T]>> }
}[BlockType]

function blockOf(value: unknown, where: string): Block {
  if (!isPlainObject(value))
    throw invalidField(where, `${where}: expected a block, got ${show(value)}`)
  const known = Object.keys(BLOCK_FIELDS) as BlockType[]
  const type = oneOfTypes(value['type'], known, where)
  const fields = readFields(
    value,
    where,
    // What is to be cached is found without being told.
    { type: anything, cache_control: anything, ...BLOCK_FIELDS[type] },
    unknownField,
  )
  return { type, fields } as Block
}

function oneOfTypes(type: unknown, known: readonly BlockType[], where: string): BlockType {
  const found = known.find((name) => name === type)
  if (found !== undefined) return found
  throw invalidField(
    `${where}.type`,
    `${where}.type: expected one of ${known.join(', ')}, got ${show(type)}`,
  )
}

function resultText(content: unknown, where: string): string {
  return typeof content === 'string' ? content : textOf(content, where)
}

/** The text of blocks that may only be text. */
function textOf(blocks: unknown, where: string): string {
  if (!Array.isArray(blocks))
    throw invalidField(
      where,
      `${where}: expected a text or an array of blocks, got ${show(blocks)}`,
    )
  const said: Said = { text: [], thinking: [], calls: [], results: [] }
  blocks.forEach((block: unknown, index) => {
    readBlock(block, 'user', `${where}.${index}`, said)
  })
  return said.text.join('\n\n')
}

function documentText(
  fields: { source?: Record<string, unknown>; title?: string; context?: string },
  where: string,
): string {
  const { source = {}, title, context } = fields
  const { type, data } = source
  if (type !== 'text' || typeof data !== 'string') {
    throw invalidField(
      `${where}.source`,
      `${where}.source: the models here take documents of plain text only: { type: 'text', media_type: 'text/plain', data }`,
    )
  }
  return [title, context, data].filter((part) => part !== undefined).join('\n\n')
}
