import type { GenerateOptions } from '../types.js'

/** What the APIs ask of `generate`. */
export interface AskedOptions extends GenerateOptions {
  reasoning?: 'off' | 'low' | 'medium' | 'high' | { budgetTokens: number } | undefined
  responseFormat?:
    | { type: 'json'; schema?: Record<string, unknown>; name?: string; strict?: boolean }
    | { type: 'regex'; pattern: string }
    | { type: 'choice'; options: readonly string[] }
    | { type: 'grammar'; lark: string }
    | undefined
}
