import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { NodeMlxError } from './errors.js'
import { PACKAGE_ROOT, VERSION } from './package-root.js'
import { platformName, platformProblem } from './platform.js'
import type { ModelInfo } from './types.js'

/** The addon's functions and classes, as it exports them; they throw errors with a `code`, and check no types. */
export interface Native {
  nativeVersion(): { addon: string; mlx: string }
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
  tokenize(text: string, addSpecialTokens: boolean): Promise<Uint32Array>
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

export type NativePrompt =
  { text: string } | { tokens: Uint32Array } | { messagesJson: string; templateOptionsJson: string }

export interface NativeGenerateRequest {
  prompt: NativePrompt
  maxTokens?: number
  temperature?: number
  topP?: number
  topK?: number
  minP?: number
  seed?: number
  stop?: string[]
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
    prefillMs?: number
    timeToFirstTokenMs: number
    promptTokensPerSecond: number
    tokensPerSecond: number
    totalMs: number
  }
  peakMemoryBytes: number
}

const requireAddon = createRequire(__filename)
let loaded: { native: Native } | { error: NodeMlxError } | undefined

/** The addon. It is loaded when it is first needed, so that importing the package never throws; a failure is remembered. */
export function getNative(): Native {
  loaded ??= load()
  if ('error' in loaded) throw loaded.error
  return loaded.native
}

function load(): { native: Native } | { error: NodeMlxError } {
  const problem = platformProblem()
  if (problem !== undefined) return { error: new NodeMlxError('UNSUPPORTED_PLATFORM', problem) }
  const failures: { place: string; error: unknown }[] = []
  for (const place of places()) {
    try {
      return { native: requireAddon(place) as Native }
    } catch (error) {
      if (!isMissing(error, place)) failures.push({ place, error })
    }
  }
  return { error: unavailable(failures) }
}

/** Where the addon may be: packages of this platform, the one with CUDA first where that can run, then what was built in this folder. */
function places(): string[] {
  const name = platformName()
  const packages = [`@nodemlx/${name}`]
  if (name === 'linux-x64' && hasNvidiaDriver()) packages.unshift(`@nodemlx/${name}-cuda13`)
  const built = join(PACKAGE_ROOT, 'npm', name, 'nodemlx.node')
  return existsSync(built) ? [...packages, built] : packages
}

function hasNvidiaDriver(): boolean {
  return existsSync('/proc/driver/nvidia/version') || existsSync('/dev/nvidiactl')
}

/** Whether the package itself is not there, and not something that it needs. */
function isMissing(error: unknown, place: string): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    error.code === 'MODULE_NOT_FOUND' &&
    error.message.includes(`'${place}'`)
  )
}

function unavailable(failures: { place: string; error: unknown }[]): NodeMlxError {
  const name = platformName()
  if (failures.length > 0) {
    const list = failures
      .map(
        ({ place, error }) =>
          `\n  ${place}: ${error instanceof Error ? error.message : String(error)}`,
      )
      .join('')
    return new NodeMlxError(
      'ADDON_UNAVAILABLE',
      `The native addon for ${name} could not be loaded:${list}`,
      { cause: failures[0]?.error },
    )
  }
  return new NodeMlxError(
    'ADDON_UNAVAILABLE',
    `The native addon for ${name} is not installed: there is no package @nodemlx/${name}, and no ${join(PACKAGE_ROOT, 'npm', name, 'nodemlx.node')}. ` +
      `Install it with "npm install @nodemlx/${name}@${VERSION}" (it is an optional dependency of nodemlx: npm leaves it out with --omit=optional, ` +
      'and a node_modules folder or lock file made on another system lacks it). In a clone of the project, run "npm run build".',
  )
}
