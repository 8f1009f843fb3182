import { stat } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { unpacked } from '../asar.js'
import { invalidArgument, NodeMlxError } from '../errors.js'
import { getNative } from '../native.js'
import { demoFolder } from '../package-folder.js'
import { exists as isHereAt, permissionHint } from '../files.js'
import { exists, RepositoryCache } from './cache.js'
import { cacheFolder, expand } from './environment.js'
import { localSnapshot } from './local.js'
import {
  aliased,
  didYouMean,
  isRevision,
  MAIN,
  parseRepository,
  parseWithoutOwner,
  type Repository,
} from './repository.js'

/** What a model's name means: a folder, or a repository on the hub. */
export type Place =
  { folder: string; repository?: undefined } | { repository: Repository; folder?: undefined }

/**
 * Finds out what a name means: `'demo'`, a folder, an alias or `owner/name[@revision]`, in this
 * order. Asks nothing of the network.
 */
export async function locate(model: string, revision?: string, cacheDir?: string): Promise<Place> {
  const folder = await folderOf(model)
  if (folder !== undefined) {
    if (revision === undefined) return { folder }
    throw invalidArgument('revision', `has no meaning for ${model}, which is a folder`)
  }
  const repository =
    parseRepository(aliased(model) ?? model) ?? (await cachedWithoutOwner(model, cacheDir))
  if (repository === undefined) {
    const hints = didYouMean(model) + permissionHint(resolve(model))
    throw new NodeMlxError(
      'MODEL_NOT_FOUND',
      `There is no folder ${model}, and it is neither an alias nor "owner/name"${hints}`,
    )
  }
  return { repository: atRevision(repository, revision) }
}

/**
 * A repository without an owner, as the hub's oldest ones are: such a name means it where the cache
 * has it. What is not there is named by the address of its page, so that a name which is mistyped
 * is asked of nobody.
 */
async function cachedWithoutOwner(
  name: string,
  cacheDir?: string,
): Promise<Repository | undefined> {
  const repository = parseWithoutOwner(name)
  if (repository === undefined) return undefined
  const cached = await exists(new RepositoryCache(cacheFolder(cacheDir), repository.id).folder)
  return cached ? repository : undefined
}

/** The repository that a name means, where it cannot be a folder. */
export function repositoryOf(name: string, revision?: string): Repository {
  const repository = parseRepository(aliased(name) ?? name)
  if (repository !== undefined) return atRevision(repository, revision)
  const here = name === 'demo' || isHereAt(expand(name)) ? ', which is here already' : ''
  const message = `expected an alias or "owner/name", got ${JSON.stringify(name)}${here}`
  throw invalidArgument('id', `${message}${didYouMean(name)}`)
}

/** The same of what is in the cache, where names without an owner are clear. */
export function storedRepositoryOf(name: string, revision?: string): Repository {
  const repository = aliased(name) === undefined ? parseWithoutOwner(name) : undefined
  // It is not the embedded model.
  if (repository === undefined || name === 'demo') return repositoryOf(name, revision)
  return atRevision(repository, revision)
}

function atRevision(repository: Repository, revision: string | undefined): Repository {
  if (revision === undefined) return repository
  if (!isRevision(revision))
    throw invalidArgument('revision', `is no branch, tag or commit: ${JSON.stringify(revision)}`)
  if (repository.revision !== MAIN && repository.revision !== revision)
    throw invalidArgument('revision', `is another than that of the name, ${repository.revision}`)
  return { ...repository, revision }
}

async function folderOf(model: string): Promise<string | undefined> {
  if (model === 'demo') return unpacked(await demoModel(), 'MODEL_NOT_FOUND')
  // Paths are seen from the folder that is the current one now.
  for (const at of new Set([resolve(model), expand(model)])) {
    const path = unpacked(at, 'MODEL_NOT_FOUND')
    const found = await stat(path).catch(() => undefined)
    if (found?.isDirectory() === true) return path
    if (found?.isFile() === true) {
      throw new NodeMlxError(
        'MODEL_NOT_FOUND',
        `${model} is a file${foreign(model)}; give the folder that holds config.json and the weights`,
      )
    }
  }
  return undefined
}

/** What a file is that is none of a model's, and what to do about it. */
function foreign(path: string): string {
  const kind = getNative().foreignFormat(basename(path))
  return kind === null ? '' : `, ${kind}`
}

async function demoModel(): Promise<string> {
  const folder = demoFolder()
  if (folder !== undefined && (await exists(folder))) return folder
  const problem =
    folder === undefined
      ? 'nodemlx is not installed beside this bundle. Install it there, or leave it out of ' +
        'the bundle'
      : `there is no folder ${folder}${permissionHint(folder) || '. Install nodemlx again'}`
  throw new NodeMlxError('MODEL_NOT_FOUND', `The demo model is missing: ${problem}.`)
}

/** Whether a model can be loaded without downloading anything. */
export async function isHere(model: string): Promise<boolean> {
  try {
    const { folder, repository } = await locate(model)
    if (folder !== undefined) return true
    const cache = new RepositoryCache(cacheFolder(), repository.id)
    const local = await localSnapshot(cache, repository.revision)
    return local !== undefined && local.missing === undefined
  } catch {
    return false
  }
}
