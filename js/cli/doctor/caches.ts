import { readdir, stat, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { cacheFolder, filled } from '../../hub/environment.js'
import { listModels } from '../../models.js'
import { cachesFolder, type Surroundings } from './surroundings.js'

/** A folder in which something is kept from run to run. */
export interface CacheFolder {
  folder: string
  /** Kernels, or models. */
  entries: number
  bytes: number
  /** The room on its disk, as far as it is known. */
  freeBytes?: number
}

/** The compiled kernels of GPUs: the folder that the addon and MLX keep them in. */
export async function kernelCache({ environment }: Surroundings): Promise<CacheFolder | undefined> {
  const caches = cachesFolder(environment)
  const folder =
    filled(environment, 'MLX_PTX_CACHE_DIR') ?? (caches && join(caches, 'nodemlx', 'cuda'))
  if (folder === undefined) return undefined
  const names = await readdir(folder).catch(() => [])
  const sizes = await Promise.all(
    names.map((name) =>
      stat(join(folder, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  )
  return {
    folder,
    entries: names.filter((name) => name.endsWith('.ptx')).length,
    bytes: sizes.reduce((sum, size) => sum + size, 0),
    ...(await room(folder)),
  }
}

/** The models of the hub. */
export async function hubCache({ environment }: Surroundings): Promise<CacheFolder> {
  const folder = cacheFolder(undefined, environment)
  const models = await listModels({ cacheDir: folder })
  return {
    folder,
    entries: models.length,
    bytes: models.reduce((sum, model) => sum + model.bytes, 0),
    ...(await room(folder)),
  }
}

/** The room on the disk of a folder, or of the one that it will be made in. */
async function room(folder: string): Promise<{ freeBytes?: number }> {
  const found = await statfs(folder).catch(() => undefined)
  if (found !== undefined) return { freeBytes: found.bavail * found.bsize }
  const parent = dirname(folder)
  return parent === folder ? {} : room(parent)
}
