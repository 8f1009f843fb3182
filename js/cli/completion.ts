import { readdir } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { listModels } from '../models.js'
import { RECOMMENDED_MODELS } from '../recommended-models.js'

/** What a word can become, and the part of the line that it replaces. */
export type Completion = [words: string[], start: string]

/** Names of models: the aliases, and what is in the cache. */
export async function completeModel(start: string): Promise<string[]> {
  // A cache that cannot be read has nothing to offer.
  const cached = await listModels().catch(() => [])
  const aliases = ['demo', ...Object.keys(RECOMMENDED_MODELS)]
  return [...aliases, ...cached.map(({ id }) => id)].filter((name) => name.startsWith(start))
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
