import type {
  Native,
  NativeAdapter,
  NativeBatch,
  NativeCacheLimits,
  NativeEmbeddings,
  NativeEmbedRequest,
  NativeGenerateRequest,
  NativeGeneration,
  NativeJudgements,
  NativeJudgeRequest,
  NativeLoad,
  NativeLoadRequest,
  NativeLoadProgress,
  NativeModel,
  NativeModelInfo,
  NativePrompt,
  NativePromptCache,
  NativeResult,
  NativeScoreRequest,
  NativeScores,
} from '../../js/native.js'
import type { ModelInfo } from '../../js/types.js'

/** What the addon throws: an error with a code, and with what it is about. */
export function nativeError(
  code: string,
  message: string,
  about: { option?: string; path?: string } = {},
): Error {
  return Object.assign(new Error(message), { code, ...about })
}

export function fakeInfo(changes: Partial<ModelInfo> = {}): ModelInfo {
  return {
    architecture: 'llama',
    modelType: 'llama',
    parameters: 8_100_000,
    bytes: 7_400_000,
    quantization: { mode: 'affine', bits: 4, groupSize: 64, mixed: false },
    contextLength: 2048,
    vocabularySize: 100,
    layers: 4,
    device: 'cpu',
    dtype: 'float32',
    maxSequences: 16,
    hasTokenizer: true,
    hasChatTemplate: true,
    eosTokens: [2],
    capabilities: { generate: true, embed: true, rerank: true },
    generationDefaults: {},
    path: '/models/fake',
    warnings: [],
    ...changes,
  }
}

/** A generation whose events the test hands out; it counts how often it was asked. */
export class FakeGeneration implements NativeGeneration {
  readonly request: NativeGenerateRequest
  pulls = 0
  aborts = 0
  readonly #events: (Partial<NativeBatch> | Error)[]
  #tokens = 0
  #wake: (() => void) | undefined

  constructor(request: NativeGenerateRequest, events: (Partial<NativeBatch> | Error)[]) {
    this.request = request
    this.#events = [...events]
  }

  async next(): Promise<NativeBatch> {
    this.pulls++
    while (this.#events.length === 0 && this.aborts === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    const event = this.aborts > 0 ? { done: result('abort', this.#tokens) } : this.#events.shift()
    if (event instanceof Error) throw event
    this.#tokens += event?.tokens?.length ?? 0
    return { text: '', tokens: new Uint32Array(), ...event }
  }

  /** Adds events while the generation runs. */
  emit(...events: (Partial<NativeBatch> | Error)[]): void {
    this.#events.push(...events)
    this.#wake?.()
  }

  abort(): void {
    this.aborts++
    this.#wake?.()
  }
}

export function result(
  finishReason: NativeResult['finishReason'],
  completionTokens: number,
): NativeResult {
  return {
    finishReason,
    usage: { promptTokens: 5, completionTokens, cachedTokens: 0 },
    timings: {
      queueMs: 0,
      prepareMs: 0,
      prefillMs: 1,
      timeToFirstTokenMs: 2,
      promptTokensPerSecond: 1000,
      tokensPerSecond: 100,
      totalMs: 30,
    },
    peakMemoryBytes: 1_000_000,
  }
}

/** The events of an answer of words, one token each. */
export function words(...texts: string[]): Partial<NativeBatch>[] {
  return [
    { prefill: { processed: 5, total: 5, cached: 0 } },
    ...texts.map((text, index) => ({ text, tokens: Uint32Array.of(10 + index) })),
    { done: result('stop', texts.length) },
  ]
}

class FakePromptCache implements NativePromptCache {
  constructor(private readonly calls: unknown[][]) {}

  id(): number {
    return 7
  }

  size(): Promise<{ tokens: number; bytes: number }> {
    return Promise.resolve({ tokens: 0, bytes: 0 })
  }

  save(path: string): Promise<void> {
    this.calls.push(['save', path])
    return Promise.resolve()
  }

  dispose(): void {
    this.calls.push(['dispose'])
  }
}

export class FakeModel implements NativeModel {
  readonly generations: FakeGeneration[] = []
  readonly calls: unknown[][] = []
  disposals = 0
  readonly #info: ModelInfo
  readonly #answer: () => (Partial<NativeBatch> | Error)[]

  constructor(info: ModelInfo, answer: () => (Partial<NativeBatch> | Error)[]) {
    this.#info = info
    this.#answer = answer
  }

  info(): NativeModelInfo {
    return structuredClone(this.#info) as NativeModelInfo
  }

  generate(request: NativeGenerateRequest): FakeGeneration {
    const generation = new FakeGeneration(request, this.#answer())
    this.generations.push(generation)
    return generation
  }

  tokenize(prompt: NativePrompt): Promise<Uint32Array> {
    this.calls.push(['tokenize', prompt])
    const text = 'text' in prompt ? prompt.text : ''
    return Promise.resolve(Uint32Array.from(text, (character) => character.charCodeAt(0) % 100))
  }

  countTokens(prompt: NativePrompt): Promise<number> {
    this.calls.push(['countTokens', prompt])
    return Promise.resolve(7)
  }

  detokenize(tokens: Uint32Array, skipSpecialTokens: boolean): Promise<string> {
    this.calls.push(['detokenize', tokens, skipSpecialTokens])
    return Promise.resolve(tokens.join(' '))
  }

  applyChatTemplate(messagesJson: string, optionsJson: string): Promise<string> {
    this.calls.push(['applyChatTemplate', JSON.parse(messagesJson), JSON.parse(optionsJson)])
    return Promise.resolve('<prompt>')
  }

  promptCache(limits: NativeCacheLimits): NativePromptCache {
    this.calls.push(['promptCache', limits])
    return new FakePromptCache(this.calls)
  }

  loadPromptCache(path: string): Promise<NativePromptCache> {
    this.calls.push(['loadPromptCache', path])
    return Promise.resolve(new FakePromptCache(this.calls))
  }

  clearPrefixCache(): Promise<void> {
    this.calls.push(['clearPrefixCache'])
    return Promise.resolve()
  }

  loadAdapter(path: string): Promise<NativeAdapter> {
    this.calls.push(['loadAdapter', path])
    return Promise.resolve({
      id: () => 1,
      info: () => ({ kind: 'lora', rank: 8, modules: 1, parameters: 1, bytes: 4, path }),
      dispose: () => undefined,
    })
  }

  score(request: NativeScoreRequest): Promise<NativeScores> {
    this.calls.push(['score', request])
    return Promise.resolve({ promptTokens: 1, continuations: [] })
  }

  embed(request: NativeEmbedRequest): Promise<NativeEmbeddings> {
    this.calls.push(['embed', request])
    return Promise.resolve({ data: new Float32Array(), dimensions: 0, tokens: 0 })
  }

  judge(request: NativeJudgeRequest): Promise<NativeJudgements> {
    this.calls.push(['judge', request])
    return Promise.resolve({ scores: new Float32Array(), tokens: 0 })
  }

  cancel(evaluation: number): void {
    this.calls.push(['cancel', evaluation])
  }

  logits(tokens: Uint32Array): Promise<{ data: Float32Array; shape: number[] }> {
    return Promise.resolve({
      data: new Float32Array(tokens.length * this.#info.vocabularySize),
      shape: [tokens.length, this.#info.vocabularySize],
    })
  }

  dispose(): Promise<void> {
    this.disposals++
    return Promise.resolve()
  }
}

/** An addon without MLX, for tests of what TypeScript alone does. */
export class FakeNative implements Native {
  info = fakeInfo()
  answer: () => (Partial<NativeBatch> | Error)[] = () => words('Hello', ' world')
  /** What loading a model does, before it succeeds. */
  onLoad: (load: {
    aborted: boolean
    report: (progress: NativeLoadProgress) => void
  }) => Promise<void> = () => Promise.resolve()
  readonly loads: NativeLoadRequest[] = []
  readonly models: FakeModel[] = []

  nativeVersion(): { addon: string; mlx: string } {
    return { addon: '0.1.0', mlx: '0.32.2' }
  }

  checkMachine(): void {
    // It can.
  }

  checkLoadRequest(): void {
    // It takes everything.
  }

  checkGenerateRequest(): void {
    // It takes everything.
  }

  systemInfo(): ReturnType<Native['systemInfo']> {
    return {
      devices: [{ kind: 'cpu', name: 'A processor', memoryBytes: 16e9 }],
      defaultDevice: 'cpu',
    }
  }

  memoryStats(): ReturnType<Native['memoryStats']> {
    return { activeBytes: 0, cacheBytes: 0, peakBytes: 0 }
  }

  clearMemoryCache(): void {
    // There is none.
  }

  architectureOf(): string {
    return this.info.architecture
  }

  outlineModel(): ReturnType<Native['outlineModel']> {
    const cacheBytes = (tokens: number): number => tokens
    return Promise.resolve({ contextLength: 4096, cacheBytesPerToken: 1, cacheBytes })
  }

  foreignFormat(): null {
    return null
  }

  lockFile(): ReturnType<Native['lockFile']> {
    return { release: () => undefined }
  }

  convertModel(): ReturnType<Native['convertModel']> {
    throw new Error('there is nothing to convert')
  }

  loadModel(
    request: NativeLoadRequest,
    onProgress?: ((progress: NativeLoadProgress) => void) | null,
  ): NativeLoad {
    this.loads.push(request)
    const load = {
      aborted: false,
      report: (progress: NativeLoadProgress) => onProgress?.(progress),
    }
    const run = async (): Promise<NativeModel> => {
      // Reports come from another thread, never within the call.
      await Promise.resolve()
      await this.onLoad(load)
      if (load.aborted) throw nativeError('ABORTED', 'loading was aborted')
      const model = new FakeModel(this.info, this.answer)
      this.models.push(model)
      return model
    }
    const promise = run()
    return {
      promise: () => promise,
      abort: () => {
        load.aborted = true
      },
    }
  }
}
