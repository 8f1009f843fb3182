// The fake model's tokenizer: a token is a word with the space before it, and words get their
// numbers in the order in which a process first sees them.

export const VOCABULARY_SIZE = 8192

/** The tokens of the chat template; all others come behind them. */
const SPECIAL = ['<|im_start|>', '<|im_end|>']

/** The token that ends an answer. */
export const END_TOKEN = SPECIAL.indexOf('<|im_end|>')

/** The tokens of single bytes: for words that come when every number is taken. */
const FIRST_BYTE = SPECIAL.length
const FIRST_WORD = FIRST_BYTE + 256

const words: string[] = []
const numbers = new Map<string, number>()

const TOKENS = /\s*(?:[\p{L}\p{M}\p{N}_]+|[^\s\p{L}\p{M}\p{N}_])|\s+/gu
const AROUND_SPECIAL = /(<\|im_(?:start|end)\|>)/

/** The tokens of a text. */
export function encode(text: string, splitSpecialTokens = false): number[] {
  if (splitSpecialTokens) return encodeWords(text)
  return text.split(AROUND_SPECIAL).flatMap((part) => {
    const special = SPECIAL.indexOf(part)
    return special === -1 ? encodeWords(part) : [special]
  })
}

/** A text in pieces of one token each. */
export function pieces(text: string): string[] {
  return text.match(TOKENS) ?? []
}

function encodeWords(text: string): number[] {
  return pieces(text).flatMap(encodeWord)
}

function encodeWord(word: string): number[] {
  const known = numbers.get(word)
  if (known !== undefined) return [known]
  const number = FIRST_WORD + words.length
  if (number >= VOCABULARY_SIZE)
    return Array.from(new TextEncoder().encode(word), (byte) => FIRST_BYTE + byte)
  words.push(word)
  numbers.set(word, number)
  return [number]
}

/** The text of tokens; a number that stands for nothing yet is no text. */
export function decode(tokens: Iterable<number>, skipSpecialTokens = false): string {
  const bytes: Uint8Array[] = []
  const encoder = new TextEncoder()
  for (const token of tokens) {
    if (token < FIRST_BYTE) {
      if (!skipSpecialTokens) bytes.push(encoder.encode(SPECIAL[token]))
    } else if (token < FIRST_WORD) bytes.push(Uint8Array.of(token - FIRST_BYTE))
    else bytes.push(encoder.encode(words[token - FIRST_WORD] ?? ''))
  }
  return Buffer.concat(bytes).toString('utf8')
}

/** Tokens in a form that another process understands: words as they are, and other numbers. */
export function spell(tokens: readonly number[]): (string | number)[] {
  return tokens.map((token) => words[token - FIRST_WORD] ?? token)
}

/** The tokens that {@link spell} spelled out. */
export function unspell(spelled: readonly (string | number)[]): number[] {
  return spelled.flatMap((it) => (typeof it === 'string' ? encodeWord(it) : [it]))
}
