import type { GenerateOptions, Generation, GenerationChunk, GenerationResult } from '../types.js'

/** A call of a tool in a result. */
export interface MadeCall {
  id: string
  name: string
  arguments: Record<string, unknown>
}

/** A piece of an answer, as the APIs tell it apart. */
export type Piece =
  | GenerationChunk
  | { type: 'reasoning'; text: string; tokens: number[] }
  | { type: 'tool-call-start'; index: number; id: string; name: string }
  | { type: 'tool-call-delta'; index: number; id: string; argumentsText: string }
  | {
      type: 'tool-call-end'
      index: number
      id: string
      name: string
      arguments: Record<string, unknown>
    }
  | { type: 'tool-call-invalid'; index: number; raw: string; error: string }

/** A finished answer. */
export interface Answer extends Omit<GenerationResult, 'finishReason' | 'usage'> {
  reasoning: string
  toolCalls: MadeCall[]
  invalidToolCalls: { raw: string; error: string }[]
  finishReason: GenerationResult['finishReason'] | 'tool-calls'
  usage: GenerationResult['usage'] & { reasoningTokens: number }
}

/** What the APIs ask for besides. */
export interface AskedOptions extends GenerateOptions {
  toolChoice?: 'auto' | 'none' | 'required' | { name: string } | undefined
  parallelToolCalls?: boolean | undefined
  reasoning?: 'off' | 'low' | 'medium' | 'high' | { budgetTokens: number } | undefined
  responseFormat?:
    | { type: 'json'; schema?: Record<string, unknown>; name?: string; strict?: boolean }
    | { type: 'regex'; pattern: string }
    | { type: 'choice'; options: readonly string[] }
    | { type: 'grammar'; lark: string }
    | undefined
}

export function pieces(generation: Generation): AsyncIterable<Piece> {
  return generation
}

export async function answerOf(generation: Generation): Promise<Answer> {
  const result = await generation.result
  return {
    reasoning: '',
    toolCalls: [],
    invalidToolCalls: [],
    ...result,
    usage: { reasoningTokens: 0, ...result.usage },
  }
}
