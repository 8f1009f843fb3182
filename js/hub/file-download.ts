import { rename, rm, stat } from 'node:fs/promises'
import { NodeMlxError } from '../errors.js'
import { onAbort } from '../signal.js'
import { BlobWriter } from './blob-writer.js'
import type { RepositoryCache } from './cache.js'
import type { HubClient } from './client.js'
import type { Slots } from './connections.js'
import { Content, ContentChanged, RangesIgnored } from './content.js'
import type { Room } from './direct.js'
import { fileError } from './errors.js'
import { Backoff } from './failures.js'
import type { Hashing, Piece } from './hashing.js'
import { contentAddress, type RemoteFile } from './listing.js'
import { acquire } from './locks.js'
import type { DownloadProgress } from './progress.js'

/** Large files are asked for in parts of this size, of which a few are on their way at once. */
const PART = 8 << 20
const PARTS = 4

/** What the downloads of one snapshot share. */
export interface DownloadContext {
  client: HubClient
  cache: RepositoryCache
  commit: string
  hashing: Hashing
  connections: Slots
  progress: DownloadProgress
  signal: AbortSignal
}

/**
 * Sees to it that the cache has the blob of a file; another process that does so already is waited
 * for.
 */
export async function downloadBlob(file: RemoteFile, context: DownloadContext): Promise<void> {
  const { cache, progress, signal } = context
  const blob = cache.blob(file.etag)
  if (await isThere(blob, file.size)) {
    progress.found(file.name, file.size ?? 0)
    return
  }
  // What somebody else downloads comes here, too.
  let theirs = 0
  const lock = await acquire(cache.lock(file.etag), signal, async () => {
    const growing = await stat(cache.incomplete(file.etag, true)).catch(() => undefined)
    progress.found(file.name, (growing?.size ?? theirs) - theirs)
    if ((growing?.size ?? theirs) === theirs)
      progress.waits(file.name, 'for another process, which downloads it')
    theirs = growing?.size ?? theirs
  })
  try {
    if (await isThere(blob, file.size)) {
      progress.found(file.name, (file.size ?? theirs) - theirs)
      return
    }
    progress.found(file.name, -theirs)
    const partial = cache.incomplete(file.etag, lock.exclusive)
    try {
      await new FileDownload(file, partial, context).run()
      await rename(partial, blob).catch((error: unknown) => {
        throw fileError(error, blob)
      })
    } finally {
      // Where others cannot be kept out the file was this download's alone, and nobody goes on with
      // it.
      if (!lock.exclusive) await rm(partial, { force: true })
    }
  } finally {
    lock.release()
  }
}

async function isThere(path: string, size: number | undefined): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  return found?.isFile() === true && (size === undefined || found.size === size)
}

/** A file that is downloaded from where an earlier download ended. */
class FileDownload {
  readonly #file: RemoteFile
  readonly #path: string
  readonly #context: DownloadContext
  readonly #content: Content
  readonly #onWait: (reason: string) => void
  readonly #backoff: Backoff
  #inParts: boolean
  /** The content is known to be another one than was announced. */
  #wrong = false
  #changed = false

  constructor(file: RemoteFile, path: string, context: DownloadContext) {
    const { client, cache, commit, signal } = context
    const { endpoint, token } = client
    const asked = { id: cache.id, revision: commit, file: file.name, endpoint, token }
    this.#file = file
    this.#path = path
    this.#context = context
    const address = contentAddress(client, cache.id, commit, file.name)
    this.#content = new Content(client, address, asked, file.size)
    this.#onWait = (reason) => {
      context.progress.waits(file.name, reason)
    }
    this.#backoff = new Backoff(signal, this.#onWait)
    this.#inParts = file.size !== undefined && file.size >= 2 * PART
  }

  async run(): Promise<void> {
    const { hashing, progress } = this.#context
    const { name, etag, size } = this.#file
    const writer = await BlobWriter.open(this.#path, etag, size, hashing)
    let complete = false
    try {
      const leftover = writer.position
      progress.found(name, leftover)
      complete = await this.#attempt(writer)
      // The beginning may be that of another file: what was there before, or before the hub changed
      // it.
      if (!complete && (leftover > 0 || this.#changed)) {
        progress.found(name, -writer.position)
        await writer.reset()
        complete = await this.#attempt(writer)
      }
      if (!complete) throw this.#mismatch()
      await writer.checkPlace()
    } finally {
      await writer.close()
      // What is known to be wrong helps nobody.
      if (this.#wrong && !complete) await rm(this.#path, { force: true })
    }
  }

  /** Downloads what is missing; `false` where that is not the file that was announced. */
  async #attempt(writer: BlobWriter): Promise<boolean> {
    this.#wrong = false
    try {
      await this.#fill(writer)
    } catch (error) {
      if (!(error instanceof ContentChanged)) throw error
      this.#changed = true
      this.#wrong = true
      return false
    }
    const digest = await writer.finish()
    this.#wrong = digest !== undefined && digest !== this.#file.etag
    return !this.#wrong
  }

  async #fill(writer: BlobWriter): Promise<void> {
    const { size } = this.#file
    while (size === undefined || writer.position < size) {
      const before = writer.position
      try {
        if (this.#inParts && size !== undefined) await this.#readParts(writer, size)
        else await this.#readOn(writer)
        if (size === undefined) return
      } catch (error) {
        if (error instanceof RangesIgnored) {
          this.#inParts = false
          continue
        }
        if (writer.position > before) this.#backoff.succeeded()
        await this.#backoff.pause(error)
      }
    }
  }

  /**
   * Reads to the end over one connection. A server that begins at the beginning is read past what
   * is there.
   */
  async #readOn(writer: BlobWriter): Promise<void> {
    const { connections, signal } = this.#context
    await connections.use(signal, () =>
      this.#content.read({ from: writer.position }, signal, async (data, at) => {
        const known = writer.position - at
        if (known < data.byteLength) await this.#take(writer, data.subarray(known))
      }),
    )
  }

  /** Reads to the end in several parts at once, which are written in their order. */
  async #readParts(writer: BlobWriter, size: number): Promise<void> {
    const controller = new AbortController()
    const { signal: outer } = this.#context
    const forget = onAbort(outer, () => {
      controller.abort(outer.reason)
    })
    const parts: Part[] = []
    let next = writer.position
    const launch = (): void => {
      if (next >= size) return
      const end = Math.min(next + PART, size)
      const range = { from: next, end }
      const { connections } = this.#context
      const backoff = new Backoff(controller.signal, this.#onWait)
      parts.push(new Part(this.#content, range, writer, connections, backoff, controller.signal))
      next = end
    }
    try {
      for (let count = 0; count < PARTS; count++) launch()
      for (let part = parts.shift(); part !== undefined; part = parts.shift()) {
        await part.drain((length) => {
          this.#context.progress.arrived(this.#file.name, length)
        })
        this.#backoff.succeeded()
        launch()
      }
    } finally {
      forget()
      controller.abort()
      await Promise.all(parts.map((part) => part.ended))
      this.#content.end()
    }
  }

  async #take(writer: BlobWriter, data: Uint8Array): Promise<void> {
    await writer.write(data)
    this.#context.progress.arrived(this.#file.name, data.byteLength)
  }

  #mismatch(): NodeMlxError {
    const { cache, client } = this.#context
    const { name, etag, size } = this.#file
    return new NodeMlxError(
      'HASH_MISMATCH',
      `${cache.id}: ${name} from ${client.endpoint.host} is not the file that the hub describes (${size ?? '?'} bytes, hash ${etag}). ` +
        'It has been thrown away. Try again; if that does not help, the file is broken on the hub, or something on the way changes it.',
    )
  }
}

/** A part of a file that is held in memory until its turn comes to be written. */
class Part implements Room {
  /** Resolves once nothing comes any more, also after a failure. */
  readonly ended: Promise<void>
  readonly #writer: BlobWriter
  readonly #pieces: { piece: Piece; isLast: boolean }[] = []
  /** The piece that is being filled. */
  #filling: Piece | undefined
  #state: 'running' | 'done' | { error: unknown } = 'running'
  #wake: () => void = () => undefined

  constructor(
    content: Content,
    { from, end }: { from: number; end: number },
    writer: BlobWriter,
    slots: Slots,
    backoff: Backoff,
    signal: AbortSignal,
  ) {
    this.#writer = writer
    this.ended = slots
      .use(signal, () => this.#run(content, from, end, backoff, signal))
      .then(
        () => {
          this.#state = 'done'
        },
        (error: unknown) => {
          this.#state = { error }
        },
      )
      .then(() => {
        this.#wake()
      })
  }

  async #run(
    content: Content,
    from: number,
    end: number,
    backoff: Backoff,
    signal: AbortSignal,
  ): Promise<void> {
    let at = from
    while (at < end) {
      signal.throwIfAborted()
      try {
        await content.readPart({ from: at, to: end - 1 }, signal, this, (length) => {
          at += length
          backoff.succeeded()
          this.#wake()
        })
      } catch (error) {
        await backoff.pause(error)
      }
    }
  }

  space(): Uint8Array {
    this.#filling ??= { batch: this.#writer.lend(), from: 0, to: 0 }
    return this.#filling.batch.subarray(this.#filling.to)
  }

  fill(length: number): void {
    const piece = this.#filling
    if (piece === undefined) return
    piece.to += length
    if (piece.to === piece.batch.byteLength) this.#close()
  }

  /** The batch that is being filled gets nothing more. */
  #close(): void {
    if (this.#filling !== undefined) this.#pieces.push({ piece: this.#filling, isLast: true })
    this.#filling = undefined
  }

  /** Splits off what has come; more may already be on its way behind it. */
  #split(): void {
    if (this.#filling === undefined || this.#filling.to === this.#filling.from) return
    this.#pieces.push({ piece: { ...this.#filling }, isLast: false })
    this.#filling.from = this.#filling.to
  }

  /**
   * Writes the bytes as they come: in whole batches, or in what there is where the writer has
   * nothing to do, or nothing more comes.
   */
  async drain(onWritten: (length: number) => void): Promise<void> {
    this.#writer.onIdle = () => {
      this.#wake()
    }
    for (;;) {
      if (this.#pieces.length === 0) {
        if (this.#state !== 'running') this.#close()
        else if (this.#writer.isIdle) this.#split()
      }
      const next = this.#pieces.shift()
      if (next !== undefined) {
        await this.#writer.add(next.piece, next.isLast)
        onWritten(next.piece.to - next.piece.from)
      } else if (this.#state === 'done') {
        return
      } else if (this.#state !== 'running') {
        throw this.#state.error
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      }
    }
  }
}
