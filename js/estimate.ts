import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { aborted, fromNative, NodeMlxError } from './errors.js'
import { growthOf, QUANTIZATION_FILES, type Growth } from './formats.js'
import { names, RepositoryCache } from './hub/cache.js'
import { HubClient } from './hub/client.js'
import { cacheFolder, endpointAddress, findToken, isOffline } from './hub/environment.js'
import { listFiles } from './hub/listing.js'
import { localSnapshot } from './hub/local.js'
import { locate } from './hub/locate.js'
import type { Repository } from './hub/repository.js'
import { CONFIG, isWeightFile } from './hub/selection.js'
import { outlineOfFolder, RemoteFiles, type TensorOutline } from './hub/tensors.js'
import { transport } from './hub/transport.js'
import { noModel } from './hub/wanted.js'
import { getNative, type NativeOutline } from './native.js'
import type { Device, EstimateModelOptions, LoadModelOptions, MemoryEstimate } from './types.js'
import { isPlainObject } from './validate.js'

/** Tokens of a conversation of some length, where nobody says how long it will be. */
const USUAL_CONTEXT = 4096
/** How many tokens of a prompt are read at once. */
const CHUNK = { gpu: 2048, cpu: 128 }
/** Shorter prompts take what these tokens do. */
const SHORTEST = 32
/** How many layers are computed ahead of the first that is done with its memory. */
const LAYERS = { gpu: 1, cpu: 8 }
/** What can be used of a device's memory; the rest is the system's. */
const SHARE = { gpu: 0.9, cpu: 0.95 }
/** The context of models that name none, as positions are counted. */
const LONGEST = 2 ** 31 - 1

/** What is known of a model before it is loaded. */
export interface Outline {
  config: Record<string, unknown>
  /** Bytes of the tensors. */
  weightsBytes: number
  /** Where it would run. */
  device: 'gpu' | 'cpu'
  /** What its caches take. */
  caches: NativeOutline
}

/** What of the options changes an outline. */
type OutlineOptions = Pick<EstimateModelOptions, 'device' | 'kvBits'>

/**
 * The outline of a folder with a configuration; `undefined` where its weights cannot be read, which
 * loading says better.
 *
 * @param tensors - What is known of the weights where they are somewhere else.
 */
async function outlineOf(
  folder: string,
  { device = 'auto', kvBits }: OutlineOptions,
  tensors?: (growth: Growth) => Promise<TensorOutline | undefined>,
): Promise<Outline | undefined> {
  const text = await readFile(join(folder, CONFIG), 'utf8').catch(() => '')
  const config = parsed(text)
  if (config === undefined) return undefined
  const native = getNative()
  // What cannot run needs no memory.
  native.architectureOf(folder)
  const growth = growthOf(await withQuantization(folder, config))
  const found = await (tensors?.(growth) ?? outlineOfFolder(folder, growth))
  if (found === undefined) return undefined
  const kind = device === 'auto' ? native.systemInfo().defaultDevice : device
  const limits = kvBits === undefined ? {} : { kvBits }
  const caches = await native.outlineModel(folder, found.headers, kind, limits)
  return { config, weightsBytes: found.bytes, device: kind, caches }
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

/** The configuration with what a file beside it says of how weights are quantized. */
async function withQuantization(
  folder: string,
  config: Record<string, unknown>,
): Promise<Record<string, unknown>> {
  const text = isPlainObject(config['text_config']) ? config['text_config'] : {}
  const fields = ['quantization', 'quantization_config']
  if ([config, text].some((it) => fields.some((field) => isPlainObject(it[field])))) return config
  for (const [name, method] of QUANTIZATION_FILES) {
    const said = parsed(await readFile(join(folder, name), 'utf8').catch(() => ''))
    if (said !== undefined)
      return { ...config, quantization_config: { quant_method: method, ...said } }
  }
  return config
}

/**
 * The outline of a model by its name: of a repository that is not here it asks for the
 * configuration and the headers alone.
 */
export async function findOutline(model: string, options: EstimateModelOptions): Promise<Outline> {
  const { signal } = options
  try {
    signal?.throwIfAborted()
    const { folder, repository } = await locate(model, options.revision, options.cacheDir)
    if (folder === undefined) return await outlineOfRepository(repository, options)
    return (await outlineOf(folder, options)) ?? (await throwNoModel(model, folder))
  } catch (error) {
    if (signal?.aborted === true) throw aborted('The estimate', signal.reason)
    throw fromNative(error)
  }
}

/** Says what a folder has in the place of weights that can be read. */
async function throwNoModel(model: string, folder: string): Promise<never> {
  const files = await names(folder)
  if (!files.some(isWeightFile)) {
    throw noModel(
      model,
      files.map((name) => ({ name })),
    )
  }
  throw new NodeMlxError('INVALID_WEIGHTS', `${model} has safetensors that cannot be read`)
}

async function outlineOfRepository(
  { id, revision }: Repository,
  options: EstimateModelOptions,
): Promise<Outline> {
  const cache = new RepositoryCache(cacheFolder(options.cacheDir), id)
  const local = await localSnapshot(cache, revision)
  if (local !== undefined && local.missing === undefined)
    return (await outlineOf(local.path, options)) ?? (await throwNoModel(id, local.path))
  if (isOffline(options.offline))
    throw new NodeMlxError(
      'OFFLINE',
      `${id} is not in the cache, and nothing may be asked of the hub`,
    )
  const signal = options.signal ?? new AbortController().signal
  const address = endpointAddress(options.endpoint)
  const client = new HubClient(address, await findToken(options.token), transport(options.fetch))
  const listing = await listFiles(client, id, revision, signal)
  const files = new RemoteFiles(client, id, listing, signal)
  const config = await files.read(CONFIG)
  if (config === undefined) throw noModel(id, listing.files)
  const folder = await mkdtemp(join(tmpdir(), 'nodemlx-'))
  try {
    await writeFile(join(folder, CONFIG), config)
    for (const [name] of QUANTIZATION_FILES) {
      const said = await files.read(name)
      if (said !== undefined) await writeFile(join(folder, name), said)
    }
    const found = await outlineOf(folder, options, (growth) => files.outline(growth))
    if (found === undefined) throw noModel(id, listing.files)
    return found
  } catch (error) {
    const known = fromNative(error)
    if (!(known instanceof NodeMlxError) || !known.message.includes(folder)) throw known
    // The folder is none that anybody knows.
    throw new NodeMlxError(known.code, known.message.replaceAll(folder, id), { cause: error })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** How much memory a model takes on this machine. */
export function estimate(
  { config, weightsBytes, device, caches }: Outline,
  { contextLength, sequences = 1 }: EstimateModelOptions,
): MemoryEstimate {
  const availableBytes = memoryOf(device)
  const text = isPlainObject(config['text_config']) ? config['text_config'] : config
  const size = (name: string): number => {
    const value = text[name]
    return typeof value === 'number' && value > 0 ? value : 0
  }
  const longest = caches.contextLength ?? LONGEST
  const length = contextLength ?? Math.min(USUAL_CONTEXT, longest)
  const cacheOf = (tokens: number): number => sequences * caches.cacheBytes(tokens)
  const peakOf = (tokens: number): number => {
    const cacheBytes = cacheOf(tokens)
    return weightsBytes + cacheBytes + workspace(size, device, tokens, cacheBytes)
  }
  const fitsWith = (tokens: number): boolean => peakOf(tokens) <= availableBytes
  const peakBytes = Math.ceil(peakOf(length))
  const facts = {
    weightsBytes,
    peakBytes,
    availableBytes,
    contextLength: length,
    maxContextLength: largest(longest, fitsWith),
    fits: peakBytes <= availableBytes,
  }
  return {
    ...facts,
    cacheBytesPerToken: caches.cacheBytesPerToken,
    cacheBytes: cacheOf(length),
    reason: reasonOf(facts, device, longest),
  }
}

/**
 * What computing a chunk of a prompt takes, and the logits. Measured with models of 2 to 48 layers:
 * so many of them have their results in memory at once, and beside them a third more and the cache
 * of a layer that grows.
 */
function workspace(
  size: (name: string) => number,
  kind: 'gpu' | 'cpu',
  tokens: number,
  cacheBytes: number,
): number {
  const experts = size('num_experts_per_tok') * size('moe_intermediate_size')
  const inner = Math.max(size('intermediate_size'), experts)
  const layers = size('num_hidden_layers') || LAYERS[kind]
  const read = Math.min(CHUNK[kind], Math.max(tokens, SHORTEST))
  const layer = read * 4 * (8 * size('hidden_size') + 3 * inner)
  return (
    (4 / 3) * Math.min(layers, LAYERS[kind]) * layer + cacheBytes / layers + 8 * size('vocab_size')
  )
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
  return Math.floor(SHARE[kind] * (limit > 0 ? Math.min(limit, memory) : memory))
}

function reasonOf(
  facts: Omit<MemoryEstimate, 'cacheBytesPerToken' | 'cacheBytes' | 'reason'>,
  kind: Device,
  longest: number,
): string {
  const { fits, weightsBytes, peakBytes, availableBytes, maxContextLength, contextLength } = facts
  const amount = (bytes: number): string =>
    bytes < 1e9 ? `${(bytes / 1e6).toFixed(0)} MB` : `${(bytes / 1e9).toFixed(1)} GB`
  const device = `the ${kind.toUpperCase()} can use ${amount(availableBytes)}`
  const beyond = contextLength > longest ? `; the model is made for ${longest} tokens` : ''
  if (fits) return `it takes ${amount(peakBytes)}, and ${device}${beyond}`
  if (maxContextLength > 0)
    return `with ${contextLength} tokens it takes ${amount(peakBytes)}, and ${device}: enough for ${maxContextLength} tokens${beyond}`
  return `its weights alone take ${amount(weightsBytes)}, and ${device}`
}

/**
 * Refuses a model whose weights cannot fit; gives the largest context that does.
 *
 * @param weightsBytes - How large the weights are that are not in the folder yet.
 */
export async function checkMemory(
  folder: string,
  { device, force, contextLength = Infinity }: LoadModelOptions,
  weightsBytes?: number,
): Promise<number | undefined> {
  const tensors =
    weightsBytes === undefined
      ? undefined
      : () => Promise.resolve({ bytes: weightsBytes, headers: [] })
  // What is wrong with its files loading says, with all that it knows.
  const found = await outlineOf(folder, { device }, tensors).catch(() => undefined)
  if (found === undefined) return undefined
  const { maxContextLength, reason } = estimate(found, {})
  if (maxContextLength > 0 || force === true) return Math.min(maxContextLength, contextLength)
  throw new NodeMlxError(
    'INSUFFICIENT_MEMORY',
    `${folder} does not fit: ${reason}. Take a smaller model or one with fewer bits, or try all the same with the option "force".`,
  )
}
