import { createHash, type Hash } from 'node:crypto'
import { parentPort } from 'node:worker_threads'

/** Hashes beside the thread that downloads, so that neither waits for the other. */

export interface HashJob {
  /** Which of the hashes that are under way. */
  id: number
  /** Begins a new hash. */
  algorithm?: string
  /** Comes back with the answer, to be filled again. */
  buffer?: Uint8Array<ArrayBuffer>
  /** How much of the buffer is to be hashed. */
  length?: number
  /** Ends the hash: the answer is its digest. */
  done?: boolean
}

/** The answer to each job, in their order. */
export interface HashReply {
  buffer?: Uint8Array<ArrayBuffer>
  digest?: string
}

const hashes = new Map<number, Hash>()

parentPort?.on('message', ({ id, algorithm, buffer, length, done }: HashJob) => {
  if (algorithm !== undefined) hashes.set(id, createHash(algorithm))
  const hash = hashes.get(id)
  const reply: HashReply = {}
  if (buffer !== undefined) {
    hash?.update(buffer.subarray(0, length))
    reply.buffer = buffer
  }
  if (done === true) {
    reply.digest = hash?.digest('hex') ?? ''
    hashes.delete(id)
  }
  parentPort?.postMessage(reply, buffer === undefined ? [] : [buffer.buffer])
})
