import { estimate, findOutline } from './estimate.js'
import { download } from './hub/download.js'
import { cacheFolder } from './hub/environment.js'
import { repositoryOf, storedRepositoryOf } from './hub/locate.js'
import { removeStored, storedModels } from './hub/stored.js'
import { downloadOptions, estimateOptions, listOptions, removeOptions } from './options.js'
import type {
  DownloadedModel,
  DownloadModelOptions,
  EstimateModelOptions,
  MemoryEstimate,
  StoredModel,
} from './types.js'
import { nonEmptyString } from './validate.js'

/**
 * Downloads a model into the cache that Python's huggingface_hub uses too, and looks for a newer
 * commit of a branch that is there. A download that was cut off goes on where it ended; every file
 * is checked by its hash.
 *
 * @param id - An alias of `RECOMMENDED_MODELS`, `'owner/name'` or `'owner/name@revision'`.
 */
export async function downloadModel(
  id: string,
  options?: DownloadModelOptions,
): Promise<DownloadedModel> {
  const checked = downloadOptions(options)
  return download(repositoryOf(nonEmptyString(id, 'id'), checked.revision), checked)
}

/**
 * Estimates how much memory a model takes on this machine. Of a repository that is not in the cache
 * only the configuration and the headers of the weights are asked for.
 *
 * @param model - What `loadModel` takes.
 */
export async function estimateModel(
  model: string,
  options?: EstimateModelOptions,
): Promise<MemoryEstimate> {
  const checked = estimateOptions(options)
  return estimate(await findOutline(nonEmptyString(model, 'model'), checked), checked)
}

/** The models in the cache, by name. */
export async function listModels(options?: {
  cacheDir?: string | undefined
}): Promise<StoredModel[]> {
  return storedModels(cacheFolder(listOptions(options).cacheDir))
}

/**
 * Removes a model from the cache: all of it, or one revision and the files that no other revision
 * has.
 *
 * @returns the bytes that became free.
 */
export async function removeModel(
  id: string,
  options?: { revision?: string | undefined; cacheDir?: string | undefined },
): Promise<{ bytes: number }> {
  const { revision, cacheDir } = removeOptions(options)
  const name = nonEmptyString(id, 'id')
  const whole = revision === undefined && !name.includes('@')
  const repository = storedRepositoryOf(name, revision)
  return { bytes: await removeStored(cacheFolder(cacheDir), repository, whole) }
}
