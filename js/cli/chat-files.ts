import { readFile, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { invalidArgument, messageOf, NodeMlxError } from '../errors.js'
import { generateOptions } from '../options.js'
import { messagesJson } from '../prompt.js'
import type { AnyTool, ChatJson, Message, Tool } from '../types.js'
import { isPlainObject } from '../validate.js'
import { expandHome } from './completion.js'
import { replaceFile } from './history.js'
import { describe } from './output.js'

/** A conversation in a file, and the model that it was had with. */
export interface SavedChat extends ChatJson {
  model?: string
}

/** Keeps a conversation, for the user's own eyes only; a file that is there is replaced. */
export function saveChat(file: string, chat: SavedChat): void {
  try {
    replaceFile(expandHome(file), `${JSON.stringify(chat, null, 2)}\n`)
  } catch (error) {
    throw fileProblem(file, 'cannot be written', error)
  }
}

/** A conversation that was kept, or the messages of one that another program has written. */
export async function readChat(file: string): Promise<SavedChat> {
  const text = await readFile(expandHome(file), 'utf8').catch((error: unknown) => {
    throw fileProblem(file, 'cannot be read', error)
  })
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw invalidArgument(file, `is not JSON: ${messageOf(error)}`)
  }
  const { model, system, messages } = isPlainObject(value)
    ? value
    : { model: undefined, system: undefined, messages: value }
  // Throws where they are none.
  messagesJson(messages, `messages of ${file}`)
  return {
    ...(typeof model === 'string' ? { model } : {}),
    ...(typeof system === 'string' ? { system } : {}),
    messages: messages as Message[],
  }
}

/** The tools that a module exports as `tools` or by default. */
export async function readTools(file: string): Promise<AnyTool[]> {
  const path = resolve(expandHome(file))
  let exported: { tools?: unknown; default?: unknown }
  try {
    // A module that was changed is read again.
    const { mtimeMs } = await stat(path)
    exported = (await import(`${pathToFileURL(path).href}?${mtimeMs}`)) as typeof exported
  } catch (error) {
    throw fileProblem(file, 'cannot be loaded', error)
  }
  const tools = exported.tools ?? exported.default
  if (!Array.isArray(tools) || tools.length === 0)
    throw invalidArgument(file, 'exports no array of tools, as `tools` or by default')
  tools.forEach((tool: Partial<Tool> | null, index) => {
    if (typeof tool?.execute !== 'function')
      throw invalidArgument(file, `tools[${index}] has no function execute`)
  })
  return generateOptions({ tools }).tools as AnyTool[]
}

function fileProblem(file: string, what: string, cause: unknown): NodeMlxError {
  const why = cause instanceof Error ? describe(cause) : messageOf(cause)
  return new NodeMlxError('INVALID_ARGUMENT', `${file} ${what}: ${why}`, { option: file, cause })
}
