import type { GeneratedLogprob, TokenLogprob } from '../../types.js'

/** The log-probability of a token as OpenAI's chat API gives it. */
export interface ChatLogprob {
  token: string
  logprob: number
  bytes: number[] | null
}

function one({ text = '', logprob }: TokenLogprob): ChatLogprob {
  // A token that is part of a character has no text that tells its bytes.
  const bytes = text.includes('\u{FFFD}') ? null : [...new TextEncoder().encode(text)]
  return { token: text, logprob, bytes }
}

/** The log-probabilities of a chat's answer. */
export function chatLogprobs(
  logprobs: readonly GeneratedLogprob[],
): (ChatLogprob & { top_logprobs: ChatLogprob[] })[] {
  return logprobs.map((token) => ({ ...one(token), top_logprobs: token.top.map(one) }))
}

/** The log-probabilities of a text completion, where `offset` is the place of the first token. */
export function textLogprobs(logprobs: readonly GeneratedLogprob[], offset: number): object {
  const texts = logprobs.map(({ text = '' }) => text)
  let at = offset
  const offsets = texts.map((text) => {
    const start = at
    at += text.length
    return start
  })
  return {
    tokens: texts,
    token_logprobs: logprobs.map(({ logprob }) => logprob),
    top_logprobs: logprobs.map(({ top }) =>
      Object.fromEntries(top.map(({ text = '', logprob }) => [text, logprob])),
    ),
    text_offset: offsets,
  }
}
