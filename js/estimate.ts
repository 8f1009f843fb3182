import { readFile } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { join } from 'node:path'
import { cachePlan, STEP, type CachePlan } from './cache-plan.js'
import { NodeMlxError } from './errors.js'
import { growthOf, type Growth } from './formats.js'
import { HubClient } from './hub/client.js'
import { cacheFolder, endpointAddress, findToken, isOffline } from './hub/environment.js'
import { RepositoryCache } from './hub/cache.js'
import { listFiles } from './hub/listing.js'
import { localSnapshot } from './hub/local.js'
import { locate } from './hub/locate.js'
import type { Repository } from './hub/repository.js'
import { CONFIG } from './hub/selection.js'
import { folderTensorBytes, RemoteFiles } from './hub/tensors.js'
import { transport } from './hub/transport.js'
import { getNative } from './native.js'
import type { Device, EstimateModelOptions, LoadModelOptions, MemoryEstimate } from './types.js'
import { isPlainObject } from './validate.js'

/** Tokens of a conversation of some length, where nobody says how long it will be. */
const USUAL_CONTEXT = 4096
/** How many tokens of a prompt are read at once. */
const CHUNK = { gpu: 2048, cpu: 128 }
/** What can be used of a device's memory; the rest is the system's. */
const SHARE = { gpu: 0.9, cpu: 0.95 }
/** More than any model's context. */
const LONGEST = 2 ** 31

/** What is known of a model before it is loaded. */
interface Outline {
  config: Record<string, unknown>
  /** Bytes of the tensors. */
  weightsBytes: number
}

/**
 * The outline of a folder; `undefined` where it is not that of a model, which loading says better.
 */
async function outlineOf(folder: string, weightsBytes?: number): Promise<Outline | undefined> {
  const text = await readFile(join(folder, CONFIG), 'utf8').catch(() => '')
  return outline(text, async (growth) => weightsBytes ?? (await folderTensorBytes(folder, growth)))
}

async function outline(
  text: string,
  bytesOf: (growth: Growth) => Promise<number | undefined>,
): Promise<Outline | undefined> {
  const config = parsed(text)
  if (config === undefined) return undefined
  const weightsBytes = await bytesOf(growthOf(config))
  return weightsBytes === undefined ? undefined : { config, weightsBytes }
}

function parsed(config: string): Record<string, unknown> | undefined {
  try {
    // As Python writes them.
    const value: unknown = JSON.parse(
      config.replaceAll(/(?<=[:,[\s])-?(?:Infinity|NaN)\b/g, 'null'),
    )
    return isPlainObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

/**
 * The outline of a model by its name: of a repository that is not here it asks for the
 * configuration and the headers alone.
 */
export async function findOutline(model: string, options: EstimateModelOptions): Promise<Outline> {
  const { folder, repository } = await locate(model, options.revision)
  const found =
    folder === undefined ? await outlineOfRepository(repository, options) : await outlineOf(folder)
  if (found !== undefined) return found
  throw new NodeMlxError(
    'INVALID_WEIGHTS',
    `${model} has no config.json or no safetensors that can be read`,
  )
}

async function outlineOfRepository(
  { id, revision }: Repository,
  options: EstimateModelOptions,
): Promise<Outline | undefined> {
  const cache = new RepositoryCache(cacheFolder(options.cacheDir), id)
  const local = await localSnapshot(cache, revision)
  if (local !== undefined && local.missing === undefined) return outlineOf(local.path)
  if (isOffline(options.offline))
    throw new NodeMlxError(
      'OFFLINE',
      `${id} is not in the cache, and nothing may be asked of the hub`,
    )
  const signal = options.signal ?? new AbortController().signal
  const address = endpointAddress(options.endpoint)
  const client = new HubClient(address, await findToken(options.token), transport(options.fetch))
  const files = new RemoteFiles(client, id, await listFiles(client, id, revision, signal), signal)
  const config = await files.read(CONFIG)
  if (config === undefined) return undefined
  return outline(config.toString(), (growth) => files.tensorBytes(growth))
}

/** How much memory a model takes on this machine. */
export function estimate(
  { config, weightsBytes }: Outline,
  { contextLength, sequences = 1, kvBits, device = 'auto' }: EstimateModelOptions,
): MemoryEstimate {
  const kind = device === 'auto' ? getNative().systemInfo().defaultDevice : device
  const availableBytes = memoryOf(kind)
  const text = isPlainObject(config['text_config']) ? config['text_config'] : config
  const size = (name: string): number => {
    const value = text[name]
    return typeof value === 'number' && value > 0 ? value : 0
  }
  const longest = size('max_position_embeddings') || LONGEST
  const length = contextLength ?? Math.min(USUAL_CONTEXT, longest)
  const plan = cachePlan(config)
  const bytes = bytesOfNumbers(config, kind, kvBits)
  const cacheOf = (tokens: number): number =>
    plan === undefined ? 0 : sequences * cacheBytes(plan, tokens, bytes)
  const fixed = weightsBytes + workspace(size, kind)
  const fitsWith = (tokens: number): boolean => fixed + cacheOf(tokens) <= availableBytes
  const peakBytes = Math.ceil(fixed + cacheOf(length))
  const maxContextLength = largest(longest, fitsWith)
  const fits = peakBytes <= availableBytes
  const perToken = plan?.layers.reduce((sum, layer) => sum + layer.perPosition, 0) ?? 0
  return {
    weightsBytes,
    cacheBytesPerToken: perToken * bytes.cached,
    cacheBytes: Math.ceil(cacheOf(length)),
    peakBytes,
    availableBytes,
    contextLength: length,
    maxContextLength,
    fits,
    reason: reasonOf({
      fits,
      weightsBytes,
      peakBytes,
      availableBytes,
      maxContextLength,
      length,
      kind,
    }),
  }
}

/** Bytes of a number in caches that grow, and in states. */
function bytesOfNumbers(
  config: Record<string, unknown>,
  kind: 'gpu' | 'cpu',
  kvBits: number | undefined,
): { cached: number; state: number } {
  const text = isPlainObject(config['text_config']) ? config['text_config'] : {}
  const dtype = text['torch_dtype'] ?? text['dtype'] ?? config['torch_dtype'] ?? config['dtype']
  const plain = dtype === 'float32' ? 4 : 2
  const scales = kind === 'cpu' ? 4 : plain
  // Packed in groups of 64 with a scale and a bias each.
  const cached = kvBits === undefined ? plain : kvBits / 8 + (2 * scales) / 64
  return { cached, state: 4 }
}

function cacheBytes(
  plan: CachePlan,
  tokens: number,
  bytes: { cached: number; state: number },
): number {
  const held = Math.ceil(tokens / STEP) * STEP
  const numbers = plan.layers.reduce(
    // What has a window grows a step ahead, until that is full.
    (sum, { perPosition, positions }) =>
      sum + perPosition * (positions === Infinity ? held : Math.min(held + STEP, positions)),
    0,
  )
  return numbers * bytes.cached + plan.state * bytes.state
}

/** What a chunk of a prompt takes on its way through a layer, and the logits. */
function workspace(size: (name: string) => number, kind: 'gpu' | 'cpu'): number {
  const experts = size('num_experts_per_tok') * size('moe_intermediate_size')
  const inner = Math.max(size('intermediate_size'), experts)
  return CHUNK[kind] * 4 * (8 * size('hidden_size') + 3 * inner) + 8 * size('vocab_size')
}

/** The largest context that fits, 0 where none does. */
function largest(longest: number, fits: (tokens: number) => boolean): number {
  if (fits(longest)) return longest
  let [low, high] = [0, longest]
  while (low + 1 < high) {
    const middle = Math.floor((low + high) / 2)
    if (fits(middle)) low = middle
    else high = middle
  }
  return low
}

/** The memory that models can have on a device. */
function memoryOf(kind: 'gpu' | 'cpu'): number {
  const known = getNative()
    .systemInfo()
    .devices.find((device) => device.kind === kind)?.memoryBytes
  // A container may have less than the machine.
  const limit = kind === 'cpu' ? process.constrainedMemory() : 0
  const memory = known ?? totalmem()
  return SHARE[kind] * (limit > 0 ? Math.min(limit, memory) : memory)
}

function reasonOf(facts: {
  fits: boolean
  weightsBytes: number
  peakBytes: number
  availableBytes: number
  maxContextLength: number
  length: number
  kind: Device
}): string {
  const { fits, weightsBytes, peakBytes, availableBytes, maxContextLength, length, kind } = facts
  const amount = (bytes: number): string =>
    bytes < 1e9 ? `${(bytes / 1e6).toFixed(0)} MB` : `${(bytes / 1e9).toFixed(1)} GB`
  const device = `the ${kind.toUpperCase()} can use ${amount(availableBytes)}`
  if (fits) return `it takes ${amount(peakBytes)}, and ${device}`
  if (maxContextLength > 0)
    return `with ${length} tokens it takes ${amount(peakBytes)}, and ${device}: enough for ${maxContextLength} tokens`
  return `its weights alone take ${amount(weightsBytes)}, and ${device}`
}

/**
 * Refuses a model whose weights cannot fit; gives the largest context that does.
 *
 * @param weightsBytes - How large the weights are that are not in the folder yet.
 */
export async function checkMemory(
  folder: string,
  { device, force }: LoadModelOptions,
  weightsBytes?: number,
): Promise<number | undefined> {
  const found = await outlineOf(folder, weightsBytes)
  if (found === undefined) return undefined
  const { maxContextLength, reason } = estimate(found, { device })
  if (maxContextLength > 0 || force === true) return maxContextLength
  throw new NodeMlxError(
    'INSUFFICIENT_MEMORY',
    `${folder} does not fit: ${reason}. Take a smaller model or one with fewer bits, or try all the same with the option "force".`,
  )
}
