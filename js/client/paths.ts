import { stat } from 'node:fs/promises'
import { isAbsolute, resolve } from 'node:path'
import { expand } from '../hub/environment.js'
import type { LoadModelOptions } from '../types.js'
import type { SentLoadOptions } from './protocol.js'

/** A model's name as another process is to read it, whose current folder may be another. */
export interface SentName {
  /** The name, where it looks like a path as a whole one. */
  name: string
  /** What the name is here, where that is a folder or a file. */
  path?: string
}

/** How a name begins that can only be a path. */
const PATH = /^(?:\.{1,2}|~)(?:$|[/\\])/

export async function sentName(name: string): Promise<SentName> {
  if (name === 'demo') return { name }
  const path = await pathOf(name)
  const isPath = PATH.test(name) || isAbsolute(name)
  return {
    name: isPath ? (path ?? expand(name)) : name,
    ...(path === undefined ? {} : { path }),
  }
}

/** Where a model is in this process, or its name where it is nowhere. */
async function placed(name: string): Promise<string> {
  const sent = await sentName(name)
  return sent.path ?? sent.name
}

async function pathOf(name: string): Promise<string | undefined> {
  for (const path of new Set([resolve(name), expand(name)])) {
    const isThere = await stat(path).then(
      () => true,
      () => false,
    )
    if (isThere) return path
  }
  return undefined
}

/** Options of a load whose paths mean the same in another process. */
export async function sentOptions(
  options: Omit<LoadModelOptions, 'signal' | 'onProgress' | 'fetch' | 'adapter'>,
): Promise<SentLoadOptions> {
  const { draftModel: draft, cacheDir, prefixCache, ...others } = options
  return {
    ...others,
    ...(cacheDir === undefined ? {} : { cacheDir: expand(cacheDir) }),
    ...(prefixCache === undefined ? {} : { prefixCache: ofThisProcess(prefixCache) }),
    ...(draft === undefined
      ? {}
      : { draftModel: await placed(typeof draft === 'string' ? draft : draft.info.path) }),
  }
}

function ofThisProcess(
  prefixCache: NonNullable<LoadModelOptions['prefixCache']>,
): NonNullable<LoadModelOptions['prefixCache']> {
  if (prefixCache === false || prefixCache.directory === undefined) return prefixCache
  return { ...prefixCache, directory: expand(prefixCache.directory) }
}
