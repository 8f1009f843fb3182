import { lstat, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { exists, names, type RepositoryCache } from './cache.js'
import { unsafeName } from './file-names.js'
import {
  CONFIG,
  INDEX,
  indexedFiles,
  isTextFile,
  isTokenizer,
  isWeightFile,
  missingShards,
} from './selection.js'

/** A revision as it is in the cache. */
export interface LocalSnapshot {
  commit: string
  path: string
  /** A file without which the model cannot be loaded. */
  missing: string | undefined
  /** Nothing is known to be missing that the model wants. */
  complete: boolean
}

/** The snapshot of a revision, as far as it is here. */
export async function localSnapshot(
  cache: RepositoryCache,
  revision: string,
): Promise<LocalSnapshot | undefined> {
  const commit = await cache.commitOf(revision)
  if (commit === undefined || !(await exists(cache.snapshot(commit)))) return undefined
  return describeSnapshot(cache, commit)
}

export async function describeSnapshot(
  cache: RepositoryCache,
  commit: string,
): Promise<LocalSnapshot> {
  const path = cache.snapshot(commit)
  const missing = await missingFile(path)
  const complete = missing === undefined && (await hasText(cache, commit))
  return { commit, path, missing, complete }
}

/**
 * The first file that loading needs and a snapshot lacks: the configuration, a shard, the content
 * of a link.
 */
async function missingFile(snapshot: string): Promise<string | undefined> {
  const present = await names(snapshot)
  const weights = present.filter(isWeightFile)
  const wanted = [CONFIG, ...present.filter((name) => isTextFile(name) || isWeightFile(name))]
  const index = await readFile(join(snapshot, INDEX), 'utf8').catch(() => undefined)
  const indexed = (index === undefined ? undefined : indexedFiles(index)) ?? []
  // An index of other files than those that are here is one that a conversion left behind.
  const counts = indexed.length > 0 && weights.every((name) => indexed.includes(name))
  if (counts) wanted.push(...indexed)
  else if (weights.length === 0) wanted.push('model.safetensors')
  else wanted.push(...missingShards(weights))
  for (const name of wanted) {
    if (unsafeName(name) === undefined && !(await exists(join(snapshot, name)))) return name
  }
  return undefined
}

/**
 * Whether the files for text are here. Weights come last, so that they are where weights are,
 * unless another program chose otherwise.
 */
async function hasText(cache: RepositoryCache, commit: string): Promise<boolean> {
  const snapshot = cache.snapshot(commit)
  const listed = await treeListing(cache, commit)
  if (listed !== undefined) {
    for (const name of listed.filter(isTextFile)) {
      const known = unsafeName(name) !== undefined || (await cache.isKnownMissing(commit, name))
      if (!known && !(await exists(join(snapshot, name)))) return false
    }
    return true
  }
  if ((await names(snapshot)).some(isTokenizer)) return true
  return cache.isKnownMissing(commit, 'tokenizer.json')
}

/** The names of all files of a commit, where huggingface_hub has noted them. */
async function treeListing(cache: RepositoryCache, commit: string): Promise<string[] | undefined> {
  try {
    const text = await readFile(join(cache.folder, 'trees', `${commit}.json`), 'utf8')
    const { format_version: version, files } = JSON.parse(text) as Record<string, unknown>
    if (version !== 1 || typeof files !== 'object' || files === null) return undefined
    return Object.keys(files)
  } catch {
    return undefined
  }
}

/** A file of a folder, or what a link there leads to. */
export interface FoundFile {
  path: string
  bytes: number
  /** When it was last read, in milliseconds since 1970. */
  lastUsed: number
  isLink: boolean
  /** How many names the file has. */
  links: number
}

/** All files below a folder. */
export async function walk(folder: string): Promise<FoundFile[]> {
  const files: FoundFile[] = []
  for (const name of await readdir(folder, { recursive: true }).catch(() => [])) {
    const path = join(folder, name)
    const own = await lstat(path).catch(() => undefined)
    const found = await stat(path).catch(() => undefined)
    if (own === undefined || found?.isFile() !== true) continue
    const { size: bytes, atimeMs, mtimeMs, nlink: links } = found
    const lastUsed = Math.max(atimeMs, mtimeMs)
    files.push({ path, bytes, lastUsed, isLink: own.isSymbolicLink(), links })
  }
  return files
}

/** The bytes of all files below a folder. */
export async function folderBytes(folder: string): Promise<number> {
  return (await walk(folder)).reduce((sum, { bytes }) => sum + bytes, 0)
}
