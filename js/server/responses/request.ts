import type { GenerateOptions, Message, ToolCall, ToolDefinition } from '../../types.js'
import {
  boolean,
  integer,
  isPlainObject,
  number,
  oneOf,
  show,
  string,
  type Check,
  type Checked,
} from '../../validate.js'
import { invalidField } from '../failure.js'
import { anything, only, readFields, record, records, required } from '../fields.js'
import { unknownField } from '../openai/api.js'
import { effort } from '../openai/effort.js'
import { schemaFormat } from '../openai/format.js'
import { functionTool, toolChoice, toolOptions } from '../openai/tools.js'

export const RESPONSE_FIELDS = {
  model: string,
  input: anything,
  instructions: string,
  max_output_tokens: number,
  temperature: number,
  top_p: number,
  top_logprobs: integer(0, 20),
  tools: records,
  tool_choice: toolChoice,
  parallel_tool_calls: boolean,
  text: record,
  reasoning: record,
  stream: boolean,
  stream_options: record,
  include: anything,
  store: boolean,
  previous_response_id: string,
  truncation: only(['disabled'], 'a conversation that is too long is refused'),
  background: only([false], 'this server answers at once'),
  conversation: only([], 'this server keeps no conversations; use previous_response_id'),
  prompt: only([], 'this server keeps no prompts'),
  max_tool_calls: only([], 'this server calls no tools'),
  // They change nothing here.
  metadata: record,
  user: anything,
  service_tier: anything,
  safety_identifier: anything,
  prompt_cache_key: anything,
  prompt_cache_retention: anything,
} satisfies Record<string, Check<unknown>>

export type ResponseFields = Checked<typeof RESPONSE_FIELDS>

/** The options of `generate` that a request asks for, but for its prompt and its tokens. */
export function responseOptions(fields: ResponseFields): GenerateOptions {
  const { text = {}, reasoning = {}, tools = [] } = fields
  const { format } = readFields(
    text,
    'text',
    { format: record, verbosity: only(['medium'], 'the models here know no verbosity') },
    unknownField,
  )
  const thinking = readFields(
    reasoning,
    'reasoning',
    {
      effort: oneOf('none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'),
      summary: anything,
      generate_summary: anything,
      context: anything,
    },
    unknownField,
  )
  return {
    temperature: fields.temperature,
    topP: fields.top_p,
    logprobs: fields.top_logprobs ?? (includesLogprobs(fields.include) ? 0 : undefined),
    reasoning: effort(thinking.effort),
    responseFormat: textFormat(format),
    ...toolOptions({
      tools: tools.map((tool, index) => responseTool(tool, `tools[${index}]`)),
      ...(fields.tool_choice === undefined ? {} : { tool_choice: fields.tool_choice }),
      ...(fields.parallel_tool_calls === undefined
        ? {}
        : { parallel_tool_calls: fields.parallel_tool_calls }),
    }),
    splitSpecialTokens: true,
  }
}

export function includesLogprobs(include: unknown): boolean {
  return Array.isArray(include) && include.includes('message.output_text.logprobs')
}

function textFormat(
  format: Record<string, unknown> | undefined,
): GenerateOptions['responseFormat'] {
  if (format === undefined) return undefined
  const { type, ...rest } = format
  const kind = oneOf('text', 'json_object', 'json_schema')(type, 'text.format.type')
  if (kind === 'json_schema') return schemaFormat(rest, 'text.format')
  return kind === 'json_object' ? { type: 'json' } : undefined
}

function responseTool(tool: Record<string, unknown>, where: string): ToolDefinition {
  const { type, ...rest } = tool
  if (type !== 'function') {
    throw invalidField(
      `${where}.type`,
      `${where}.type: this server has no tools of its own, only functions; got ${show(type)}`,
    )
  }
  return functionTool(rest, where)
}

/** An input as messages. Items of the model's own turn become one message. */
export function inputMessages(input: unknown): Message[] {
  if (typeof input === 'string') return [{ role: 'user', content: input }]
  if (!Array.isArray(input) || input.length === 0)
    throw invalidField('input', `input: expected a text or an array of items, got ${show(input)}`)
  const all: Message[] = []
  input.forEach((item: unknown, index) => {
    addItem(all, item, `input[${index}]`)
  })
  return all
}

function addItem(all: Message[], item: unknown, where: string): void {
  if (!isPlainObject(item))
    throw invalidField(where, `${where}: expected an item, got ${show(item)}`)
  const { type = 'message' } = item
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
