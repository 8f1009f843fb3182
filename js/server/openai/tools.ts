import { invalidField } from '../failure.js'
import { readFields, record, records, required } from '../fields.js'
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

/** What may be called: as `generate` has it, or some of the tools. */
export type ToolChoice =
  NonNullable<GenerateOptions['toolChoice']> | { mode: 'auto' | 'required'; allowed: string[] }

/** `auto`, `none`, `required`, the name of a function, or some of them. */
export const toolChoice: Check<ToolChoice> = (value, path) => {
  if (value === 'auto' || value === 'none' || value === 'required') return value
  if (isPlainObject(value) && value['type'] === 'function') {
    const inner: unknown = value['function']
    const name = isPlainObject(inner) ? inner['name'] : value['name']
    if (typeof name === 'string') return { name }
  }
  if (isPlainObject(value) && value['type'] === 'allowed_tools') {
    const inner = value['allowed_tools']
    return allowedTools(isPlainObject(inner) ? inner : value, path)
  }
  throw invalidField(
    path,
    `${path}: expected 'auto', 'none', 'required' or { type: 'function', function: { name } }, got ${show(value)}`,
  )
}

function allowedTools({ mode, tools }: Record<string, unknown>, path: string): ToolChoice {
  const allowed = records(tools, `${path}.tools`).map(({ name, function: inner }, index) =>
    string(isPlainObject(inner) ? inner['name'] : name, `${path}.tools[${index}].name`),
  )
  return { mode: oneOf('auto', 'required')(mode, `${path}.mode`), allowed }
}

/** What of tools goes to the model. */
export function toolOptions(fields: {
  tools?: ToolDefinition[]
  tool_choice?: ToolChoice
  parallel_tool_calls?: boolean
}): GenerateOptions {
  const { tools: all = [], tool_choice: chosen, parallel_tool_calls: parallel } = fields
  const isSome = typeof chosen === 'object' && 'allowed' in chosen
  const given = isSome ? chosen.allowed.map((name) => toolOf(all, name)) : all
  const choice = isSome ? chosen.mode : chosen
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

function toolOf(tools: readonly ToolDefinition[], name: string): ToolDefinition {
  const found = tools.find((tool) => tool.function.name === name)
  if (found !== undefined) return found
  throw invalidField('tool_choice', `tool_choice: there is no tool ${show(name)}`)
}

/** Calls of an answer. */
export function madeCalls(calls: readonly GeneratedToolCall[]): object[] {
  return calls.map(({ id, name, arguments: args }) => ({
    id,
    type: 'function',
    function: { name, arguments: JSON.stringify(args) },
  }))
}
