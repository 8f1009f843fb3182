import type { GenerationResult } from '../../types.js'

/** The usage of a request's answers; a prompt that several share counts once. */
export function usage(answers: readonly GenerationResult[], choices: number): object {
  const all = answers.map(({ usage }) => usage)
  const byPrompt = Array.from({ length: Math.ceil(all.length / choices) }, (_, index) =>
    all.slice(index * choices, (index + 1) * choices),
  )
  const prompt = sum(byPrompt.map(([first]) => first?.promptTokens ?? 0))
  const completion = sum(all.map((it) => it.completionTokens))
  // One of the answers reads the prompt for the others.
  const cached = sum(byPrompt.map((own) => Math.min(...own.map((it) => it.cachedTokens))))
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: {
      cached_tokens: cached,
    },
    completion_tokens_details: {
      reasoning_tokens: sum(all.map((it) => it.reasoningTokens)),
    },
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0)
}

/** The usage of a request whose texts are only read. */
export function readUsage(tokens: number): object {
  return { prompt_tokens: tokens, total_tokens: tokens }
}

/** How long an answer took, with the names of llama.cpp's server. */
export function timings({ usage, timings }: GenerationResult): object {
  return {
    cache_n: usage.cachedTokens,
    prompt_n: usage.promptTokens - usage.cachedTokens,
    prompt_ms: timings.prefillMs,
    prompt_per_second: timings.promptTokensPerSecond,
    predicted_n: usage.completionTokens,
    predicted_ms: timings.totalMs - timings.timeToFirstTokenMs,
    predicted_per_second: timings.tokensPerSecond,
  }
}

/** Why an answer ended, as OpenAI's APIs call it. */
export function finishReason({ finishReason }: GenerationResult): string {
  return finishReason === 'tool-calls' ? 'tool_calls' : finishReason
}
