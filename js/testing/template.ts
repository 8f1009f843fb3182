import { NodeMlxError } from '../errors.js'
import type { NativePrompt } from '../native.js'

interface TemplateOptions {
  tools?: unknown[]
  documents?: unknown[]
  template?: string
  addGenerationPrompt?: boolean
  continueFinalMessage?: boolean
  continueField?: string
}

interface TemplateMessage {
  role: string
  content?: unknown
  tool_calls?: unknown
  [field: string]: unknown
}

const ROLES = new Set(['system', 'developer', 'user', 'assistant', 'tool'])

/** The fake model's chat template: ChatML, with a call of a tool as JSON in its own tags. */
export function render(messagesJson: string, optionsJson: string): string {
  const messages = JSON.parse(messagesJson) as TemplateMessage[]
  const options = JSON.parse(optionsJson) as TemplateOptions
  if (options.template !== undefined)
    throw new NodeMlxError(
      'UNSUPPORTED',
      'chatTemplate: a fake model has a template of its own only',
    )
  const stranger = messages.find(({ role }) => !ROLES.has(role))
  if (stranger !== undefined)
    throw new NodeMlxError('TEMPLATE_ERROR', `Unknown role: ${stranger.role}`)
  const described = [...(options.tools ?? []), ...(options.documents ?? [])]
  const given =
    described.length === 0
      ? ''
      : turn('system', described.map((it) => JSON.stringify(it)).join('\n'))
  const turns = messages.map((message, index) => {
    const isLast = index === messages.length - 1
    if (!isLast || options.continueFinalMessage !== true) return turn(message.role, said(message))
    const field = textOf(message[options.continueField ?? 'content'])
    return `<|im_start|>${message.role}\n${field}`
  })
  const opening = options.addGenerationPrompt === true ? '<|im_start|>assistant\n' : ''
  return given + turns.join('') + opening
}

/** The text of an answer that a prompt leaves open. */
export function openAnswer({ messagesJson, templateOptionsJson }: NativePrompt): string {
  if (messagesJson === undefined) return ''
  const options = JSON.parse(templateOptionsJson ?? '{}') as TemplateOptions
  const isOpen = options.continueFinalMessage === true
  if (!isOpen || (options.continueField ?? 'content') !== 'content') return ''
  const messages = JSON.parse(messagesJson) as TemplateMessage[]
  return textOf(messages.at(-1)?.content)
}

function turn(role: string, text: string): string {
  return `<|im_start|>${role}\n${text}<|im_end|>\n`
}

function said({ content, tool_calls: calls }: TemplateMessage): string {
  const called = Array.isArray(calls)
    ? calls.map(
        (call) =>
          `<tool_call>${JSON.stringify((call as { function: unknown }).function)}</tool_call>`,
      )
    : []
  return [textOf(content), ...called].filter((part) => part !== '').join('\n')
}

function textOf(content: unknown): string {
  if (content === undefined || content === null) return ''
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) return JSON.stringify(content)
  return content.map((part: { text?: unknown }) => textOf(part.text)).join('')
}
