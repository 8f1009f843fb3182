import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { packageFolder } from '../package-folder.js'
import { exists } from '../files.js'
import type { HashJob, HashReply } from './hash-worker.js'

/** Memory that threads share: nothing is copied or handed over from one to the other. */
export type Batch = Uint8Array<SharedArrayBuffer>

/** Bytes of a batch, which must not be touched until they have been used. */
export interface Piece {
  batch: Batch
  from: number
  to: number
}

export function bytesOf({ batch, from, to }: Piece): Batch {
  return batch.subarray(from, to)
}

/** A hash of a stream. */
export interface StreamHash {
  update(piece: Piece): Promise<void>
  /**
   * Writes a piece to an open file and then adds it, where the hash has a thread of its own. After
   * a failure nothing more is written.
   */
  store?(piece: Piece, fd: number, at: number): Promise<void>
  digest(): Promise<string>
}

/** How the blob of an ETag is checked; `undefined` where the ETag is no hash. */
export interface Checksum {
  algorithm: 'sha256' | 'sha1'
  /** What is hashed before the content. */
  prefix: string
}

/**
 * LFS names files by their SHA-256; Git by the SHA-1 of `blob`, the size, a zero byte and the
 * content, so that it cannot begin before the size is known.
 */
export function checksumOf(etag: string, size: number | undefined): Checksum | undefined {
  if (/^[0-9a-f]{64}$/.test(etag)) return { algorithm: 'sha256', prefix: '' }
  if (size === undefined || !/^[0-9a-f]{40}$/.test(etag)) return undefined
  return { algorithm: 'sha1', prefix: `blob ${size}\0` }
}

/** Files of this size and more are written and hashed on a thread of their own. */
const LARGE = 16 << 20

/**
 * The code of the other thread, which is in the package alone: not in a bundle, and not in
 * TypeScript.
 */
function workerFile(): string | undefined {
  const folder = packageFolder()
  const file = folder === undefined ? '' : join(folder, 'dist', 'hub', 'hash-worker.js')
  return exists(file) ? file : undefined
}

/** Makes hashes; those of large files share one thread. */
export class Hashing {
  #thread: HashThread | undefined
  #next = 0

  start({ algorithm, prefix }: Checksum, size = LARGE): StreamHash {
    const thread = size < LARGE ? undefined : (this.#thread ??= launch())
    if (thread === undefined) {
      const hash = createHash(algorithm).update(prefix)
      return {
        update: (piece) => {
          hash.update(bytesOf(piece))
          return Promise.resolve()
        },
        digest: () => Promise.resolve(hash.digest('hex')),
      }
    }
    const id = this.#next++
    const head = new TextEncoder().encode(prefix)
    // Jobs are answered in their order, so nobody needs to wait for the first.
    thread.send({ id, algorithm, piece: head }).catch(() => undefined)
    return {
      update: async (piece) => {
        await thread.send({ id, piece: bytesOf(piece) })
      },
      store: async (piece, fd, at) => {
        const { error } = await thread.send({ id, piece: bytesOf(piece), fd, at })
        if (error !== undefined) throw Object.assign(new Error(error.message), error)
      },
      digest: async () => (await thread.send({ id, done: true })).digest ?? '',
    }
  }

  async end(): Promise<void> {
    await this.#thread?.end()
  }
}

/**
 * Starts the other thread; `undefined` where its code is not here, or a program may not start one.
 */
function launch(): HashThread | undefined {
  const file = workerFile()
  try {
    return file === undefined ? undefined : new HashThread(file)
  } catch {
    return undefined
  }
}

class HashThread {
  readonly #worker: Worker
  readonly #waiting: { resolve: (reply: HashReply) => void; reject: (error: Error) => void }[] = []

  constructor(file: string) {
    this.#worker = new Worker(file)
    this.#worker.on('message', (reply: HashReply) => this.#waiting.shift()?.resolve(reply))
    const fail = (error: Error): void => {
      for (const { reject } of this.#waiting.splice(0)) reject(error)
    }
    this.#worker.on('error', fail)
    this.#worker.on('exit', () => {
      fail(new Error('the thread that hashes has ended'))
    })
  }

  send(job: HashJob): Promise<HashReply> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#worker.postMessage(job)
    })
  }

  async end(): Promise<void> {
    await this.#worker.terminate()
  }
}
