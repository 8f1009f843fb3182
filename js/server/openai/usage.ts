import type { GenerationResult } from '../../types.js'

/** The usage of a request's answers; a prompt that several share counts once. */
export function usage(answers: readonly GenerationResult[], choices: number): object {
  const sum = (of: (answer: GenerationResult) => number, each = 1): number =>
    answers.reduce((total, answer, index) => total + (index % each === 0 ? of(answer) : 0), 0)
  const prompt = sum((answer) => answer.usage.promptTokens, choices)
  const completion = sum((answer) => answer.usage.completionTokens)
  // One of the answers reads the prompt for the others.
  const cached = answers.reduce((total, _, index) => {
    const own = index % choices === 0 ? answers.slice(index, index + choices) : []
    return total + (own.length > 0 ? Math.min(...own.map((it) => it.usage.cachedTokens)) : 0)
  }, 0)
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: {
      cached_tokens: cached,
    },
    completion_tokens_details: {
      reasoning_tokens: sum((answer) => answer.usage.reasoningTokens),
    },
  }
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
