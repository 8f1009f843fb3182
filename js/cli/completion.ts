import { readdir } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { names, RepositoryCache } from '../hub/cache.js'
import { cacheFolder } from '../hub/environment.js'
import { RECOMMENDED_MODELS } from '../recommended-models.js'

/** What a word can become, and the part of the line that it replaces. */
export type Completion = [words: string[], start: string]

/** Names of models: the aliases, and what is in the cache. */
export async function completeModel(start: string): Promise<string[]> {
  const aliases = ['demo', ...Object.keys(RECOMMENDED_MODELS)]
  return [...aliases, ...(await cachedNames())].filter((name) => name.startsWith(start))
}

/** The repositories of which something is in the cache: their folders are looked at, no more. */
async function cachedNames(): Promise<string[]> {
  const root = cacheFolder()
  const found: string[] = []
  for (const id of (await names(root)).map((folder) => RepositoryCache.idOf(folder))) {
    if (id === undefined) continue
    const { blobs, snapshots } = new RepositoryCache(root, id)
    if ((await names(snapshots)).length > 0 || (await names(blobs)).length > 0) found.push(id)
  }
  return found
}

/** Files and folders, as shells complete them; hidden ones only where a dot asks for them. */
export async function completeFile(start: string): Promise<string[]> {
  const [, folder = '', name = ''] = /^(.*\/)?([^/]*)$/.exec(start) ?? []
  const path = expandHome(folder === '' ? '.' : folder)
  const entries = await readdir(path, { withFileTypes: true }).catch(() => [])
  return entries
    .filter((entry) => entry.name.startsWith(name) && (name !== '' || !entry.name.startsWith('.')))
    .map((entry) => `${folder}${entry.name}${entry.isDirectory() ? '/' : ''}`)
}

/** What a shell makes of `~/`. */
export function expandHome(path: string): string {
  return path.startsWith('~/') ? join(homedir(), path.slice(2)) : path
}
