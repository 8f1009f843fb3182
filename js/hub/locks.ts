import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { NodeMlxError } from '../errors.js'
import { getNative } from '../native.js'
import { fileError } from './errors.js'

/** How long to wait before a lock is tried again. */
const FIRST_WAIT_MS = 20
const LONGEST_WAIT_MS = 500

/** A lock that is held: by `flock`, as huggingface_hub does it. */
export interface Lock {
  /** Whether others are kept out: file systems without locks cannot. */
  exclusive: boolean
  release(): void
}

/**
 * Waits for a lock file's lock. The system gives it up with the process that holds it, so that
 * nobody waits for the dead. The file itself stays, because others may be waiting for the same one.
 */
export async function acquire(path: string, signal: AbortSignal): Promise<Lock> {
  const native = getNative()
  try {
    await mkdir(dirname(path), { recursive: true })
    for (let wait = FIRST_WAIT_MS; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
      const lock = native.lockFile(path)
      if (lock !== null) {
        return {
          exclusive: true,
          release: () => {
            lock.release()
          },
        }
      }
      await sleep(wait, undefined, { signal })
    }
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'UNSUPPORTED')
      return { exclusive: false, release: () => undefined }
    if (signal.aborted || error instanceof NodeMlxError) throw error
    throw fileError(error, path)
  }
}
