import { createHash, type Hash } from 'node:crypto'
import { writeSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'

/**
 * Writes and hashes beside the thread that downloads, which would otherwise have to be asked for
 * each piece after the one before.
 */

export interface HashJob {
  /** Which of the hashes that are under way. */
  id: number
  /** Begins a new hash. */
  algorithm?: string
  /** What is to be hashed. */
  piece?: Uint8Array
  /** The open file that the piece is written to before. */
  fd?: number
  /** Where in the file. */
  at?: number
  /** Ends the hash: the answer is its digest. */
  done?: boolean
}

/** The answer to each job, in their order. */
export interface HashReply {
  digest?: string
  /** Why the piece, or one before it, could not be written. */
  error?: { message: string; code?: string; errno?: number; syscall?: string }
}

interface Stream {
  hash: Hash
  error?: HashReply['error']
}

const streams = new Map<number, Stream>()

parentPort?.on('message', (job: HashJob) => {
  parentPort?.postMessage(answer(job))
})

function answer({ id, algorithm, piece, fd, at = 0, done }: HashJob): HashReply {
  if (algorithm !== undefined) streams.set(id, { hash: createHash(algorithm) })
  const stream = streams.get(id)
  if (stream === undefined) return {}
  if (piece !== undefined) {
    if (fd !== undefined) stream.error ??= write(fd, piece, at)
    if (stream.error !== undefined) return { error: stream.error }
    stream.hash.update(piece)
  }
  if (done !== true) return {}
  streams.delete(id)
  return { digest: stream.hash.digest('hex') }
}

/**
 * The kernel takes memory for a file in pieces as large as what is written. Small ones it has at
 * hand; large ones it may have to make first, which took three times as long.
 */
const WRITTEN_AT_ONCE = 64 << 10

function write(fd: number, piece: Uint8Array, at: number): HashReply['error'] {
  try {
    for (let done = 0; done < piece.byteLength;) {
      const length = Math.min(WRITTEN_AT_ONCE, piece.byteLength - done)
      const written = writeSync(fd, piece, done, length, at + done)
      if (written === 0) return { message: 'the file takes no more bytes' }
      done += written
    }
    return undefined
  } catch (error) {
    const { message, code, errno, syscall } = error as NodeJS.ErrnoException
    return {
      message,
      ...(code !== undefined && { code }),
      ...(errno !== undefined && { errno }),
      ...(syscall !== undefined && { syscall }),
    }
  }
}
