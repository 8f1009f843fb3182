import type { GenerateOptions, ToolDefinition } from '../../types.js'
import {
  boolean,
  integer,
  number,
  oneOf,
  show,
  string,
  type Check,
  type Checked,
} from '../../validate.js'
import { invalidField } from '../failure.js'
import { anything, only, readFields, record, records } from '../fields.js'
import { unknownField } from '../openai/api.js'
import { effort } from '../openai/effort.js'
import { JSON_OBJECT, schemaFormat } from '../openai/format.js'
import { nucleus } from '../../nucleus.js'
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
  truncation: oneOf('disabled', 'auto'),
  background: only([false], 'this server answers at once'),
  conversation: only([], 'this server keeps no conversations; use previous_response_id'),
  prompt: only([], 'this server keeps no prompts'),
  // It limits tools that the server calls itself, and there are none.
  max_tool_calls: integer(1, Number.MAX_SAFE_INTEGER),
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
    { format: record, verbosity: oneOf('low', 'medium', 'high') },
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
    topP: nucleus(fields.top_p),
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
  return kind === 'json_object' ? JSON_OBJECT : undefined
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
