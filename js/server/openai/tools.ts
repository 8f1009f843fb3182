import { invalidField } from '../failure.js'
import { readFields, record, required } from '../fields.js'
import { boolean, isPlainObject, oneOf, show, string, type Check } from '../../validate.js'
import type { GenerateOptions, GeneratedToolCall, ToolDefinition } from '../../types.js'
import { unknownField } from './api.js'

const FUNCTION_FIELDS = { name: string, description: string, parameters: record, strict: boolean }

/** The tools of a chat. */
export const tools: Check<ToolDefinition[]> = (value, path) => {
  if (!Array.isArray(value)) throw invalidField(path, `${path}: expected an array of tools`)
  return value.map((tool: unknown, index) => chatTool(tool, `${path}[${index}]`))
}

function chatTool(tool: unknown, where: string): ToolDefinition {
  const fields = readFields(
    tool,
    where,
    { type: oneOf('function'), function: record },
    unknownField,
  )
  return functionTool(required(fields.function, `${where}.function`), `${where}.function`)
}

/** A tool from the fields of its function. */
export function functionTool(value: Record<string, unknown>, where: string): ToolDefinition {
  const { name, ...rest } = readFields(value, where, FUNCTION_FIELDS, unknownField)
  return { type: 'function', function: { name: required(name, `${where}.name`), ...rest } }
}

/** `auto`, `none`, `required`, or the name of a function. */
export const toolChoice: Check<NonNullable<GenerateOptions['toolChoice']>> = (value, path) => {
  if (value === 'auto' || value === 'none' || value === 'required') return value
  if (isPlainObject(value) && value['type'] === 'function') {
    const inner: unknown = value['function']
    const name = isPlainObject(inner) ? inner['name'] : value['name']
    if (typeof name === 'string') return { name }
  }
  throw invalidField(
    path,
    `${path}: expected 'auto', 'none', 'required' or { type: 'function', function: { name } }, got ${show(value)}`,
  )
}

/** What of tools goes to the model. */
export function toolOptions(fields: {
  tools?: ToolDefinition[]
  tool_choice?: NonNullable<GenerateOptions['toolChoice']>
  parallel_tool_calls?: boolean
}): GenerateOptions {
  const { tools: given = [], tool_choice: choice, parallel_tool_calls: parallel } = fields
  if (given.length === 0) {
    if (choice === undefined || choice === 'none' || choice === 'auto') return {}
    throw invalidField('tool_choice', 'tool_choice: only goes with tools, and there are none')
  }
  return {
    tools: given,
    // Clients get calls as the model made them.
    validateToolCalls: false,
    // What is so without being asked for is not asked for.
    ...(choice === undefined || choice === 'auto' ? {} : { toolChoice: choice }),
    ...(parallel === undefined ? {} : { parallelToolCalls: parallel }),
  }
}

/** Calls of an answer. */
export function madeCalls(calls: readonly GeneratedToolCall[]): object[] {
  return calls.map(({ id, name, arguments: args }) => ({
    id,
    type: 'function',
    function: { name, arguments: JSON.stringify(args) },
  }))
}
