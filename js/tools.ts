import { invalidArgument, NodeMlxError } from './errors.js'
import type { GenerateOptions, ToolChoice } from './types.js'
import { isPlainObject, nonEmptyString, show } from './validate.js'

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
  if (toolFormat !== undefined && parseToolCalls === false)
    throw invalidArgument('toolFormat', 'has no effect with parseToolCalls: false')
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
  if (typeof choice === 'object' && !tools.some((tool) => tool.function.name === choice.name))
    throw invalidArgument('toolChoice.name', `${show(choice.name)} is none of the tools`)
  if (choice === 'required' || typeof choice === 'object')
    throw unsupported('toolChoice', `${show(choice)} cannot be enforced`)
  if (parallelToolCalls === false)
    throw unsupported('parallelToolCalls', 'a single call cannot be enforced')
  return options
}

function unsupported(option: string, problem: string): NodeMlxError {
  return new NodeMlxError('UNSUPPORTED', `${option}: ${problem}`, { option })
}
