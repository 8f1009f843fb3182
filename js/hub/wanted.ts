import { NodeMlxError } from '../errors.js'
import { getNative } from '../native.js'
import { colliding, unsafeName } from './file-names.js'
import type { ListedFile } from './listing.js'
import { INDEX, isWeightFile, matcher } from './selection.js'

/** The files that are wanted, whose names must be fit to be written. */
export function select(
  files: readonly ListedFile[],
  wanted: (name: string) => boolean,
  exclude: readonly string[] | undefined,
): ListedFile[] {
  const unwanted = matcher(exclude ?? [])
  const selected = files.filter(({ name }) => wanted(name) && !unwanted(name))
  for (const { name } of selected) {
    const problem = unsafeName(name)
    if (problem !== undefined) throw unsafe(`${JSON.stringify(name)}, whose name ${problem}`)
  }
  const pair = colliding(selected.map(({ name }) => name))
  if (pair !== undefined)
    throw unsafe(`${pair.join(' and ')}, which are one file on systems that ignore case`)
  return selected
}

function unsafe(what: string): NodeMlxError {
  return new NodeMlxError(
    'UNSAFE_FILE_NAME',
    `The repository has the file ${what}: nothing was written. If you trust the rest, leave it out with the option "exclude".`,
  )
}

/**
 * Which files are the weights: those that the index names. An index of other files than the
 * repository's is one that a conversion left behind.
 */
export function weightsBy(
  indexed: readonly string[] | undefined,
  id: string,
  files: readonly ListedFile[],
): (name: string) => boolean {
  if (indexed === undefined) return isWeightFile
  for (const name of indexed) {
    const problem = unsafeName(name)
    if (problem !== undefined)
      throw unsafe(`${JSON.stringify(name)} in ${INDEX}, whose name ${problem}`)
  }
  const missing = indexed.find((name) => !files.some((file) => file.name === name))
  if (missing === undefined) return (name) => indexed.includes(name)
  const others = files.some(({ name }) => isWeightFile(name) && !indexed.includes(name))
  if (others) return isWeightFile
  throw new NodeMlxError(
    'INVALID_WEIGHTS',
    `${id}: ${INDEX} names ${missing}, which the repository does not have.`,
  )
}

/** The error for a selection that leaves nothing of a repository. */
export function nothingSelected(
  id: string,
  files: readonly Pick<ListedFile, 'name'>[],
): NodeMlxError {
  const shown = files.slice(0, 10).map(({ name }) => name)
  const more = files.length > shown.length ? ', …' : ''
  return new NodeMlxError(
    'FILE_NOT_FOUND',
    `${id} has no files of these patterns, but ${shown.join(', ')}${more}.`,
  )
}

/** The error for a repository without a model that could be loaded. */
export function noModel(id: string, files: readonly Pick<ListedFile, 'name'>[]): NodeMlxError {
  const kinds = files.map(({ name }) => [name, getNative().foreignFormat(name)] as const)
  const [name, kind] = kinds.find(([, known]) => known !== null) ?? []
  const what = kind === undefined || kind === null ? '' : `; ${name ?? ''} is ${kind}`
  return new NodeMlxError(
    'UNSUPPORTED',
    `${id} has no model of a config.json and safetensors files${what}`,
  )
}
