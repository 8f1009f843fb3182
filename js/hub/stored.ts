import { lstat, readFile, readlink, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { NodeMlxError } from '../errors.js'
import { getNative } from '../native.js'
import type { StoredModel, StoredRevision } from '../types.js'
import { names, RepositoryCache } from './cache.js'
import { fileError } from './errors.js'
import { acquireAll } from './locks.js'
import { describeSnapshot, folderBytes, walk } from './local.js'
import { isCommit, type Repository } from './repository.js'
import { CONFIG } from './selection.js'

/** The models of a cache, by name. */
export async function storedModels(root: string): Promise<StoredModel[]> {
  const models: StoredModel[] = []
  for (const folder of await names(root)) {
    const id = RepositoryCache.idOf(folder)
    if (id === undefined) continue
    const model = await storedModel(new RepositoryCache(root, id))
    if (model.revisions.length > 0 || model.bytes > 0) models.push(model)
  }
  return models
}

async function storedModel(cache: RepositoryCache): Promise<StoredModel> {
  const references = [...(await cache.references())]
  const revisions: StoredRevision[] = []
  let bytes = await folderBytes(cache.blobs)
  for (const commit of (await names(cache.snapshots)).filter(isCommit)) {
    const { path, missing } = await describeSnapshot(cache, commit)
    const files = await walk(path)
    // Where the system has no links, snapshots hold the files themselves.
    for (const file of files) if (!file.isLink && file.links === 1) bytes += file.bytes
    revisions.push({
      revision: commit,
      references: references.filter(([, at]) => at === commit).map(([name]) => name),
      path,
      bytes: files.reduce((sum, file) => sum + file.bytes, 0),
      complete: missing === undefined,
      ...(await architecture(path)),
      lastUsed: new Date(Math.max(0, ...files.map((file) => file.lastUsed))),
    })
  }
  const lastUsed = new Date(Math.max(0, ...revisions.map((it) => it.lastUsed.getTime())))
  return { id: cache.id, bytes, lastUsed, revisions }
}

async function architecture(path: string): Promise<{ modelType?: string; runs: boolean }> {
  const text = await readFile(join(path, CONFIG), 'utf8').catch(() => '{}')
  let modelType: unknown
  try {
    modelType = (JSON.parse(text) as { model_type?: unknown } | null)?.model_type
  } catch {
    modelType = undefined
  }
  const known = typeof modelType === 'string' ? { modelType } : {}
  try {
    getNative().architectureOf(path)
    return { ...known, runs: true }
  } catch {
    return { ...known, runs: false }
  }
}

/**
 * Removes a repository from a cache, or one revision of it and what only that uses; gives the bytes
 * that became free.
 */
export async function removeStored(
  root: string,
  { id, revision }: Repository,
  whole: boolean,
): Promise<number> {
  const cache = new RepositoryCache(root, id)
  const model = await storedModel(cache)
  const isThere = await stat(cache.folder).catch(() => undefined)
  if (isThere === undefined)
    throw new NodeMlxError('MODEL_NOT_FOUND', `${id} is not in the cache ${root}.`)
  const commit = whole ? undefined : await cache.commitOf(revision)
  // The lock files stay: others may be waiting for the same ones.
  const lock = await acquireAll(cache.locks)
  if (lock === undefined) {
    throw new NodeMlxError(
      'IO_ERROR',
      `${id} is being downloaded at this moment, and nothing was removed: abort that first, or wait for it.`,
    )
  }
  const kept = model.revisions.filter((it) => it.revision !== commit)
  try {
    if (whole || (kept.length === 0 && model.revisions.length > 0)) {
      // What a link leads to stays.
      const isLink = (await lstat(cache.folder)).isSymbolicLink()
      await rm(cache.folder, { recursive: true, force: true })
      return isLink ? 0 : model.bytes
    }
    if (commit === undefined || kept.length === model.revisions.length) {
      const known = model.revisions.flatMap((it) => [...it.references, it.revision.slice(0, 7)])
      throw new NodeMlxError(
        'REVISION_NOT_FOUND',
        `${id} is not in the cache ${root} at the revision "${revision}", only ${known.join(', ') || 'in part'}.`,
      )
    }
    await removeRevision(cache, commit, kept)
  } catch (error) {
    throw fileError(error, cache.folder)
  } finally {
    lock.release()
  }
  return model.bytes - (await storedModel(cache)).bytes
}

async function removeRevision(
  cache: RepositoryCache,
  commit: string,
  kept: readonly StoredRevision[],
): Promise<void> {
  const used = await blobsOf(kept)
  const unused: string[] = []
  for (const file of await walk(cache.snapshot(commit))) {
    if (file.isLink) unused.push(basename(await readlink(file.path)))
  }
  for (const [name, at] of await cache.references()) {
    if (at === commit) await rm(join(cache.refs, name), { force: true })
  }
  for (const path of [
    cache.snapshot(commit),
    join(cache.folder, '.no_exist', commit),
    join(cache.folder, 'trees', `${commit}.json`),
    ...unused.filter((etag) => !used.has(etag)).map((etag) => cache.blob(etag)),
  ]) {
    await rm(path, { recursive: true, force: true })
  }
}

/** The blobs that revisions link to. */
async function blobsOf(revisions: readonly StoredRevision[]): Promise<Set<string>> {
  const used = new Set<string>()
  for (const { path } of revisions) {
    for (const file of await walk(path)) {
      if (file.isLink) used.add(basename(await readlink(file.path)))
    }
  }
  return used
}
