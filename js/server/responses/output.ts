import { randomUUID } from 'node:crypto'
import type { GenerationResult, Message } from '../../types.js'
import type { Failure } from '../failure.js'
import { responseErrorCode } from '../openai/api.js'
import { chatLogprobs } from '../openai/logprobs.js'
import type { ResponseFields } from './request.js'

export function newId(prefix: string): string {
  return `${prefix}_${randomUUID().replaceAll('-', '')}`
}

/** An item of a response's output, with its id. */
export interface Item {
  id: string
  type: 'reasoning' | 'message' | 'function_call'
  [field: string]: unknown
}

export function reasoningItem(id: string, text: string, status: string): Item {
  const content = text === '' ? [] : [{ type: 'reasoning_text', text }]
  return { id, type: 'reasoning', summary: [], content, encrypted_content: null, status }
}

export function messageItem(id: string, content: readonly object[], status: string): Item {
  return { id, type: 'message', role: 'assistant', content, status }
}

export function textPart(text: string, logprobs: GenerationResult['logprobs'] = []): object {
  return { type: 'output_text', text, annotations: [], logprobs: chatLogprobs(logprobs) }
}

export function callItem(
  id: string,
  { callId, name, args }: { callId: string; name: string; args: string },
  status: string,
): Item {
  return { id, type: 'function_call', call_id: callId, name, arguments: args, status }
}

/** The output of a finished answer. */
export function outputItems(answer: GenerationResult): Item[] {
  const { reasoning, toolCalls, invalidToolCalls } = answer
  const text = [answer.text, ...invalidToolCalls.map(({ raw }) => raw)].join('')
  const status = itemStatus(answer)
  return [
    ...(reasoning === '' ? [] : [reasoningItem(newId('rs'), reasoning, status)]),
    ...(text === '' && toolCalls.length > 0
      ? []
      : [messageItem(newId('msg'), [textPart(text, answer.logprobs)], status)]),
    ...toolCalls.map(({ id, name, arguments: args }) =>
      callItem(newId('fc'), { callId: id, name, args: JSON.stringify(args) }, status),
    ),
  ]
}

/** An answer that was cut off has an item that is not complete. */
export function itemStatus({ finishReason }: GenerationResult): 'completed' | 'incomplete' {
  return finishReason === 'length' ? 'incomplete' : 'completed'
}

/** The answer as a message of the conversation that goes on. */
export function answerMessage({ text, reasoning, toolCalls }: GenerationResult): Message {
  return {
    role: 'assistant',
    content: text,
    ...(reasoning === '' ? {} : { reasoning_content: reasoning }),
    ...(toolCalls.length === 0
      ? {}
      : {
          tool_calls: toolCalls.map(({ id, name, arguments: args }) => ({
            id,
            type: 'function' as const,
            function: { name, arguments: args },
          })),
        }),
  }
}

/** A response before anything was said. */
export function emptyResponse(id: string, fields: ResponseFields): Record<string, unknown> {
  return {
    id,
    object: 'response',
    created_at: Math.floor(Date.now() / 1000),
    status: 'in_progress',
    background: false,
    error: null,
    incomplete_details: null,
    instructions: fields.instructions ?? null,
    max_output_tokens: fields.max_output_tokens ?? null,
    max_tool_calls: null,
    model: fields.model,
    output: [],
    parallel_tool_calls: fields.parallel_tool_calls ?? true,
    previous_response_id: fields.previous_response_id ?? null,
    prompt_cache_key: fields.prompt_cache_key ?? null,
    reasoning: fields.reasoning ?? { effort: null, summary: null },
    safety_identifier: fields.safety_identifier ?? null,
    service_tier: 'default',
    store: fields.store ?? true,
    temperature: fields.temperature ?? null,
    text: fields.text ?? { format: { type: 'text' } },
    tool_choice: toolChoice(fields.tool_choice),
    tools: fields.tools ?? [],
    top_logprobs: fields.top_logprobs ?? 0,
    top_p: fields.top_p ?? null,
    truncation: 'disabled',
    usage: null,
    user: fields.user ?? null,
    metadata: fields.metadata ?? {},
  }
}

function toolChoice(choice: ResponseFields['tool_choice'] = 'auto'): unknown {
  if (typeof choice === 'string') return choice
  if ('name' in choice) return { type: 'function', name: choice.name }
  const tools = choice.allowed.map((name) => ({ type: 'function', name }))
  return { type: 'allowed_tools', mode: choice.mode, tools }
}

/** A response that has ended. */
export interface FinishedResponse extends Record<string, unknown> {
  output: readonly Item[]
}

/** The response with its answer. */
export function finishedResponse(
  response: Record<string, unknown>,
  answer: GenerationResult,
  output: readonly Item[],
): FinishedResponse {
  const { usage, finishReason } = answer
  const isCut = finishReason === 'length'
  return {
    ...response,
    status: itemStatus(answer),
    completed_at: Math.floor(Date.now() / 1000),
    incomplete_details: isCut ? { reason: 'max_output_tokens' } : null,
    output,
    usage: {
      input_tokens: usage.promptTokens,
      input_tokens_details: { cached_tokens: usage.cachedTokens },
      output_tokens: usage.completionTokens,
      output_tokens_details: { reasoning_tokens: usage.reasoningTokens },
      total_tokens: usage.totalTokens,
    },
  }
}

/** The response of which something came, and then an error. */
export function failedResponse(
  response: Record<string, unknown>,
  failure: Failure,
  output: readonly Item[],
): FinishedResponse {
  const error = { code: responseErrorCode(failure), message: failure.message }
  return { ...response, status: 'failed', error, output }
}
