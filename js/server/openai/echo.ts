import type { Prompt } from '../../types.js'
import type { Order, Turn } from '../turn.js'
import type { ReadLogprob } from './logprobs.js'

/** What a completion gives of its prompt. */
export interface Echo {
  /** Empty where it is not asked for. */
  text: string
  /** Those of its tokens; none where they are not asked for. */
  logprobs: ReadLogprob[]
  /** How many tokens it has, where nothing else counts them. */
  tokens: number
}

const NOTHING: Echo = { text: '', logprobs: [], tokens: 0 }

/** What is given of each prompt. */
export function readEchoes(
  turn: Turn,
  { prompts, choices }: Order,
  { echo = false, logprobs }: { echo?: boolean; logprobs?: number },
): Promise<Echo[]> {
  const read = async (prompt: Prompt): Promise<Echo> => {
    if (!echo && choices > 0) return NOTHING
    const tokens = await turn.model.tokenize(prompt)
    const text = echo ? await textOf(turn, prompt) : ''
    const likely = echo && logprobs !== undefined ? await likelihoods(turn, tokens, logprobs) : []
    return { text, logprobs: likely, tokens: tokens.length }
  }
  return Promise.all(prompts.map(read))
}

async function textOf({ model }: Turn, prompt: Prompt): Promise<string> {
  if (typeof prompt === 'object' && 'text' in prompt) return prompt.text
  if (typeof prompt === 'object' && 'tokens' in prompt) return model.detokenize(prompt.tokens)
  return ''
}

/** How likely each token is behind those before it. Nothing is before the first one. */
async function likelihoods(
  { model, signal }: Turn,
  tokens: readonly number[],
  top: number,
): Promise<ReadLogprob[]> {
  const [first] = tokens
  if (first === undefined) return []
  const begin = { text: await model.detokenize([first]), logprob: null, top: null }
  if (tokens.length === 1) return [begin]
  const scored = await model.score({ tokens }, undefined, { top, signal })
  return [begin, ...scored.tokens.map((token) => ({ ...token, top: token.top ?? [] }))]
}
