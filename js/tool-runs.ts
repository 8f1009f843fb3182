import { parsedArguments } from './checked-source.js'
import { invalidArgument, messageOf } from './errors.js'
import { UserError } from './generation.js'
import { unlessAborted } from './signal.js'
import { toolName } from './tools.js'
import type { AnyTool, ChatOptions, GeneratedToolCall, Message, ToolContext } from './types.js'
import { show } from './validate.js'

/** What calls are answered with. */
export interface ToolRuns {
  tools: readonly AnyTool[]
  onToolCall: ChatOptions['onToolCall']
  /** Nobody waits for a tool any longer once this is aborted. */
  signal: AbortSignal
}

/** What a call is answered with as long as nothing has come back. */
export function unanswered({ id, name }: GeneratedToolCall): Message {
  return { role: 'tool', tool_call_id: id, name, content: ABORTED_CALL }
}

const ABORTED_CALL = 'Error: the call was aborted'

/** Calls the tools, all at the same time, and puts what comes back into each call's result. */
export async function runTools(
  calls: readonly GeneratedToolCall[],
  results: readonly Message[],
  runs: ToolRuns,
): Promise<void> {
  const run = async (call: GeneratedToolCall, index: number): Promise<void> => {
    const content = await toolResult(call, runs)
    Object.assign(results[index] ?? {}, { content })
  }
  await Promise.all(calls.map(run))
}

/** What the model is told of a call: what goes wrong as well, so that it can do better. */
async function toolResult(call: GeneratedToolCall, runs: ToolRuns): Promise<string> {
  const { tools, onToolCall, signal } = runs
  try {
    const refused = onToolCall && (await verdict(onToolCall, call, signal))
    if (refused !== undefined) return `Error: ${refused}`
    const tool = tools.find((it) => toolName(it) === call.name)
    const parsed = tool && (await waited(() => parsedArguments(tool, call.arguments), signal))
    if (tool?.execute === undefined || parsed === undefined)
      return `Error: there is no tool ${show(call.name)}; there are ${tools.map(toolName).join(', ')}`
    if ('problem' in parsed) return `Error: the arguments are invalid: ${parsed.problem}`
    const execute = tool.execute as (args: unknown, context: ToolContext) => unknown
    // What they do to the arguments does not change what the model has said.
    const args = structuredClone(parsed.value)
    const context = { ...structuredClone(call), signal }
    return resultText(await waited(() => execute(args, context), signal))
  } catch (error) {
    if (error instanceof UserError) throw error
    if (signal.aborted) return ABORTED_CALL
    return `Error: ${wellFormed(messageOf(error))}`
  }
}

/** Why a call is refused; `undefined` where it is not. */
async function verdict(
  onToolCall: NonNullable<ChatOptions['onToolCall']>,
  call: GeneratedToolCall,
  signal: AbortSignal,
): Promise<string | undefined> {
  let said: unknown
  try {
    said = await waited(() => onToolCall(structuredClone(call), { signal }), signal)
  } catch (error) {
    if (signal.aborted) throw error
    // The hook is the caller's own code, not the tool's.
    throw new UserError(error)
  }
  if (said === undefined || said === true) return undefined
  if (said === false) return 'the user has refused this call'
  if (typeof said === 'string') return wellFormed(said)
  throw new UserError(
    invalidArgument(
      'onToolCall',
      `is to return true, false, a reason or nothing, got ${show(said)}`,
    ),
  )
}

/** What a function gives, unless the signal comes first. */
function waited<T>(run: () => T | Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const running = Promise.resolve().then(run)
  // Where nobody waits any longer, its errors are nobody's.
  running.catch(() => undefined)
  return unlessAborted(running, signal)
}

/**
 * A string as it is, an error as one that is thrown, everything else as JSON: what has no JSON,
 * such as a function, is nothing.
 */
function resultText(value: unknown): string {
  if (value instanceof Error) return `Error: ${wellFormed(messageOf(value))}`
  const text =
    typeof value === 'string' ? value : (JSON.stringify(value, plain) as string | undefined)
  return wellFormed(text ?? 'null')
}

/** What JSON would write as `{}`, in a form that says what is in it. */
function plain(_: string, value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries(value as Map<string, unknown>)
  if (value instanceof Set) return [...(value as Set<unknown>)]
  return value instanceof Error ? messageOf(value) : value
}

/** Halves of characters would have no UTF-8 form. */
function wellFormed(text: string): string {
  return text.replaceAll(/\p{Surrogate}/gu, '\u{fffd}')
}
