import type { GeneratedLogprob, TokenLogprob } from '../../types.js'

/** The log-probability of a token as OpenAI's chat API gives it. */
export interface ChatLogprob {
  token: string
  logprob: number
  bytes: number[] | null
}

function one({ text = '', bytes, logprob }: TokenLogprob): ChatLogprob {
  return { token: text, logprob, bytes: bytes ?? bytesOf(text) }
}

/** A token that is part of a character has no text that tells its bytes. */
function bytesOf(text: string): number[] | null {
  return text.includes('\u{FFFD}') ? null : [...new TextEncoder().encode(text)]
}

/** The log-probabilities of a chat's answer. */
export function chatLogprobs(
  logprobs: readonly GeneratedLogprob[],
): (ChatLogprob & { top_logprobs: ChatLogprob[] })[] {
  return logprobs.map((token) => ({ ...one(token), top_logprobs: token.top.map(one) }))
}

/** A token of a text completion or of its prompt, before whose first token nothing is. */
export type ReadLogprob = Pick<GeneratedLogprob, 'text' | 'bytes'> & {
  logprob: number | null
  top: readonly TokenLogprob[] | null
}

/** The log-probabilities of a text completion as OpenAI's API gives them. */
export interface TextLogprobs {
  tokens: string[]
  token_logprobs: (number | null)[]
  top_logprobs: (Record<string, number> | null)[]
  text_offset: number[]
}

/** The log-probabilities of a text completion, where `offset` is the place of the first token. */
export function textLogprobs(logprobs: readonly ReadLogprob[], offset: number): TextLogprobs {
  let at = offset
  return {
    tokens: logprobs.map(nameOf),
    token_logprobs: logprobs.map(({ logprob }) => logprob),
    top_logprobs: logprobs.map(
      ({ top }) => top && Object.fromEntries(top.map((token) => [nameOf(token), token.logprob])),
    ),
    text_offset: logprobs.map(({ text = '' }) => {
      const start = at
      at += text.length
      return start
    }),
  }
}

/** How long the text of tokens is. */
export function textLength(logprobs: readonly Pick<TokenLogprob, 'text'>[]): number {
  return logprobs.reduce((sum, { text = '' }) => sum + text.length, 0)
}

/** A token's text; tokens that are parts of characters are told apart by their bytes. */
function nameOf({ text = '', bytes }: Pick<TokenLogprob, 'text' | 'bytes'>): string {
  if (bytes === undefined) return text
  return `bytes:${bytes.map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`
}
