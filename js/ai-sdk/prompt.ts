import type {
  LanguageModelV4FilePart,
  LanguageModelV4Message,
  LanguageModelV4Prompt,
  LanguageModelV4ToolResultPart,
  SharedV4Warning,
} from '@ai-sdk/provider'
import type { Message, ToolCall } from '../types.js'
import { unsupportedFunctionality } from './errors.js'

/** A conversation of the AI SDK as messages; what a model cannot read is refused or warned of. */
export function toMessages(prompt: LanguageModelV4Prompt, warnings: SharedV4Warning[]): Message[] {
  return prompt.flatMap((message) => toMessage(message, warnings))
}

function toMessage(message: LanguageModelV4Message, warnings: SharedV4Warning[]): Message[] {
  switch (message.role) {
    case 'system':
      return [{ role: 'system', content: message.content }]
    case 'user':
      return [
        {
          role: 'user',
          content: message.content
            .map((part) => (part.type === 'text' ? part.text : textOfFile(part)))
            .join('\n'),
        },
      ]
    case 'assistant':
      return assistantMessages(message.content, warnings)
    case 'tool':
      return message.content.flatMap((part) =>
        part.type === 'tool-result' ? [toolMessage(part, warnings)] : leftOut(part.type, warnings),
      )
  }
}

function assistantMessages(
  content: Extract<LanguageModelV4Message, { role: 'assistant' }>['content'],
  warnings: SharedV4Warning[],
): Message[] {
  let text = ''
  let reasoning = ''
  const calls: ToolCall[] = []
  const results: Message[] = []
  for (const part of content) {
    switch (part.type) {
      case 'text':
        text += part.text
        break
      case 'reasoning':
        reasoning += part.text
        break
      case 'tool-call':
        calls.push({
          id: part.toolCallId,
          type: 'function',
          function: { name: part.toolName, arguments: toArguments(part.input) },
        })
        break
      case 'tool-result':
        results.push(toolMessage(part, warnings))
        break
      case 'custom':
      case 'file':
      case 'reasoning-file':
        leftOut(part.type, warnings)
    }
  }
  const said: Message = {
    role: 'assistant',
    content: text,
    ...(reasoning === '' ? {} : { reasoning_content: reasoning }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  }
  return [said, ...results]
}

function toArguments(input: unknown): Record<string, unknown> | string {
  if (typeof input === 'string') return input
  return typeof input === 'object' && input !== null ? (input as Record<string, unknown>) : {}
}

function toolMessage(
  { toolCallId, toolName, output }: LanguageModelV4ToolResultPart,
  warnings: SharedV4Warning[],
): Message {
  return {
    role: 'tool',
    tool_call_id: toolCallId,
    name: toolName,
    content: textOfOutput(output, warnings),
  }
}

function textOfOutput(
  output: LanguageModelV4ToolResultPart['output'],
  warnings: SharedV4Warning[],
): string {
  switch (output.type) {
    case 'text':
    case 'error-text':
      return output.value
    case 'json':
    case 'error-json':
      return JSON.stringify(output.value)
    case 'execution-denied':
      return output.reason ?? 'The call was not allowed.'
    case 'content':
      return output.value
        .flatMap((part) => {
          if (part.type === 'text') return [part.text]
          return part.type === 'file' ? [textOfFile(part)] : leftOut(part.type, warnings)
        })
        .join('\n')
  }
}

/** The text of a file that is text. */
function textOfFile({
  data,
  mediaType,
  filename,
}: Pick<LanguageModelV4FilePart, 'data' | 'mediaType' | 'filename'>): string {
  if (data.type === 'text') return data.text
  if (data.type === 'data' && /^(text(\/|$)|application\/json$)/.test(mediaType)) {
    const bytes = typeof data.data === 'string' ? Buffer.from(data.data, 'base64') : data.data
    return new TextDecoder().decode(bytes)
  }
  throw unsupportedFunctionality(
    'file parts',
    `${filename ?? 'a file'} of the type ${mediaType}: this model reads text only`,
  )
}

/** Says that a part is not read; gives nothing in its place. */
function leftOut(type: string, warnings: SharedV4Warning[]): [] {
  warnings.push({
    type: 'unsupported',
    feature: `${type} parts`,
    details: 'The model does not see this part of the conversation.',
  })
  return []
}
