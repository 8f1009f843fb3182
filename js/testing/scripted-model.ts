import { readFile, writeFile } from 'node:fs/promises'
import { invalidArgument, NodeMlxError } from '../errors.js'
import type {
  NativeAdapter,
  NativeCacheLimits,
  NativeCandidate,
  NativeContinuation,
  NativeEmbeddings,
  NativeEmbedRequest,
  NativeGenerateRequest,
  NativeJudgements,
  NativeJudgeRequest,
  NativeModel,
  NativeModelInfo,
  NativePrompt,
  NativePromptCache,
  NativeScored,
  NativeScoreRequest,
  NativeScores,
} from '../native.js'
import { checkOptionRanges } from '../option-ranges.js'
import type { Message, ModelInfo, ToolDefinition } from '../types.js'
import { script, type FakeAnswer, type FakeRequest } from './answers.js'
import { checkEnforceable, checkReadable, checkStop, checkTokens, readAdapter } from './checks.js'
import { limit } from './limits.js'
import { checkAnswerFits, checkRequest, readAs } from './requests.js'
import { ScriptedGeneration, type Plan } from './scripted-generation.js'
import { openAnswer, render } from './template.js'
import { decode, encode, END_TOKEN, spell, unspell } from './vocabulary.js'

/** Fewer tokens are read as fast as they are found. */
const LEAST_SHARED = 4

/** What more generations have read is forgotten. */
const MOST_PREFIXES = 64

/** What a prompt cache of a fake model holds of a token. */
const BYTES_PER_TOKEN = 1024

/** How a fake model answers. */
export interface Behaviour {
  answer: (request: FakeRequest) => FakeAnswer | Promise<FakeAnswer>
  promptMs: number
  tokenMs: number
}

/** The addon's side of a fake model. */
export class ScriptedModel implements NativeModel {
  readonly requests: FakeRequest[] = []
  readonly #info: ModelInfo
  readonly #behaviour: Behaviour
  readonly #running = new Set<ScriptedGeneration>()
  readonly #caches = new Map<number, ScriptedPromptCache>()
  readonly #prefixes = new ScriptedPrefixes()
  /** How those that run are aborted. */
  readonly #evaluations = new Map<number, () => void>()
  #adapters = 0
  #disposed = false

  constructor(info: ModelInfo, behaviour: Behaviour) {
    this.#info = info
    this.#behaviour = behaviour
  }

  info(): NativeModelInfo {
    return structuredClone(this.#info) as NativeModelInfo
  }

  generate(request: NativeGenerateRequest): ScriptedGeneration {
    this.#alive()
    checkOptionRanges(request)
    checkRequest(request)
    for (const pattern of request.stopPatterns ?? []) checkStop(pattern)
    const asked = this.#ask(request)
    this.requests.push(asked)
    const cache = this.#checkOut(request.promptCache)
    const prompt: number[] = []
    const plan = this.#plan(request, asked, cache, prompt)
    const generation = new ScriptedGeneration(plan, (made) => {
      this.#running.delete(generation)
      const read = made && [...prompt, ...made]
      if (cache === undefined && read !== undefined) this.#prefixes.keep(request, read)
      if (!(cache instanceof NodeMlxError)) cache?.checkIn(read)
    })
    this.#running.add(generation)
    return generation
  }

  async tokenize(prompt: NativePrompt): Promise<Uint32Array> {
    this.#alive()
    return Promise.resolve(Uint32Array.from(this.#tokens(prompt)))
  }

  async countTokens(prompt: NativePrompt): Promise<number> {
    return (await this.tokenize(prompt)).length
  }

  async detokenize(tokens: Uint32Array, skipSpecialTokens: boolean): Promise<string> {
    this.#alive()
    this.#needsTokenizer()
    checkReadable(tokens, this.#info.vocabularySize)
    return Promise.resolve(decode(tokens, skipSpecialTokens))
  }

  async applyChatTemplate(messagesJson: string, optionsJson: string): Promise<string> {
    this.#alive()
    return Promise.resolve(this.#render(messagesJson, optionsJson))
  }

  promptCache(limits: NativeCacheLimits): NativePromptCache {
    this.#alive()
    checkOptionRanges(limits)
    return this.#newCache(limits.maxKvSize)
  }

  async loadPromptCache(path: string): Promise<NativePromptCache> {
    this.#alive()
    const tokens = await readTokens(path)
    this.#alive()
    const cache = this.#newCache()
    cache.checkIn(tokens)
    return cache
  }

  clearPrefixCache(): Promise<void> {
    this.#alive()
    this.#prefixes.clear()
    return Promise.resolve()
  }

  /** An adapter that changes nothing: what a model with it says, the script says. */
  async loadAdapter(path: string): Promise<NativeAdapter> {
    this.#alive()
    const { rank } = await readAdapter(path)
    const id = ++this.#adapters
    return {
      id: () => id,
      info: () => ({ kind: 'lora', rank, modules: 0, parameters: 0, bytes: 0, path }),
      dispose: () => undefined,
    }
  }

  /** Each token's successor in the list is the likeliest, and the end after the last one. */
  async logits(tokens: Uint32Array): Promise<{ data: Float32Array; shape: number[] }> {
    this.#alive()
    const { vocabularySize } = this.#info
    checkTokens('tokens', tokens, vocabularySize)
    const data = new Float32Array(tokens.length * vocabularySize)
    tokens.forEach((_, row) => {
      data[row * vocabularySize + (tokens[row + 1] ?? END_TOKEN)] = 10
    })
    return Promise.resolve({ data, shape: [tokens.length, vocabularySize] })
  }

  /** What the script would answer is likely behind a prompt, and everything else is not. */
  async score(request: NativeScoreRequest): Promise<NativeScores> {
    this.#alive()
    const { evaluation, continuations, prompt, top = 0, ...others } = request
    const tokens = Array.from(this.#tokens(prompt))
    if (continuations.length === 0)
      return { promptTokens: 1, continuations: [scored(tokens.slice(1), tokens.slice(1), top)] }
    const asked = this.#ask({ prompt, ...others })
    this.requests.push(asked)
    const aborted = new Promise<never>((_, reject) => {
      this.#evaluations.set(evaluation, () => {
        reject(new NodeMlxError('ABORTED', 'the evaluation was aborted'))
      })
    })
    try {
      const answer = await Promise.race([this.#behaviour.answer(asked), aborted])
      const steps = script(answer, this.#behaviour).steps
      const likely = Array.from(encode(steps.map(({ raw }) => raw).join('')))
      const rest = (it: NativeContinuation): number[] =>
        Array.from(it.tokens ?? encode(it.text ?? ''))
      return {
        promptTokens: tokens.length,
        continuations: continuations.map((it) => scored(rest(it), likely, top)),
      }
    } finally {
      this.#evaluations.delete(evaluation)
    }
  }

  /** Texts that have words in common are near each other. */
  async embed(request: NativeEmbedRequest): Promise<NativeEmbeddings> {
    this.#alive()
    const size = this.#info.embedding?.dimensions ?? 0
    const { dimensions = size, normalize = this.#info.embedding?.normalize === true } = request
    if (dimensions > size)
      throw invalidArgument('dimensions', `is ${dimensions}, and there are ${size}`)
    this.#checkTask(request.task)
    const inputs = request.inputs.map((it) => Array.from(it.tokens ?? encode(it.text ?? '')))
    const rows = inputs.map((tokens) => bagOfWords(tokens, dimensions, normalize))
    return Promise.resolve({
      data: Float32Array.from(rows.flat()),
      dimensions,
      tokens: inputs.reduce((sum, tokens) => sum + tokens.length, 0),
    })
  }

  #checkTask(task: string | undefined): void {
    const { tasks = [] } = this.#info.embedding ?? {}
    if (task !== undefined && !tasks.includes(task))
      throw invalidArgument('task', `is none of the model's: ${tasks.join(', ')}`)
  }

  /** The share of the query's words that a document has. */
  async judge({ query, documents }: NativeJudgeRequest): Promise<NativeJudgements> {
    this.#alive()
    const words = (text: string): Set<string> => new Set(text.toLowerCase().match(/\w+/g))
    const wanted = words(query)
    const score = (document: string): number => {
      const found = words(document)
      return [...wanted].filter((word) => found.has(word)).length / Math.max(1, wanted.size)
    }
    const tokens = documents.reduce((sum, text) => sum + encode(query + text).length, 0)
    return Promise.resolve({ scores: Float32Array.from(documents, score), tokens })
  }

  cancel(evaluation: number): void {
    this.#evaluations.get(evaluation)?.()
  }

  async dispose(): Promise<void> {
    this.#disposed = true
    for (const generation of this.#running) generation.fail(disposed())
    this.#running.clear()
    return Promise.resolve()
  }

  #alive(): void {
    if (this.#disposed) throw disposed()
  }

  #needsTokenizer(): void {
    if (!this.#info.hasTokenizer)
      throw new NodeMlxError('NO_TOKENIZER', 'this fake model has no tokenizer')
  }

  #render(messagesJson: string, optionsJson: string): string {
    this.#needsTokenizer()
    if (!this.#info.hasChatTemplate)
      throw new NodeMlxError('NO_CHAT_TEMPLATE', 'this fake model has no chat template')
    return render(messagesJson, optionsJson)
  }

  #tokens(prompt: NativePrompt): ArrayLike<number> & Iterable<number> {
    if (prompt.tokens !== undefined) return prompt.tokens
    const { splitSpecialTokens = false, messagesJson } = prompt
    if (messagesJson === undefined) {
      this.#needsTokenizer()
      return encode(prompt.text ?? '', splitSpecialTokens)
    }
    return encode(this.#render(messagesJson, prompt.templateOptionsJson ?? '{}'))
  }

  /** A request as whoever scripts the answer wants to see it. */
  #ask({ prompt, ...options }: NativeGenerateRequest): FakeRequest {
    const template = JSON.parse(prompt.templateOptionsJson ?? '{}') as { tools?: ToolDefinition[] }
    return {
      index: this.requests.length,
      ...(prompt.messagesJson === undefined
        ? {}
        : { messages: JSON.parse(prompt.messagesJson) as Message[] }),
      ...(template.tools === undefined ? {} : { tools: template.tools }),
      ...(prompt.text === undefined ? {} : { text: prompt.text }),
      ...(prompt.tokens === undefined ? {} : { tokens: Array.from(prompt.tokens) }),
      options: { ...options },
    }
  }

  #newCache(maxTokens?: number): ScriptedPromptCache {
    const cache = new ScriptedPromptCache(maxTokens, {
      check: () => {
        this.#alive()
      },
      forget: (id) => this.#caches.delete(id),
    })
    this.#caches.set(cache.id(), cache)
    return cache
  }

  /** The cache of a request, taken at once, or what is wrong with it. */
  #checkOut(id: number | undefined): ScriptedPromptCache | NodeMlxError | undefined {
    if (id === undefined) return undefined
    const cache = this.#caches.get(id)
    if (cache === undefined)
      return invalidArgument('promptCache', 'has been disposed of, or belongs to another model')
    if (cache.inUse)
      return invalidArgument(
        'promptCache',
        'is in use by a generation: wait for its end, or make another cache',
      )
    cache.inUse = true
    return cache
  }

  /** What a generation is to do; the prompt's tokens are added to `prompt`. */
  async #plan(
    request: NativeGenerateRequest,
    asked: FakeRequest,
    cache: ScriptedPromptCache | NodeMlxError | undefined,
    prompt: number[],
  ): Promise<Plan> {
    if (cache instanceof NodeMlxError) throw cache
    checkEnforceable(request, this.#info.vocabularySize)
    for (const token of this.#tokens(request.prompt)) prompt.push(token)
    const { contextLength = 2 ** 31 - 1, generationDefaults } = this.#info
    const room = contextLength - prompt.length
    if (room <= 0)
      throw new NodeMlxError(
        'CONTEXT_OVERFLOW',
        `the prompt has ${prompt.length} tokens, and the model's context holds ${contextLength}: shorten it`,
        { tokens: prompt.length, contextLength },
      )
    const answer = script(await this.#behaviour.answer(asked), this.#behaviour)
    checkAnswerFits(answer, request)
    answer.steps = readAs(answer.steps, request)
    const { maxTokens = generationDefaults.maxTokens ?? room } = request
    const { logprobs, maxTimeMs, speculation } = request
    const stops = {
      strings: request.stop,
      patterns: request.stopPatterns,
      tokens: request.stopTokens,
      minTokens: request.minTokens,
    }
    return {
      ...limit(answer, stops, Math.min(maxTokens, room)),
      openText: request.responseFormat === undefined ? '' : openAnswer(request.prompt),
      promptTokens: prompt.length,
      cachedTokens: cache?.shared(prompt) ?? this.#prefixes.shared(request, prompt),
      logprobs,
      speculates: speculation?.enabled === true,
      maxTimeMs,
    }
  }
}

/** How often the tokens come up, in fewer numbers than there are tokens. */
function bagOfWords(tokens: number[], dimensions: number, normalize: boolean): number[] {
  const counts = Array.from({ length: dimensions }, () => 0)
  for (const token of tokens) counts[token % dimensions] = (counts[token % dimensions] ?? 0) + 1
  const length = normalize ? Math.hypot(...counts) : 1
  return counts.map((count) => count / Math.max(length, 1e-12))
}

/** Tokens, of which those are likely that are the likely ones from the first on. */
function scored(tokens: number[], likely: number[], top: number): NativeScored {
  const same = alike(tokens, likely)
  const logprob = (index: number): number => (index < same ? -0.125 : -8)
  const likeliest = (token: number, index: number): NativeCandidate[] =>
    Array.from({ length: top }, (_, rank) => {
      const other = rank === 0 ? token : rank - 1 < token ? rank - 1 : rank
      return {
        token: other,
        logprob: logprob(index) - rank,
        text: decode([other], false),
      }
    })
  return {
    tokens: Uint32Array.from(tokens),
    logprobs: Float32Array.from(tokens, (_, index) => logprob(index)),
    texts: tokens.map((token) => decode([token], false)),
    ...(top === 0 ? {} : { top: tokens.map(likeliest) }),
  }
}

/** How many tokens two lists begin alike with. */
function alike(one: readonly number[], other: readonly number[]): number {
  const differs = one.findIndex((token, index) => token !== other[index])
  return differs === -1 ? one.length : differs
}

/** What generations have read, for all that begin alike: the addon's side of the prefix cache. */
class ScriptedPrefixes {
  readonly #kept: { owner: string; tokens: readonly number[] }[] = []

  /** How many of a prompt's tokens need not be read again: never the last one. */
  shared(request: NativeGenerateRequest, prompt: readonly number[]): number {
    if (request.deterministic === true) return 0
    const owner = ownerOf(request)
    const before = prompt.slice(0, -1)
    const known = this.#kept.filter((it) => it.owner === owner)
    const longest = Math.max(0, ...known.map(({ tokens }) => alike(before, tokens)))
    return longest < LEAST_SHARED ? 0 : longest
  }

  keep(request: NativeGenerateRequest, tokens: readonly number[]): void {
    if (request.deterministic === true) return
    this.#kept.push({ owner: ownerOf(request), tokens })
    if (this.#kept.length > MOST_PREFIXES) this.#kept.shift()
  }

  clear(): void {
    this.#kept.length = 0
  }
}

/** Whose caches can take each other's place. */
function ownerOf({ adapter, maxKvSize, kvBits, kvGroupSize }: NativeGenerateRequest): string {
  return JSON.stringify([adapter, maxKvSize, kvBits, kvGroupSize])
}

function disposed(): NodeMlxError {
  return new NodeMlxError('DISPOSED', 'the model has been disposed of')
}

let caches = 0

/** What a prompt cache needs of its model. */
interface CacheOwner {
  /** Throws where it has been disposed of. */
  check: () => void
  forget: (id: number) => void
}

/** The addon's side of a fake model's prompt cache. */
class ScriptedPromptCache implements NativePromptCache {
  inUse = false
  readonly #id = ++caches
  readonly #maxTokens: number
  readonly #owner: CacheOwner
  #tokens: number[] = []

  constructor(maxTokens = Number.POSITIVE_INFINITY, owner: CacheOwner) {
    this.#maxTokens = maxTokens
    this.#owner = owner
  }

  id(): number {
    return this.#id
  }

  async size(): Promise<{ tokens: number; bytes: number }> {
    this.#owner.check()
    const tokens = Math.min(this.#tokens.length, this.#maxTokens)
    return Promise.resolve({ tokens, bytes: tokens * BYTES_PER_TOKEN })
  }

  async save(path: string): Promise<void> {
    this.#owner.check()
    const content = JSON.stringify({ fakePromptCache: spell(this.#tokens) })
    await writeFile(path, content).catch((cause: unknown) => {
      throw new NodeMlxError('IO_ERROR', `cannot write ${path}`, { cause, path })
    })
  }

  dispose(): void {
    this.#owner.forget(this.#id)
  }

  /** How many of a prompt's tokens need not be read again: never the last one. */
  shared(prompt: readonly number[]): number {
    return alike(prompt.slice(0, -1), this.#tokens)
  }

  /** Ends the use by a generation, which leaves its tokens where it did not fail. */
  checkIn(tokens?: number[]): void {
    this.inUse = false
    if (tokens !== undefined) this.#tokens = tokens
  }
}

/** The tokens of a fake model's prompt cache in a file. */
async function readTokens(path: string): Promise<number[]> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new NodeMlxError('INVALID_PROMPT_CACHE', `${path}: there is no such file`, {
      cause,
      path,
    })
  })
  try {
    const content = JSON.parse(text) as { fakePromptCache?: unknown }
    if (!Array.isArray(content.fakePromptCache)) throw new Error('another kind of file')
    return unspell(content.fakePromptCache as (string | number)[])
  } catch (cause) {
    throw new NodeMlxError('INVALID_PROMPT_CACHE', `${path} is no prompt cache of a fake model`, {
      cause,
      path,
    })
  }
}
