import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { NodeMlxError } from '../errors.js'
import type { DownloadModelOptions } from '../types.js'
import { exists, RepositoryCache } from './cache.js'
import { download } from './download.js'
import { cacheFolder, isOffline } from './environment.js'
import { localSnapshot } from './local.js'
import { locate } from './locate.js'

const CONFIG = 'adapter_config.json'
/** As PEFT and as mlx-lm names them. */
const WEIGHTS = ['adapter_model.safetensors', 'adapters.safetensors']

/** The folder of an adapter, which is downloaded where it is missing. */
export async function adapterFolder(name: string, options: DownloadModelOptions): Promise<string> {
  const { folder, repository } = await locate(name, options.revision, options.cacheDir).catch(
    (error: unknown) => {
      if (!(error instanceof NodeMlxError) || error.code !== 'MODEL_NOT_FOUND') throw error
      const message = `There is no adapter ${name}: it is neither a folder nor "owner/name"`
      throw new NodeMlxError('MODEL_NOT_FOUND', message, { cause: error })
    },
  )
  if (folder !== undefined) return folder
  const cacheDir = cacheFolder(options.cacheDir)
  const local = await localSnapshot(
    new RepositoryCache(cacheDir, repository.id),
    repository.revision,
  )
  if (local !== undefined && (await isWhole(local.path))) return local.path
  if (isOffline(options.offline)) {
    throw new NodeMlxError(
      'OFFLINE',
      `The adapter ${repository.id} is not in the cache ${cacheDir}, and nothing may be downloaded: HF_HUB_OFFLINE or the option "offline" says so.`,
    )
  }
  const include = [CONFIG, ...WEIGHTS]
  const path = await download(repository, { ...options, include }).then(
    ({ path }) => path,
    (error: unknown) => {
      if (error instanceof NodeMlxError && error.code === 'FILE_NOT_FOUND') return undefined
      throw error
    },
  )
  if (path !== undefined && (await isWhole(path))) return path
  const message = `${repository.id} is no adapter: it has no ${CONFIG}, or no ${WEIGHTS.join(' or ')}`
  throw new NodeMlxError('INVALID_ADAPTER', message, path === undefined ? {} : { path })
}

async function isWhole(folder: string): Promise<boolean> {
  if (!(await exists(join(folder, CONFIG)))) return false
  const weights = await Promise.all(WEIGHTS.map((name) => isFile(join(folder, name))))
  return weights.includes(true)
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() === true
}
