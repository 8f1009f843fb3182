import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readlink, realpath, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { RepositoryCache } from './cache.js'
import { fileError } from './errors.js'
import { unsafeName } from './file-names.js'
import { checksumOf } from './hashing.js'
import type { ListedFile } from './listing.js'
import { acquire } from './locks.js'

/**
 * Removes the files of a snapshot whose contents are not those that the hub lists, so that they are
 * downloaded again: sizes tell of what was cut off, and nothing of bytes that a disk has lost.
 */
export async function removeDamaged(
  cache: RepositoryCache,
  commit: string,
  files: readonly ListedFile[],
  signal: AbortSignal,
): Promise<void> {
  for (const { name, hash: listed } of files) {
    if (unsafeName(name) !== undefined) continue
    const pointer = join(cache.snapshot(commit), name)
    // Where the list has no hashes, the name of the blob is one.
    const hash = listed ?? basename(await readlink(pointer).catch(() => ''))
    if (!(await isDamaged(pointer, hash, signal))) continue
    const lock = await acquire(cache.lock(hash), signal)
    try {
      // Somebody may have mended it meanwhile. Where links are refused, the blob is another file.
      for (const path of [await realpath(pointer), cache.blob(hash), pointer]) {
        if (path === pointer || (await isDamaged(path, hash, signal)))
          await rm(path, { force: true })
      }
    } catch (error) {
      throw fileError(error, pointer)
    } finally {
      lock.release()
    }
  }
}

/** Whether there is a file with another content than the one of this hash. */
async function isDamaged(path: string, hash: string, signal: AbortSignal): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  const checksum = found?.isFile() === true ? checksumOf(hash, found.size) : undefined
  if (checksum === undefined) return false
  const digest = createHash(checksum.algorithm).update(checksum.prefix)
  await pipeline(createReadStream(path), digest, { signal })
  return digest.digest('hex') !== hash
}
