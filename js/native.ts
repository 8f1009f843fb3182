import { NodeMlxError } from './errors.js'
import { exists } from './files.js'
import { requireAddon } from './installation.js'
import { basesOfBundle, builtAddon } from './package-folder.js'
import { platformName, platformProblem } from './platform.js'
import { requireFrom } from './require.js'
import type { ModelInfo } from './types.js'
import { unavailable, isMissing, type Failure } from './unavailable.js'

/** The addon's functions and classes, as it exports them; they throw errors with a `code`, and check no types. */
export interface Native {
  nativeVersion(): { addon: string; mlx: string }
  /** Throws where MLX cannot run at all. Missing in addons of earlier versions. */
  checkMachine?(): void
  systemInfo(): NativeSystemInfo
  memoryStats(): { activeBytes: number; cacheBytes: number; peakBytes: number }
  clearMemoryCache(): void
  resolveModel(model: string): Promise<string>
  recommendedModels(): { alias: string; repository: string }[]
  loadModel(
    request: NativeLoadRequest,
    onProgress?: (progress: NativeLoadProgress) => void,
  ): NativeLoad
}

export interface NativeSystemInfo {
  devices: { kind: 'gpu' | 'cpu'; name?: string; memoryBytes?: number }[]
  defaultDevice: 'gpu' | 'cpu'
}

export interface NativeLoadRequest {
  path: string
  device: string
  dtype: string
  threads?: number
  precision?: string
}

export interface NativeLoadProgress {
  stage: string
  loadedBytes: number
  totalBytes: number
}

/** A model that is being loaded. */
export interface NativeLoad {
  promise(): Promise<NativeModel>
  abort(): void
}

export interface NativeModel {
  info(): ModelInfo
  generate(request: NativeGenerateRequest): NativeGeneration
  tokenize(prompt: NativePrompt): Promise<Uint32Array>
  countTokens(prompt: NativePrompt): Promise<number>
  detokenize(tokens: Uint32Array, skipSpecialTokens: boolean): Promise<string>
  applyChatTemplate(messagesJson: string, optionsJson: string): Promise<string>
  promptCache(limits: NativeCacheLimits): NativePromptCache
  loadPromptCache(path: string): Promise<NativePromptCache>
  logits(tokens: Uint32Array): Promise<{ data: Float32Array; shape: number[] }>
  dispose(): Promise<void>
}

export interface NativeCacheLimits {
  maxKvSize?: number
  kvBits?: number
  kvGroupSize?: number
}

export interface NativePromptCache {
  /** The number by which a request names it. */
  id(): number
  size(): Promise<{ tokens: number; bytes: number }>
  save(path: string): Promise<void>
  dispose(): void
}

export type NativePrompt = (
  | { text: string; addSpecialTokens?: boolean }
  | { tokens: Uint32Array }
  | { messagesJson: string; templateOptionsJson: string }
) & { splitSpecialTokens?: boolean }

export interface NativeGenerateRequest {
  prompt: NativePrompt
  maxTokens?: number
  temperature?: number
  topP?: number
  topK?: number
  minP?: number
  seed?: number
  stop?: string[]
  skipSpecialTokens?: boolean
  repetitionPenalty?: number
  repetitionContextSize?: number
  presencePenalty?: number
  frequencyPenalty?: number
  logitBias?: Record<number, number>
  xtcProbability?: number
  xtcThreshold?: number
  logprobs?: number
  maxKvSize?: number
  kvBits?: number
  kvGroupSize?: number
  promptCache?: number
  /** End tokens are tokens like others: a generation ends at its limit. For measurements. */
  ignoreEos?: boolean
}

/** An answer that is being generated; whoever holds it pulls its events. */
export interface NativeGeneration {
  /** Resolves as soon as there is something new, with all of it; after the last batch always with that one. */
  next(): Promise<NativeBatch>
  abort(): void
}

export interface NativeLogprob {
  token: number
  logprob: number
  text?: string
  top: { token: number; logprob: number; text?: string }[]
}

export interface NativeBatch {
  text: string
  tokens: Uint32Array
  logprobs?: NativeLogprob[]
  prefill?: { processed: number; total: number }
  done?: NativeResult
}

export interface NativeResult {
  finishReason: 'stop' | 'length' | 'abort'
  stopString?: string
  usage: { promptTokens: number; completionTokens: number; cachedTokens: number }
  timings: {
    queueMs: number
    prepareMs: number
    prefillMs?: number
    timeToFirstTokenMs: number
    promptTokensPerSecond: number
    tokensPerSecond: number
    totalMs: number
  }
  peakMemoryBytes: number
}

let loaded: { native: Native } | { error: NodeMlxError } | undefined

/** The addon. It is loaded when it is first needed, so that importing the package never throws; a failure is remembered. */
export function getNative(): Native {
  loaded ??= load()
  if ('error' in loaded) throw loaded.error
  return loaded.native
}

/** Somewhere the addon may be. */
interface Place {
  /** What is loaded there: a package or a file. */
  name: string
  load: () => unknown
}

function load(): { native: Native } | { error: NodeMlxError } {
  const problem = platformProblem()
  if (problem !== undefined) return { error: new NodeMlxError('UNSUPPORTED_PLATFORM', problem) }
  const failures: Failure[] = []
  for (const place of places()) {
    try {
      return { native: place.load() as Native }
    } catch (error) {
      if (!isMissing(error, place.name)) failures.push({ place: place.name, error })
    }
  }
  return { error: unavailable(failures) }
}

/** The packages of this platform, the one with CUDA first where that can run, then what was built in this folder. */
function places(): Place[] {
  const platform = platformName()
  const platforms = [platform]
  if (platform === 'linux-x64' && hasNvidiaDriver()) platforms.unshift(`${platform}-cuda13`)
  const packages = platforms.map((name) => ({
    name: `@nodemlx/${name}`,
    load: () => requireAddon(name),
  }))
  const beside = basesOfBundle().flatMap((base) =>
    packages.map(({ name }) => ({ name, load: () => requireFrom(base)(name) as unknown })),
  )
  const built = builtAddon()
  if (built === undefined || !exists(built)) return [...packages, ...beside]
  return [...packages, ...beside, { name: built, load: () => requireFrom(built)(built) as unknown }]
}

function hasNvidiaDriver(): boolean {
  return exists('/proc/driver/nvidia/version') || exists('/dev/nvidiactl')
}
