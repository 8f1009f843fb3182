import type { Message, ToolCall } from '../../types.js'
import { isPlainObject, show, string } from '../../validate.js'
import { invalidField } from '../failure.js'
import { required } from '../fields.js'
import { newId } from './output.js'
import type { ResponseStore } from './store.js'

/** An item of an input, with its id. */
export interface InputItem extends Record<string, unknown> {
  id: string
  type: unknown
}

const PREFIXES: Readonly<Record<string, string>> = {
  message: 'msg',
  function_call: 'fc',
  function_call_output: 'fco',
  reasoning: 'rs',
}

/** The items of an input; those that it refers to are in the store. */
export function inputItems(input: unknown, store: ResponseStore): InputItem[] {
  if (typeof input === 'string') {
    const content = [{ type: 'input_text', text: input }]
    return [{ id: newId('msg'), type: 'message', role: 'user', status: 'completed', content }]
  }
  if (!Array.isArray(input) || input.length === 0)
    throw invalidField('input', `input: expected a text or an array of items, got ${show(input)}`)
  return input.map((item: unknown, index) => inputItem(item, `input[${index}]`, store))
}

function inputItem(item: unknown, where: string, store: ResponseStore): InputItem {
  if (!isPlainObject(item))
    throw invalidField(where, `${where}: expected an item, got ${show(item)}`)
  const { id } = item
  // References may go without a type.
  const isReference = typeof id === 'string' && Object.keys(item).length === 1
  const type = item['type'] ?? (isReference ? 'item_reference' : 'message')
  if (type !== 'item_reference') {
    const own =
      typeof id === 'string' && id !== ''
        ? id
        : newId((typeof type === 'string' ? PREFIXES[type] : undefined) ?? 'item')
    return { ...item, id: own, type }
  }
  const found = store.item(text(id, `${where}.id`))
  if (found !== undefined) return found
  throw invalidField(
    `${where}.id`,
    `${where}.id: there is no item ${show(id)} (any more); give the item itself`,
  )
}

/** An input as messages. Items of the model's own turn become one message. */
export function inputMessages(items: readonly InputItem[]): Message[] {
  const all: Message[] = []
  items.forEach((item, index) => {
    addItem(all, item, `input[${index}]`)
  })
  return all
}

/** Refuses results of calls that nobody has made, as the API does. */
export function checkResults(messages: readonly Message[]): void {
  const called = new Set(
    messages.flatMap(({ tool_calls: calls = [] }) => calls.map(({ id }) => id)),
  )
  const stray = messages.find(({ role, tool_call_id: id }) => role === 'tool' && !called.has(id))
  if (stray !== undefined)
    throw invalidField(
      'input',
      `input: there is no call ${show(stray.tool_call_id)} for its output`,
    )
}

function addItem(all: Message[], item: InputItem, where: string): void {
  const { type } = item
  switch (type) {
    case 'message':
      addMessage(all, item, where)
      break
    case 'function_call':
      turnOf(all).tool_calls = [...(turnOf(all).tool_calls ?? []), toCall(item, where)]
      break
    case 'function_call_output':
      all.push({
        role: 'tool',
        tool_call_id: text(item['call_id'], `${where}.call_id`),
        content: contentText(item['output'], `${where}.output`),
      })
      break
    case 'reasoning': {
      const thought = contentText(item['content'] ?? item['summary'] ?? '', `${where}.content`)
      if (thought !== '') turnOf(all)['reasoning_content'] = thought
      break
    }
    default:
      throw invalidField(`${where}.type`, `${where}.type: ${show(type)} is not known here`)
  }
}

function addMessage(all: Message[], item: Record<string, unknown>, where: string): void {
  const role = text(item['role'], `${where}.role`)
  const content = contentText(item['content'], `${where}.content`)
  const last = all.at(-1)
  // Reasoning comes before the message that it belongs to.
  if (role === 'assistant' && last?.role === 'assistant' && last.content === '')
    last.content = content
  else all.push({ role: role === 'developer' ? 'system' : role, content })
}

/** The model's turn that is being put together. */
function turnOf(all: Message[]): Message {
  const last = all.at(-1)
  if (last?.role === 'assistant') return last
  const turn: Message = { role: 'assistant', content: '' }
  all.push(turn)
  return turn
}

function toCall(item: Record<string, unknown>, where: string): ToolCall {
  return {
    id: text(item['call_id'], `${where}.call_id`),
    type: 'function',
    function: {
      name: text(item['name'], `${where}.name`),
      arguments: text(item['arguments'], `${where}.arguments`),
    },
  }
}

function text(value: unknown, where: string): string {
  return required(value === undefined || value === null ? undefined : string(value, where), where)
}

const TEXT_TYPES = new Set(['input_text', 'output_text', 'text', 'reasoning_text', 'summary_text'])

function contentText(content: unknown, where: string): string {
  if (typeof content === 'string') return content
  if (!Array.isArray(content))
    throw invalidField(
      where,
      `${where}: expected a text or an array of parts, got ${show(content)}`,
    )
  return content
    .map((part: unknown, index) => {
      const at = `${where}[${index}]`
      if (!isPlainObject(part)) throw invalidField(at, `${at}: expected a part, got ${show(part)}`)
      if (part['type'] === 'refusal') return text(part['refusal'], `${at}.refusal`)
      if (!TEXT_TYPES.has(String(part['type'])))
        throw invalidField(at, `${at}: the models here take text only, not ${show(part['type'])}`)
      return text(part['text'], `${at}.text`)
    })
    .join('')
}
