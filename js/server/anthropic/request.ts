import {
  arrayOf,
  boolean,
  number,
  oneOf,
  string,
  type Check,
  type Checked,
} from '../../validate.js'
import type { GenerateOptions, Message, ToolDefinition } from '../../types.js'
import { Failure, invalidField } from '../failure.js'
import { anything, only, readFields, record, records, required } from '../fields.js'
import { unknownField } from './api.js'
import { conversation, isPrefilled } from './conversation.js'

/** What a count of tokens takes, too. */
const PROMPT_FIELDS = {
  model: string,
  messages: anything,
  system: anything,
  tools: records,
  tool_choice: record,
  thinking: record,
  output_config: record,
  output_format: record,
  cache_control: anything,
  mcp_servers: only([[]], 'this server calls no tools of others'),
  context_management: keepsAll,
  thread: noThread,
}

/** Edits that leave the conversation as it is, which is all that this server does. */
function keepsAll(value: unknown, path: string): unknown {
  const { edits } = readFields(value, path, { edits: records }, unknownField)
  for (const [index, edit] of (edits ?? []).entries()) {
    const { type, keep } = edit
    if (typeof type !== 'string' || !type.startsWith('clear_thinking_') || keep !== 'all')
      throw invalidField(path, `${path}.edits.${index}: this server edits no conversations`)
  }
  return value
}

/** Clients that can send the whole conversation do so when they are told this. */
function noThread(value: unknown, path: string): never {
  throw new Failure('invalid', `${path}: this server keeps no conversations; send all messages`, {
    param: path,
    details: { error_code: 'thread_unsupported_request', unsupported: [path] },
  })
}

export const COUNT_FIELDS = PROMPT_FIELDS satisfies Record<string, Check<unknown>>

export const MESSAGE_FIELDS = {
  ...PROMPT_FIELDS,
  max_tokens: number,
  stop_sequences: arrayOf(string, 'an array of texts'),
  stream: boolean,
  temperature: number,
  top_p: number,
  top_k: number,
  // They change nothing here.
  metadata: anything,
  service_tier: anything,
  inference_geo: anything,
  speed: only(['standard'], 'this server has one speed'),
  container: only([], 'this server runs no code'),
} satisfies Record<string, Check<unknown>>

export type MessageFields = Checked<typeof MESSAGE_FIELDS>

/** A conversation, and the options that its template gets. */
export interface Asked {
  messages: Message[]
  options: GenerateOptions
}

/** What the fields of a prompt ask for. */
export function asked(fields: Checked<typeof COUNT_FIELDS>): Asked {
  const messages = conversation(fields.system, required(fields.messages, 'messages'))
  return {
    messages,
    options: {
      ...toolOptions(fields.tools ?? [], fields.tool_choice),
      splitSpecialTokens: true,
      ...(isPrefilled(messages) ? { continueFinalMessage: true } : {}),
    },
  }
}

/** What a request asks of the model besides its prompt. */
export function thinkingOptions(fields: MessageFields): GenerateOptions {
  const { effort, format } = readFields(
    fields.output_config ?? {},
    'output_config',
    { effort: oneOf('low', 'medium', 'high', 'xhigh', 'max'), format: record },
    unknownField,
  )
  return {
    reasoning: reasoning(fields.thinking, effort),
    responseFormat: outputFormat(format ?? fields.output_format),
  }
}

function reasoning(
  thinking: Record<string, unknown> | undefined,
  effort: 'low' | 'medium' | 'high' | 'xhigh' | 'max' | undefined,
): GenerateOptions['reasoning'] {
  const asked = effort === 'xhigh' || effort === 'max' ? 'high' : effort
  if (thinking === undefined) return asked
  const { type, budget_tokens: budget } = readFields(
    thinking,
    'thinking',
    {
      type: oneOf('enabled', 'disabled', 'adaptive'),
      budget_tokens: number,
      display: anything,
    },
    unknownField,
  )
  switch (required(type, 'thinking.type')) {
    case 'disabled':
      return 'off'
    case 'adaptive':
      return asked
    case 'enabled':
      return { budgetTokens: required(budget, 'thinking.budget_tokens') }
  }
}

function outputFormat(
  format: Record<string, unknown> | undefined,
): GenerateOptions['responseFormat'] {
  if (format === undefined) return undefined
  const { schema } = readFields(
    format,
    'output_config.format',
    { type: oneOf('json_schema'), schema: record },
    unknownField,
  )
  return { type: 'json', schema: required(schema, 'output_config.format.schema'), strict: true }
}

const TOOL_FIELDS = {
  name: string,
  description: string,
  input_schema: record,
  type: only(['custom'], 'this server has no tools of its own; describe them with input_schema'),
  strict: boolean,
  cache_control: anything,
  input_examples: anything,
  eager_input_streaming: anything,
  allowed_callers: anything,
  defer_loading: only([false], 'this server finds no tools'),
}

function tool(value: Record<string, unknown>, where: string): ToolDefinition {
  const fields = readFields(value, where, TOOL_FIELDS, unknownField)
  const { description, input_schema: parameters, strict } = fields
  return {
    type: 'function',
    function: {
      name: required(fields.name, `${where}.name`),
      ...(description === undefined ? {} : { description }),
      ...(parameters === undefined ? {} : { parameters }),
      ...(strict === undefined ? {} : { strict }),
    },
  }
}

function toolOptions(
  tools: readonly Record<string, unknown>[],
  choice: Record<string, unknown> | undefined,
): GenerateOptions {
  if (tools.length === 0) {
    if (choice === undefined || choice['type'] === 'auto' || choice['type'] === 'none') return {}
    throw invalidField('tool_choice', 'tool_choice: only goes with tools, and there are none')
  }
  const given = tools.map((value, index) => tool(value, `tools.${index}`))
  // Clients get calls as the model made them.
  const offered = { tools: given, validateToolCalls: false }
  if (choice === undefined) return offered
  const fields = readFields(
    choice,
    'tool_choice',
    {
      type: oneOf('auto', 'any', 'tool', 'none'),
      name: string,
      disable_parallel_tool_use: boolean,
    },
    unknownField,
  )
  const parallel = fields.disable_parallel_tool_use
  return {
    ...offered,
    ...toolChoice(required(fields.type, 'tool_choice.type'), fields.name),
    ...(parallel === undefined ? {} : { parallelToolCalls: !parallel }),
  }
}

function toolChoice(
  type: 'auto' | 'any' | 'tool' | 'none',
  name: string | undefined,
): Pick<GenerateOptions, 'toolChoice'> {
  switch (type) {
    case 'auto':
      return {}
    case 'any':
      return { toolChoice: 'required' }
    case 'none':
      return { toolChoice: 'none' }
    case 'tool':
      return { toolChoice: { name: required(name, 'tool_choice.name') } }
  }
}
