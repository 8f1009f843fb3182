import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { invalidArgument, NodeMlxError } from '../errors.js'
import type { NativeGenerateRequest, NativeResponseFormat } from '../native.js'
import { patternWith } from './patterns.js'

// What the engine refuses, in its words, as far as that can be told without it.

/** The formats that the addon can read calls in. */
export const TOOL_FORMATS = [
  'apertus',
  'cohere',
  'command-r',
  'deepseek-v3',
  'deepseek-v3.2',
  'function-gemma',
  'functionary-v2',
  'functionary-v3.1',
  'functionary-v3.2',
  'functools',
  'gemma4',
  'gigachat',
  'glm',
  'glm4',
  'granite',
  'granite-20b',
  'harmony',
  'hermes',
  'hunyuan',
  'hy3',
  'internlm2',
  'json-list',
  'kimi-k2',
  'kimi-k3',
  'llama3-json',
  'longcat',
  'minicpm5',
  'minimax-m2',
  'minimax-m3',
  'mistral',
  'muse',
  'nemotron',
  'nemotron-mini',
  'phi4-mini',
  'pythonic',
  'qwen3-coder',
  'solar',
] as const

/** The formats that the addon can tell reasoning apart in. */
export const REASONING_FORMATS = [
  'harmony',
  'muse',
  'gemma4',
  'mistral',
  'cohere',
  'seed-oss',
  'longcat',
  'minimax-m3',
  'kimi-k3',
  'solar',
  'minicpm3',
  'think-tokens',
  'apertus',
  'apriel',
  'granite',
  'hunyuan',
  'hy3',
  'think-response',
  'think',
  'thought',
] as const

const MOST_CHOICES = 10_000

/** Refuses what no answer can keep to. */
export function checkEnforceable(request: NativeGenerateRequest, vocabularySize: number): void {
  const { stopTokens = [], speculation, responseFormat } = request
  const { toolFormat, reasoningFormat, parseToolCalls = true } = request
  if (speculation?.enabled === true && speculation.lookup === false)
    throw invalidArgument(
      'speculation',
      'leaves nothing to draft with: the model was loaded without a draftModel, so lookup must not be false',
    )
  if (stopTokens.length > 0) checkTokens('stopTokens', stopTokens, vocabularySize)
  checkName('reasoningFormat', reasoningFormat, [...REASONING_FORMATS, 'none'])
  if (parseToolCalls) checkName('toolFormat', toolFormat, TOOL_FORMATS)
  if (responseFormat !== undefined) checkFormat(responseFormat)
}

/** Refuses an empty list of tokens, and tokens that the model does not have. */
export function checkTokens(
  option: string,
  tokens: ArrayLike<number>,
  vocabularySize: number,
): void {
  if (tokens.length === 0) throw invalidArgument(option, 'is empty: at least one token is needed')
  const unknown = Array.from(tokens).find((token) => token >= vocabularySize)
  if (unknown !== undefined) throw unknownToken(option, unknown, vocabularySize)
}

/** Refuses tokens that stand for nothing. */
export function checkReadable(tokens: ArrayLike<number>, vocabularySize: number): void {
  const at = Array.from(tokens).findIndex((token) => token >= vocabularySize)
  if (at !== -1) throw unknownToken(`tokens[${at}]`, tokens[at] ?? 0, vocabularySize)
}

function unknownToken(option: string, token: number, size: number): NodeMlxError {
  return invalidArgument(option, `${token} is outside of the vocabulary of ${size} tokens`)
}

function checkName(option: string, name: string | undefined, names: readonly string[]): void {
  if (name !== undefined && !names.includes(name))
    throw invalidArgument(option, `is none of ${names.join(', ')}`)
}

/** Refuses a pattern that could end no answer, or every one at once. */
export function checkStop(pattern: string): void {
  const named = `/${pattern}/`
  const problem = patternProblem(pattern)
  if (problem !== undefined) throw invalidArgument('stop', `${named} ${problem}`)
  if (signs(pattern).some((sign) => sign === '^' || sign === '$'))
    throw invalidArgument(
      'stop',
      String.raw`${named} has "^", "$", "\A" or "\z", and nothing around a match is looked at`,
    )
  if (patternWith('^', pattern, '$').test(''))
    throw invalidArgument('stop', `${named} matches an empty text, and so every answer at once`)
}

function checkFormat({ pattern, options, lark }: NativeResponseFormat): void {
  const problem = pattern === undefined ? undefined : patternProblem(pattern)
  if (problem !== undefined) throw invalidArgument('responseFormat.pattern', problem)
  if (options !== undefined && (options.length === 0 || options.length > MOST_CHOICES))
    throw invalidArgument('responseFormat.options', `must have 1 to ${MOST_CHOICES} options`)
  if (lark !== undefined && !/^[ \t]*[?!]*start\b[^:\n]*:/m.test(lark))
    throw invalidArgument('responseFormat.lark', 'is no grammar: it has no rule start')
}

/** What the addon calls the faults of a pattern that `RegExp` finds. */
const FAULTS: Readonly<Record<string, string>> = {
  'Unterminated group': 'a group is not closed',
  "Unmatched ')'": 'a ")" closes nothing',
  'Unterminated character class': 'a "[" is not closed',
  'Range out of order in character class': 'a range of characters ends before it begins',
  '\\ at end of pattern': 'it ends with "\\"',
}

/** What can be no part of a grammar. */
const UNENFORCEABLE: readonly (readonly [RegExp, string])[] = [
  [/^\(\?[=!]/, 'it looks ahead'],
  [/^\(\?<[=!]/, 'it looks behind'],
  [/^\\[bB]/, 'it asks for the edge of a word'],
  [/^\\[k1-9]/, 'it refers to a group before'],
]

function patternProblem(pattern: string): string | undefined {
  try {
    patternWith('', pattern, '')
  } catch (error) {
    const reason = (error as Error).message.replace(/^.*: /s, '')
    return `is no regular expression: ${FAULTS[reason] ?? reason}`
  }
  for (const sign of signs(pattern))
    for (const [which, what] of UNENFORCEABLE)
      if (which.test(sign)) return `cannot be enforced: ${what}`
  return undefined
}

/** A pattern's characters outside of classes; escapes and the openings of groups are whole. */
function signs(pattern: string): string[] {
  return pattern.match(/\\[^]|\[(?:\\[^]|[^\]\\])*\]|\(\?<?[=!]|[^]/gu) ?? []
}

/** What an adapter's folder says of it. */
export async function readAdapter(folder: string): Promise<{ rank: number }> {
  const path = join(folder, 'adapter_config.json')
  const broken = (message: string, cause?: unknown): NodeMlxError =>
    new NodeMlxError('INVALID_ADAPTER', `${path}: ${message}`, { path, cause })
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw broken("there is no such file, so its folder is no adapter's", cause)
  })
  try {
    const config = JSON.parse(text) as { r?: number; lora_parameters?: { rank?: number } } | null
    return { rank: config?.r ?? config?.lora_parameters?.rank ?? 0 }
  } catch (cause) {
    throw broken('is no JSON', cause)
  }
}
