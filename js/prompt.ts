import { invalidArgument, optionError } from './errors.js'
import { toJson } from './json.js'
import { toolDefinition } from './tools.js'
import type { NativeContinuation, NativePrompt } from './native.js'
import { templateOptions } from './options.js'
import type { ChatTemplateOptions, ModelInfo, PromptOptions, TokenizeOptions } from './types.js'
import { boolean, closest, isPlainObject, nonEmptyString, show, string } from './validate.js'

const ROLES = ['system', 'developer', 'user', 'assistant', 'tool']

/**
 * What templates call them, too, in small letters; what differs by a letter otherwise is a slip.
 */
const TEMPLATE_ROLES = [...ROLES, 'tools', 'tool_call', 'tool_result', 'tool_response', 'users']

/** The types of parts that hold an image, a sound, a video or a file. */
const MEDIA = /^(input_)?(image|audio|video|file|document)(_url|_file)?$/

const PROMPT_SHAPES = 'a string, an array of messages, { text } or { tokens }'

/** A checked prompt that does not depend on a model yet. */
export type CheckedPrompt =
  | { kind: 'string'; text: string }
  | { kind: 'text'; text: string; addSpecialTokens?: boolean | undefined }
  | { kind: 'tokens'; tokens: ArrayLike<number> }
  | { kind: 'messages'; json: string }

/** Checks a prompt's shape; {@link nativePrompt} does what needs the model. */
export function checkPrompt(prompt: unknown, options: PromptOptions): CheckedPrompt {
  const checked = shape(prompt)
  checkOptions(checked, options)
  return checked
}

function checkOptions(checked: CheckedPrompt, options: PromptOptions): void {
  const template = templateOptions(options)
  if (template !== undefined && (checked.kind === 'text' || checked.kind === 'tokens')) {
    throw invalidArgument(
      first(template),
      `has no effect on a { ${checked.kind} } prompt, which does not go through the chat template`,
    )
  }
  if (options.splitSpecialTokens === true && checked.kind === 'tokens')
    throw invalidArgument('splitSpecialTokens', 'has no effect on a { tokens } prompt')
}

/** Checks a prompt to tokenize, in which a string is a text. */
export function checkText(
  prompt: unknown,
  { addSpecialTokens, ...options }: TokenizeOptions,
): CheckedPrompt {
  const checked: CheckedPrompt =
    typeof prompt === 'string' ? { kind: 'text', text: string(prompt, 'prompt') } : shape(prompt)
  checkOptions(checked, options)
  if (addSpecialTokens === undefined) return checked
  if (checked.kind === 'text' && checked.addSpecialTokens === undefined)
    return { ...checked, addSpecialTokens }
  throw invalidArgument(
    'addSpecialTokens',
    checked.kind === 'text'
      ? 'is also said in the prompt'
      : `has no effect on ${checked.kind}: only a text gets special tokens`,
  )
}

function shape(prompt: unknown): CheckedPrompt {
  if (typeof prompt === 'string') return { kind: 'string', text: nonEmptyString(prompt, 'prompt') }
  if (Array.isArray(prompt)) return { kind: 'messages', json: messagesJson(prompt, 'prompt') }
  if (!isPlainObject(prompt))
    throw invalidArgument('prompt', `expected ${PROMPT_SHAPES}, got ${show(prompt)}`)
  if ('role' in prompt) throw invalidArgument('prompt', 'is a single message; put it in an array')
  if ('messages' in prompt)
    throw invalidArgument('prompt', 'give the array of messages itself, without { messages }')
  const names = Object.keys(prompt)
  if ('text' in prompt && names.every((name) => name === 'text' || name === 'addSpecialTokens')) {
    const text = nonEmptyString(prompt['text'], 'prompt.text')
    const add = prompt['addSpecialTokens']
    if (add === undefined) return { kind: 'text', text }
    return { kind: 'text', text, addSpecialTokens: boolean(add, 'prompt.addSpecialTokens') }
  }
  if (names.length !== 1 || names[0] !== 'tokens') {
    throw invalidArgument(
      'prompt',
      `expected ${PROMPT_SHAPES}, got an object with ${names.length === 0 ? 'nothing in it' : names.join(', ')}`,
    )
  }
  const tokens = tokenList(prompt['tokens'], 'prompt.tokens')
  if (tokens.length === 0) throw invalidArgument('prompt.tokens', 'is empty')
  return { kind: 'tokens', tokens }
}

/** The addon's form of a prompt for a certain model. */
export function nativePrompt(
  prompt: CheckedPrompt,
  info: ModelInfo,
  options: PromptOptions,
): NativePrompt {
  const { splitSpecialTokens } = options
  const native = withTemplate(prompt, info, templateOptions(options))
  return splitSpecialTokens === undefined ? native : { ...native, splitSpecialTokens }
}

function withTemplate(
  prompt: CheckedPrompt,
  info: ModelInfo,
  options: ChatTemplateOptions | undefined,
): NativePrompt {
  switch (prompt.kind) {
    case 'text': {
      const { text, addSpecialTokens } = prompt
      return addSpecialTokens === undefined ? { text } : { text, addSpecialTokens }
    }
    case 'tokens':
      return { tokens: tokenArray(prompt.tokens, 'prompt.tokens', info.vocabularySize) }
    case 'messages':
      return {
        messagesJson: prompt.json,
        templateOptionsJson: templateJson(options),
      }
    case 'string':
      // A template can also be given with the request.
      if (info.hasChatTemplate || options?.chatTemplate !== undefined) {
        return {
          messagesJson: JSON.stringify([{ role: 'user', content: prompt.text }]),
          templateOptionsJson: templateJson(options),
        }
      }
      if (options !== undefined) {
        throw optionError(
          'NO_CHAT_TEMPLATE',
          first(options),
          'this model has no chat template, so a string prompt is continued as it is',
        )
      }
      return { text: prompt.text }
  }
}

/** The name of an option that was given. */
function first(options: ChatTemplateOptions): string {
  return Object.keys(options)[0] ?? 'options'
}

/** The chat template's options as JSON. */
export function templateJson(options: ChatTemplateOptions = {}): string {
  const { addGenerationPrompt, continueFinalMessage = false, now } = options
  const fields = {
    ...jsonField(
      'tools',
      options.tools?.map((tool, index) => toolDefinition(tool, `tools[${index}]`)),
    ),
    ...jsonField('reasoning', options.reasoning),
    ...jsonField('documents', options.documents),
    ...jsonField('templateVariables', options.templateVariables, 'variables'),
    ...jsonField('chatTemplate', options.chatTemplate, 'template'),
    ...jsonField('continueField', options.continueField),
    ...jsonField('now', now === undefined ? undefined : localTime(new Date(now))),
    addGenerationPrompt: addGenerationPrompt ?? !continueFinalMessage,
    continueFinalMessage,
  }
  return `{${Object.entries(fields)
    .map(([name, json]) => `${JSON.stringify(name)}:${String(json)}`)
    .join(',')}}`
}

/** An option's value as JSON, under the name that the addon has for it. */
function jsonField(option: string, value: unknown, name = option): Record<string, string> {
  return value === undefined ? {} : { [name]: toJson(value, option) }
}

/** A time of this machine's time zone, such as 2025-12-31T23:59:58. */
function localTime(time: Date): string {
  const two = (part: number) => String(part).padStart(2, '0')
  const date = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())]
  const clock = [two(time.getHours()), two(time.getMinutes()), two(time.getSeconds())]
  return `${date.join('-')}T${clock.join(':')}`
}

/** A conversation as JSON, every message checked. */
export function messagesJson(messages: unknown, where: string): string {
  if (!Array.isArray(messages))
    throw invalidArgument(where, `expected an array of messages, got ${show(messages)}`)
  if (messages.length === 0) throw invalidArgument(where, 'is empty; give at least one message')
  Array.from(messages, (message: unknown, index) => {
    checkMessage(message, `${where}[${index}]`)
  })
  return toJson(messages, where)
}

function checkMessage(message: unknown, where: string): void {
  if (!isPlainObject(message))
    throw invalidArgument(
      where,
      `expected a message such as { role: 'user', content: 'Hello' }, got ${show(message)}`,
    )
  const role = message['role']
  if (typeof role !== 'string' || role === '') {
    const near =
      'role' in message
        ? undefined
        : Object.keys(message).find((key) => closest(key, ['role']) !== undefined)
    throw invalidArgument(
      `${where}.role`,
      `expected a string such as ${ROLES.map((name) => `'${name}'`).join(', ')}, got ${show(role)}${near === undefined ? '' : `; did you mean role where ${near} is?`}`,
    )
  }
  const near = TEMPLATE_ROLES.includes(role.toLowerCase()) ? undefined : closest(role, ROLES)
  if (near !== undefined)
    throw invalidArgument(`${where}.role`, `${show(role)} is not a role; did you mean '${near}'?`)
  checkContent(message, role, `${where}.content`)
  const calls = message['tool_calls']
  if (calls !== undefined && calls !== null && !Array.isArray(calls))
    throw invalidArgument(`${where}.tool_calls`, `expected an array, got ${show(calls)}`)
  for (const name of ['toolCalls', 'toolCallId'] as const)
    if (message[name] !== undefined)
      throw invalidArgument(`${where}.${name}`, `is not read; did you mean ${SNAKE[name]}?`)
  if (Array.isArray(calls))
    calls.forEach((call, index) => {
      checkCall(call, `${where}.tool_calls[${index}]`)
    })
}

/** What results of ours call what templates read by other names. */
const SNAKE = { toolCalls: 'tool_calls', toolCallId: 'tool_call_id' }

/** Arguments are an object, or its JSON text. */
function checkCall(call: unknown, where: string): void {
  if (!isPlainObject(call)) throw invalidArgument(where, `expected an object, got ${show(call)}`)
  const wrapped = isPlainObject(call['function'])
  const { arguments: args } = wrapped ? (call['function'] as { arguments?: unknown }) : call
  if (args === undefined || args === null || typeof args === 'string' || isPlainObject(args)) return
  throw invalidArgument(
    `${where}.${wrapped ? 'function.' : ''}arguments`,
    `expected an object or its JSON text, got ${show(args)}`,
  )
}

function checkContent(message: Record<string, unknown>, role: string, where: string): void {
  const { content } = message
  if (typeof content === 'string') {
    string(content, where)
  } else if (Array.isArray(content)) {
    Array.from(content, (part: unknown, index) => {
      checkPart(part, `${where}[${index}]`)
    })
  } else if (content === undefined || content === null) {
    if (!saysSomething(message, role))
      throw invalidArgument(
        where,
        `expected a string, got ${show(content)}; only a message with tool_calls, reasoning or another field, or a tool's, can go without`,
      )
  } else if (role.toLowerCase() !== 'tool' || !isPlainObject(content)) {
    throw invalidArgument(where, `expected a string or an array of parts, got ${show(content)}`)
  }
}

/** Whether a message without a content has something else for the template. */
function saysSomething(message: Record<string, unknown>, role: string): boolean {
  if (role.toLowerCase().startsWith('tool')) return true
  return Object.entries(message).some(([name, value]) => {
    if (name === 'role' || name === 'name' || value === undefined || value === null) return false
    if (name === 'tool_calls' && !Array.isArray(value)) return false
    return !Array.isArray(value) || value.length > 0
  })
}

function checkPart(part: unknown, where: string): void {
  if (!isPlainObject(part) || typeof part['type'] !== 'string') {
    throw invalidArgument(
      where,
      `expected a part such as { type: 'text', text: 'Hello' }, got ${show(part)}`,
    )
  }
  const type = part['type']
  if (MEDIA.test(type)) {
    throw optionError(
      'UNSUPPORTED',
      where,
      `this model takes text only, not a part of the type ${show(type)}`,
    )
  }
  // Of other parts, such as 'thinking', the template knows the fields.
  if (type === 'text') string(part['text'], `${where}.text`)
}

/** A text, or tokens as they are. */
export type TextOrTokens = string | { tokens: ArrayLike<number> }

/** Checks the shape of a text or tokens; {@link nativeTextOrTokens} does what needs the model. */
export function textOrTokens(value: unknown, where: string): TextOrTokens {
  if (typeof value === 'string') return string(value, where)
  if (!isPlainObject(value) || Object.keys(value).some((name) => name !== 'tokens'))
    throw invalidArgument(where, `expected a string or { tokens }, got ${show(value)}`)
  return { tokens: tokenList(value['tokens'], `${where}.tokens`) }
}

/** The addon's form of a text or tokens for a certain model. */
export function nativeTextOrTokens(
  input: TextOrTokens,
  where: string,
  info: ModelInfo,
): NativeContinuation {
  if (typeof input === 'string') return { text: input }
  return { tokens: tokenArray(input.tokens, `${where}.tokens`, info.vocabularySize) }
}

/** Checks that a value is a list, and not what only has a length. */
export function tokenList(tokens: unknown, where: string): ArrayLike<number> {
  if (Array.isArray(tokens) || (ArrayBuffer.isView(tokens) && 'length' in tokens))
    return tokens as ArrayLike<number>
  if (
    typeof tokens === 'object' &&
    tokens !== null &&
    'length' in tokens &&
    Number.isInteger(tokens.length) &&
    (tokens.length as number) >= 0
  ) {
    return tokens as ArrayLike<number>
  }
  throw invalidArgument(where, `expected an array of tokens, got ${show(tokens)}`)
}

/** The number of a tokenizer's tokens at most: what a number of 32 bits can name. */
export const ANY_TOKEN = 2 ** 32

/**
 * Tokens for the addon, every one below `limit`: the size of a model's vocabulary, or {@link
 * ANY_TOKEN}.
 */
export function tokenArray(tokens: ArrayLike<number>, where: string, limit: number): Uint32Array {
  const array = new Uint32Array(tokens.length)
  for (let i = 0; i < tokens.length; i++) {
    const token: unknown = tokens[i]
    if (!Number.isInteger(token) || (token as number) < 0 || (token as number) >= limit) {
      throw invalidArgument(
        `${where}[${i}]`,
        `expected a token, a whole number from 0 to ${limit - 1}, got ${show(token)}`,
      )
    }
    array[i] = token as number
  }
  return array
}
