import { open, stat, type FileHandle } from 'node:fs/promises'
import { NodeMlxError } from '../errors.js'
import { fileError } from './errors.js'
import {
  bytesOf,
  checksumOf,
  type Batch,
  type Hashing,
  type Piece,
  type StreamHash,
} from './hashing.js'

/** Bytes that are written and hashed at once. */
const BATCH = 1 << 20
/** Batches of a file that are under way at the same time. */
const BATCHES = 8

/**
 * Writes a file from its beginning to its end, and hashes what it writes. What is there already is
 * hashed first, and stays.
 */
export class BlobWriter {
  /** Called when nothing is on its way to the file any more. */
  onIdle: () => void = () => undefined
  readonly #path: string
  readonly #etag: string
  readonly #size: number | undefined
  readonly #hashing: Hashing
  #file: FileHandle | undefined
  #hash: StreamHash | undefined
  /** How many bytes the file is to have so far, those included that are on their way. */
  #position = 0
  /** How many of them are in the batch that is being filled. */
  #filled = 0
  #batch: Batch | undefined
  readonly #free: Batch[] = []
  readonly #writing: Promise<void>[] = []
  /** How many of these are under way. */
  #pending = 0
  #stored: Promise<void> = Promise.resolve()

  private constructor(path: string, etag: string, size: number | undefined, hashing: Hashing) {
    this.#path = path
    this.#etag = etag
    this.#size = size
    this.#hashing = hashing
  }

  /** Opens a file that may be there in part. */
  static async open(
    path: string,
    etag: string,
    size: number | undefined,
    hashing: Hashing,
  ): Promise<BlobWriter> {
    const writer = new BlobWriter(path, etag, size, hashing)
    try {
      // Neither "r+" nor "w+" does both: make the file, and keep what is in it.
      await (await open(path, 'a')).close()
      writer.#file = await open(path, 'r+')
      await writer.#resume()
      return writer
    } catch (error) {
      await writer.close()
      throw fileError(error, path)
    }
  }

  get position(): number {
    return this.#position
  }

  /** Whether nothing is on its way to the file. */
  get isIdle(): boolean {
    return this.#pending === 0
  }

  /** Memory for {@link add}, with any content. */
  lend(): Batch {
    return this.#free.pop() ?? this.#newBatch()
  }

  /**
   * Adds a piece of memory that was lent behind the bytes that were added before. The last piece of
   * a batch gives it back.
   */
  async add(piece: Piece, isLast: boolean): Promise<void> {
    this.#flush()
    while (this.#writing.length >= BATCHES) await this.#reclaim()
    this.#send(piece, this.#position, isLast)
    this.#position += piece.to - piece.from
  }

  /** Adds bytes behind those that were added before. */
  async write(data: Uint8Array): Promise<void> {
    let rest = data
    while (rest.byteLength > 0) {
      const batch = (this.#batch ??= await this.#freeBatch())
      const part = rest.subarray(0, batch.byteLength - this.#filled)
      batch.set(part, this.#filled)
      this.#filled += part.byteLength
      this.#position += part.byteLength
      if (this.#filled === batch.byteLength) this.#flush()
      rest = rest.subarray(part.byteLength)
    }
  }

  /**
   * Waits until everything is written; gives the hash of it, as the ETag has it, where the ETag is
   * one.
   */
  async finish(): Promise<string | undefined> {
    await this.settle()
    if (this.#hash === undefined) {
      // The hash of a file whose size nobody said.
      const size = this.#position
      this.#begin(size)
      await this.#hashUntil(size)
    }
    return this.#hash?.digest()
  }

  /** Waits until everything that was added is written. */
  async settle(): Promise<void> {
    this.#flush()
    while (this.#writing.length > 0) await this.#reclaim()
  }

  /** Fails where the file has been removed or replaced: its name means another one now. */
  async checkPlace(): Promise<void> {
    const own = await this.#file?.stat()
    const there = await stat(this.#path).catch(() => undefined)
    if (own?.ino === there?.ino && own?.dev === there?.dev) return
    throw new NodeMlxError(
      'IO_ERROR',
      `${this.#path} was removed while it was being downloaded. Download it again.`,
    )
  }

  /** Throws everything away, to begin again. */
  async reset(): Promise<void> {
    await this.settle()
    try {
      await this.#file?.truncate(0)
    } catch (error) {
      throw fileError(error, this.#path)
    }
    this.#begin(this.#size)
  }

  /** Writes what there is and closes the file, whatever went wrong before. */
  async close(): Promise<void> {
    this.#flush()
    // What cannot be written any more was said where it was waited for.
    await Promise.allSettled(this.#writing.splice(0))
    await this.#file?.close().catch(() => undefined)
    this.#file = undefined
  }

  /**
   * Hashes what an earlier download left; a file that is longer than it should be is none of it.
   */
  async #resume(): Promise<void> {
    const { size: there = 0 } = (await this.#file?.stat()) ?? {}
    this.#begin(this.#size)
    if (this.#size === undefined || there > this.#size) {
      await this.#file?.truncate(0)
      return
    }
    await this.#hashUntil(there)
  }

  /** Hashes the file from {@link position} on. */
  async #hashUntil(end: number): Promise<void> {
    if (this.#hash === undefined) return
    while (this.#position < end) {
      const batch = await this.#freeBatch()
      const { bytesRead = 0 } =
        (await this.#file?.read(batch, 0, batch.byteLength, this.#position)) ?? {}
      if (bytesRead === 0) break
      this.#position += bytesRead
      this.#track(this.#hash.update({ batch, from: 0, to: bytesRead }), batch)
    }
    await this.settle()
  }

  #begin(size: number | undefined): void {
    this.#position = 0
    const checksum = checksumOf(this.#etag, size)
    this.#hash = checksum === undefined ? undefined : this.#hashing.start(checksum, size)
  }

  async #freeBatch(): Promise<Batch> {
    const batch = this.#free.pop()
    if (batch !== undefined) return batch
    if (this.#writing.length >= BATCHES) {
      await this.#reclaim()
      return this.#freeBatch()
    }
    return this.#newBatch()
  }

  #newBatch(): Batch {
    const size = Math.min(BATCH, Math.max(this.#size ?? BATCH, 1))
    return new Uint8Array(new SharedArrayBuffer(size))
  }

  async #reclaim(): Promise<void> {
    await this.#writing.shift()
  }

  #flush(): void {
    const batch = this.#batch
    if (batch === undefined || this.#filled === 0) return
    const [to, at] = [this.#filled, this.#position - this.#filled]
    this.#batch = undefined
    this.#filled = 0
    this.#send({ batch, from: 0, to }, at)
  }

  #send(piece: Piece, at: number, isLast = true): void {
    this.#track(this.#written(piece, at), isLast ? piece.batch : undefined)
  }

  /** Waits for some work, and then takes a batch back. */
  #track(work: Promise<void>, batch: Batch | undefined): void {
    this.#pending++
    const done = work
      .then(() => {
        if (batch !== undefined) this.#free.push(batch)
      })
      .finally(() => {
        this.#pending--
        if (this.isIdle) this.onIdle()
      })
    // An error is thrown where the batch is waited for, which may be later.
    done.catch(() => undefined)
    this.#writing.push(done)
  }

  /** Writes a piece behind the one before, and hashes it. */
  async #written(piece: Piece, at: number): Promise<void> {
    const fd = this.#file?.fd
    if (this.#hash?.store !== undefined && fd !== undefined) {
      await this.#hash.store(piece, fd, at).catch((error: unknown) => {
        throw fileError(error, this.#path)
      })
      return
    }
    // One after the other: a file that is cut off anywhere is the beginning of the whole.
    this.#stored = this.#stored.then(() => this.#store(bytesOf(piece), at))
    await this.#stored
    await this.#hash?.update(piece)
  }

  async #store(data: Uint8Array, at: number): Promise<void> {
    try {
      for (let done = 0; done < data.byteLength;) {
        const rest = data.byteLength - done
        const { bytesWritten = 0 } = (await this.#file?.write(data, done, rest, at + done)) ?? {}
        if (bytesWritten === 0) throw new Error('the file takes no more bytes')
        done += bytesWritten
      }
    } catch (error) {
      throw fileError(error, this.#path)
    }
  }
}
