import { invalidArgument } from './errors.js'
import { closed, isStandardSchema, jsonSchemaOf } from './response-format.js'
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
import {
  arrayOf,
  boolean,
  callback,
  closest,
  fields,
  integer,
  isPlainObject,
  nonEmptyString,
  oneOf,
  show,
  string,
  type Check,
} from './validate.js'

const FUNCTION_FIELDS = {
  name: toolNameOption,
  description: string,
  parameters: (value: unknown) => value,
  strict: boolean,
}

/** A tool's fields, where it is not in OpenAI's shape. */
const TOOL_FIELDS = {
  ...FUNCTION_FIELDS,
  type: oneOf('function'),
  execute: callback<NonNullable<Tool['execute']>>(),
}

/** The fields of a tool in OpenAI's shape. */
const OUTER_FIELDS = {
  type: oneOf('function'),
  function: (value: unknown) => value,
  execute: callback<NonNullable<Tool['execute']>>(),
}

/** What others call these. */
const SYNONYMS = {
  args: 'parameters',
  argsSchema: 'parameters',
  callback: 'execute',
  func: 'execute',
  handler: 'execute',
  inputSchema: 'parameters',
  params: 'parameters',
  run: 'execute',
  schema: 'parameters',
}

/** A tool in the shape that chat templates know, which is OpenAI's. */
export function toolDefinition(tool: unknown, where: string): ToolDefinition {
  const { own, given } = functionOf(tool, where)
  const name = toolNameOption(given['name'], `${own}.name`)
  return {
    type: 'function',
    function: { ...given, name, parameters: jsonSchema(given['parameters'], `${own}.parameters`) },
  }
}

/** What is said of a tool's function, checked, and where it is said. */
function functionOf(tool: unknown, where: string): { own: string; given: Record<string, unknown> } {
  if (!isPlainObject(tool) || !('function' in tool)) {
    const { name, description, parameters, strict } = fields(tool, where, TOOL_FIELDS, SYNONYMS)
    return {
      own: where,
      given: {
        name,
        ...(description === undefined ? {} : { description }),
        parameters,
        ...(strict === undefined ? {} : { strict }),
      },
    }
  }
  fields(tool, where, OUTER_FIELDS, SYNONYMS)
  const own = `${where}.function`
  const { function: said } = tool
  if (!isPlainObject(said)) throw invalidArgument(own, `expected an object, got ${show(said)}`)
  // Templates may read further fields, such as what a function returns.
  const known = Object.keys(FUNCTION_FIELDS)
  const meant = Object.entries(said).filter(
    ([name]) => known.includes(name) || closest(name, [...known, ...Object.keys(SYNONYMS)]),
  )
  fields(Object.fromEntries(meant), own, FUNCTION_FIELDS, SYNONYMS)
  const there = Object.entries(said).filter(([, value]) => value !== undefined)
  return { own, given: Object.fromEntries(there) }
}

/** A name that can be read where a model writes it, whatever the format of its calls is. */
function toolNameOption(value: unknown, option: string): string {
  const name = nonEmptyString(value, option)
  const bad = /[\p{Cc}\p{Zl}\p{Zp}"<>]/u.exec(name)?.[0]
  if (bad !== undefined)
    throw invalidArgument(
      option,
      `cannot be told from what stands around it in a call: it has the character ${JSON.stringify(bad)}`,
    )
  if (name.trim() !== name)
    throw invalidArgument(option, `begins or ends with white space: ${show(name)}`)
  return name
}

/** The name of a tool of either shape. */
export function toolName(tool: AnyTool): string {
  return 'function' in tool ? tool.function.name : tool.name
}

/** A tool's schema, as it was given. */
export function toolParameters(tool: AnyTool): unknown {
  return 'function' in tool ? tool.function.parameters : tool.parameters
}

/** The option `tools`. */
export const tools: Check<AnyTool[]> = (value, option) => {
  const checked = arrayOf((tool, where) => {
    toolDefinition(tool, where)
    return tool as AnyTool
  }, 'an array of tools')(value, option)
  const names = checked.map(toolName)
  names.forEach((name, index) => {
    const first = names.indexOf(name)
    if (first < index)
      throw invalidArgument(
        `${option}[${index}]`,
        `has the name of ${option}[${first}], ${show(name)}: calls could not be told apart`,
      )
  })
  return checked
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
  toolDefinition(given, 'tool')
  return given
}

/** The schema of a function that takes nothing. */
const NOTHING = { type: 'object', properties: {}, additionalProperties: false }

function jsonSchema(schema: unknown, where: string): Record<string, unknown> {
  if (schema === undefined) return NOTHING
  const written = isStandardSchema(schema) ? closed(jsonSchemaOf(schema, where)) : schema
  if (!isPlainObject(written))
    throw invalidArgument(
      where,
      `expected a JSON Schema or a schema of a library, got ${show(schema)}`,
    )
  const { type } = written
  const isObject = Array.isArray(type) ? type.includes('object') : type === 'object'
  if (type !== undefined && !isObject)
    throw invalidArgument(
      where,
      `expected a schema of an object, since arguments have names; got one of ${JSON.stringify(type)}`,
    )
  return written
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
  const { validateToolCalls: validates } = options
  if (parseToolCalls === false) {
    const needs = {
      toolFormat,
      parallelToolCalls: parallelToolCalls === false || undefined,
      validateToolCalls: validates,
    }
    for (const [name, value] of Object.entries(needs)) {
      if (value !== undefined)
        throw invalidArgument(name, 'has no effect with parseToolCalls: false')
    }
    if (choice === 'required' || typeof choice === 'object')
      throw invalidArgument('toolChoice', 'cannot be kept with parseToolCalls: false')
    const strict = tools?.findIndex((tool) => isStrict(tool)) ?? -1
    if (strict >= 0)
      throw invalidArgument(`tools[${strict}].strict`, 'cannot be kept with parseToolCalls: false')
  }
  if (tools === undefined || tools.length === 0) {
    const needs = { toolChoice: choice, parallelToolCalls, validateToolCalls: validates }
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
  const names = tools.map(toolName)
  if (typeof choice === 'object' && !names.includes(choice.name))
    throw invalidArgument('toolChoice.name', `${show(choice.name)} is none of the tools`)
  return options
}

/** Whether a tool's calls have to follow its schema. */
function isStrict(tool: AnyTool): boolean {
  return 'function' in tool ? tool.function.strict === true : tool.strict === true
}

/** The addon's form of the options for tools. */
export function nativeToolOptions(options: GenerateOptions): {
  requiredTools?: string[]
  parallelToolCalls?: boolean
} {
  const { tools = [], toolChoice: choice, parallelToolCalls } = options
  const names = tools.map(toolName)
  return {
    ...(parallelToolCalls === undefined ? {} : { parallelToolCalls }),
    ...(choice === 'required' ? { requiredTools: names } : {}),
    ...(typeof choice === 'object' ? { requiredTools: [choice.name] } : {}),
  }
}
