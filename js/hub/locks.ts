import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { NodeMlxError } from '../errors.js'
import { getNative } from '../native.js'
import { names } from './cache.js'
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
 * The locks of all blobs of a repository that somebody has downloaded, or is downloading;
 * `undefined` where one of them is held.
 */
export async function acquireAll(folder: string): Promise<Lock | undefined> {
  const held: Lock[] = []
  const all: Lock = {
    exclusive: true,
    release: () => {
      for (const lock of held) lock.release()
    },
  }
  try {
    for (const name of await names(folder)) {
      const lock = tryLock(join(folder, name))
      if (lock === undefined) {
        all.release()
        return undefined
      }
      held.push(lock)
    }
    return all
  } catch (error) {
    all.release()
    throw fileError(error, folder)
  }
}

/** A lock that nobody holds; `undefined` for one that somebody does. */
function tryLock(path: string): Lock | undefined {
  try {
    const lock = getNative().lockFile(path)
    if (lock === null) return undefined
    return {
      exclusive: true,
      release: () => {
        lock.release()
      },
    }
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'UNSUPPORTED')
      return { exclusive: false, release: () => undefined }
    throw error
  }
}

/**
 * Waits for a lock file's lock. The system gives it up with the process that holds it, so that
 * nobody waits for the dead. The file itself stays, because others may be waiting for the same one.
 *
 * @param onWait - Called as long as somebody else has it.
 */
export async function acquire(
  path: string,
  signal: AbortSignal,
  onWait: () => Promise<void> = () => Promise.resolve(),
): Promise<Lock> {
  try {
    for (let wait = FIRST_WAIT_MS; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
      await mkdir(dirname(path), { recursive: true })
      const lock = tryLock(path)
      if (lock !== undefined) return lock
      await onWait()
      await sleep(wait, undefined, { signal })
    }
  } catch (error) {
    if (signal.aborted || error instanceof NodeMlxError) throw error
    throw fileError(error, path)
  }
}
