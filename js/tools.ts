import { invalidArgument } from './errors.js'
import { isStandardSchema, jsonSchemaOf } from './response-format.js'
import type {
  AnyTool,
  GenerateOptions,
  ReasoningOption,
  SchemaTool,
  StandardSchema,
  Tool,
  ToolChoice,
  ToolDefinition,
} from './types.js'
import { integer, isPlainObject, nonEmptyString, oneOf, show } from './validate.js'

/** A tool in the shape that chat templates know, which is OpenAI's. */
export function toolDefinition(tool: AnyTool, index: number): ToolDefinition {
  if ('function' in tool) return tool
  const where = `tools[${index}]`
  const { description, parameters } = tool
  const name = nonEmptyString(tool.name, `${where}.name`)
  return {
    type: 'function',
    function: {
      name,
      ...(description === undefined ? {} : { description }),
      parameters: jsonSchema(parameters, `${where}.parameters`),
    },
  }
}

/**
 * A tool, checked, whose function gets arguments of the type that the schema says: `tool({ name,
 * parameters: z.object({ city: z.string() }), execute: ({ city }) => … })`.
 */
export function tool<const Name extends string, Schema extends StandardSchema>(
  given: SchemaTool<Schema> & { name: Name },
): SchemaTool<Schema> & { name: Name }
export function tool<const Name extends string, Arguments = Record<string, unknown>>(
  given: Tool<Arguments> & { name: Name },
): Tool<Arguments> & { name: Name }
export function tool(given: Tool): Tool {
  toolDefinition(given, 0)
  return given
}

function jsonSchema(schema: unknown, where: string): Record<string, unknown> {
  if (schema === undefined) return { type: 'object', properties: {} }
  if (isStandardSchema(schema)) {
    const written = jsonSchemaOf(schema, where)
    if (isPlainObject(written)) return written
  }
  if (isPlainObject(schema)) return schema
  throw invalidArgument(
    where,
    `expected a JSON Schema or a schema of a library, got ${show(schema)}`,
  )
}

/** Checks the option `reasoning`. */
export function reasoningOption(value: unknown, option: string): ReasoningOption {
  if (typeof value === 'string') return oneOf('off', 'low', 'medium', 'high')(value, option)
  if (isPlainObject(value) && Object.keys(value).join() === 'budgetTokens') {
    const budget = integer(0, 2 ** 31 - 1)(value['budgetTokens'], `${option}.budgetTokens`)
    return { budgetTokens: budget }
  }
  throw invalidArgument(
    option,
    `expected 'off', 'low', 'medium', 'high' or { budgetTokens: 1000 }, got ${show(value)}`,
  )
}

/** Checks the option `toolChoice`. */
export function toolChoice(value: unknown, option: string): ToolChoice {
  if (value === 'auto' || value === 'none' || value === 'required') return value
  if (isPlainObject(value) && Object.keys(value).join() === 'name')
    return { name: nonEmptyString(value['name'], `${option}.name`) }
  throw invalidArgument(
    option,
    `expected 'auto', 'none', 'required' or { name: 'the_tool' }, got ${show(value)}`,
  )
}

/**
 * Checks what the options for tools say together, and leaves the tools out where the model must not
 * call them.
 */
export function checkToolOptions(options: GenerateOptions): GenerateOptions {
  const { tools, toolChoice: choice, parallelToolCalls, parseToolCalls, toolFormat } = options
  if (parseToolCalls === false) {
    const needs = { toolFormat, parallelToolCalls: parallelToolCalls === false || undefined }
    for (const [name, value] of Object.entries(needs)) {
      if (value !== undefined)
        throw invalidArgument(name, 'has no effect with parseToolCalls: false')
    }
    if (choice === 'required' || typeof choice === 'object')
      throw invalidArgument('toolChoice', 'cannot be kept with parseToolCalls: false')
  }
  if (tools === undefined || tools.length === 0) {
    const needs = { toolChoice: choice, parallelToolCalls }
    for (const [name, value] of Object.entries(needs)) {
      if (value !== undefined && value !== 'none' && value !== 'auto' && value !== true)
        throw invalidArgument(name, 'has no effect without tools')
    }
    return options
  }
  if (choice === 'none') {
    const others = { ...options }
    delete others.tools
    return others
  }
  const names = tools.map((tool, index) => toolDefinition(tool, index).function.name)
  if (typeof choice === 'object' && !names.includes(choice.name))
    throw invalidArgument('toolChoice.name', `${show(choice.name)} is none of the tools`)
  return options
}

/** The addon's form of the options for tools. */
export function nativeToolOptions(options: GenerateOptions): {
  requiredTools?: string[]
  parallelToolCalls?: boolean
} {
  const { tools = [], toolChoice: choice, parallelToolCalls } = options
  const names = tools.map((tool, index) => toolDefinition(tool, index).function.name)
  return {
    ...(parallelToolCalls === undefined ? {} : { parallelToolCalls }),
    ...(choice === 'required' ? { requiredTools: names } : {}),
    ...(typeof choice === 'object' ? { requiredTools: [choice.name] } : {}),
  }
}
