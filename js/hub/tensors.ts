import { open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { NodeMlxError } from '../errors.js'
import type { Growth } from '../formats.js'
import type { HubClient } from './client.js'
import { Content } from './content.js'
import { persistently } from './failures.js'
import { contentAddress, describe, type Listing } from './listing.js'
import { names } from './cache.js'
import { INDEX, indexedFiles, isWeightFile } from './selection.js'
import { readFile } from 'node:fs/promises'

/** Headers are a list of tensors; a larger one is none. */
const MAX_HEADER = 100 << 20
/** Most headers come with the first request. */
const FIRST_READ = 256 << 10

/** Parts of a checkpoint that see images or hear are left aside when a model is loaded. */
const LEFT_ASIDE =
  /^(model\.)?(visual|vision_tower|audio_tower|embed_vision|embed_audio|multi_modal_projector)\./

/** Reads some bytes of a file from its beginning; fewer where it ends. */
export type ReadStart = (length: number) => Promise<Buffer>

/** What the headers of safetensors files tell. */
export interface TensorOutline {
  /** The bytes that the tensors which a model loads take. */
  bytes: number
  headers: string[]
}

/** What a safetensors file's header tells; `undefined` where it is none, or longer than the file. */
export async function outlineOfFile(
  read: ReadStart,
  size: number,
  growth: Growth,
): Promise<TensorOutline | undefined> {
  let start = await read(Math.min(FIRST_READ, size))
  if (start.length < 8) return undefined
  const length = Number(start.readBigUInt64LE(0))
  if (length > MAX_HEADER || length + 8 > size) return undefined
  if (start.length < length + 8) start = await read(length + 8)
  const text = start.toString('utf8', 8, length + 8)
  let header: unknown
  try {
    header = JSON.parse(text)
  } catch {
    return undefined
  }
  let bytes = 0
  for (const [name, tensor] of Object.entries((header ?? {}) as Record<string, unknown>)) {
    const { data_offsets: offsets, dtype } = (tensor ?? {}) as Record<string, unknown>
    if (name === '__metadata__' || !Array.isArray(offsets)) continue
    const [from, to] = offsets as unknown[]
    if (typeof from !== 'number' || typeof to !== 'number' || to + length + 8 > size)
      return undefined
    if (!LEFT_ASIDE.test(name)) bytes += Math.ceil((to - from) * growth(name, String(dtype)))
  }
  return { bytes, headers: [text] }
}

/** What all files tell; `undefined` where one of them does not, or there is nothing. */
async function outlineOfAll<T>(
  files: readonly T[],
  outlineOf: (file: T) => Promise<TensorOutline | undefined>,
): Promise<TensorOutline | undefined> {
  const all: TensorOutline = { bytes: 0, headers: [] }
  for (const file of files) {
    const outline = await outlineOf(file)
    if (outline === undefined) return undefined
    all.bytes += outline.bytes
    all.headers.push(...outline.headers)
  }
  return all.bytes === 0 ? undefined : all
}

/** What the weights in a folder tell. */
export async function outlineOfFolder(
  folder: string,
  growth: Growth,
): Promise<TensorOutline | undefined> {
  const index = await readFile(join(folder, INDEX), 'utf8').catch(() => undefined)
  const weights =
    (index === undefined ? undefined : indexedFiles(index)) ??
    (await names(folder)).filter(isWeightFile)
  return outlineOfAll(weights, (name) =>
    outlineOfPath(join(folder, name), growth).catch(() => undefined),
  )
}

async function outlineOfPath(path: string, growth: Growth): Promise<TensorOutline | undefined> {
  const { size } = await stat(path)
  const file = await open(path)
  try {
    const read: ReadStart = async (length) => {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, 0)
      return buffer.subarray(0, bytesRead)
    }
    return await outlineOfFile(read, size, growth)
  } finally {
    await file.close()
  }
}

/** Reads small files of a repository, and headers of large ones, without keeping them. */
export class RemoteFiles {
  readonly #client: HubClient
  readonly #id: string
  readonly #listing: Listing
  readonly #signal: AbortSignal

  constructor(client: HubClient, id: string, listing: Listing, signal: AbortSignal) {
    this.#client = client
    this.#id = id
    this.#listing = listing
    this.#signal = signal
  }

  /** A file's first bytes, or all of them; `undefined` where there is no such file. */
  async read(name: string, length?: number): Promise<Buffer | undefined> {
    const { commit, files } = this.#listing
    if (!files.some((file) => file.name === name)) return undefined
    const { endpoint, token } = this.#client
    const asked = { id: this.#id, revision: commit, file: name, endpoint, token }
    const address = contentAddress(this.#client, this.#id, commit, name)
    const content = new Content(this.#client, address, asked, undefined)
    const range = length === undefined ? { from: 0 } : { from: 0, to: length - 1 }
    return persistently(this.#signal, async () => {
      const parts: Uint8Array[] = []
      let size = 0
      await content.read(range, this.#signal, (data) => {
        size += data.byteLength
        if (size > MAX_HEADER)
          throw new NodeMlxError('HUB_ERROR', `${this.#id}: ${name} is too large`)
        parts.push(data)
      })
      return Buffer.concat(parts)
    })
  }

  /** What the weights tell. */
  async outline(growth: Growth): Promise<TensorOutline | undefined> {
    const { commit, files } = this.#listing
    const index = (await this.read(INDEX))?.toString()
    const indexed = index === undefined ? undefined : indexedFiles(index)
    const weights = files.filter(({ name }) => indexed?.includes(name) ?? isWeightFile(name))
    return outlineOfAll(weights, async (file) => {
      const { size = 0 } = await describe(this.#client, this.#id, commit, file, this.#signal)
      const read: ReadStart = async (length) =>
        (await this.read(file.name, length)) ?? Buffer.alloc(0)
      return outlineOfFile(read, size, growth)
    })
  }
}
