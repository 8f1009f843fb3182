import { RECOMMENDED_MODELS } from '../recommended-models.js'
import { closest } from '../validate.js'

/** The branch that is meant where none is named. */
export const MAIN = 'main'

/** A repository on the hub, at a branch, a tag, a commit or a reference such as `refs/pr/1`. */
export interface Repository {
  /** `owner/name`, or of some old ones `name`. */
  id: string
  revision: string
}

/** The address of a model's page on the public hub, at a revision or not. */
const PAGE =
  /^https?:\/\/(?:www\.)?(?:huggingface\.co|hf\.co)\/([^/?#]+(?:\/(?!tree(?:\/|$))[^/?#]+)?)(?:\/tree\/([^?#]+?))?\/?(?:[?#].*)?$/

/**
 * `owner/name`, `owner/name@revision` or the address of a model's page; `undefined` where `text` is
 * none of these.
 */
export function parseRepository(text: string): Repository | undefined {
  const [, page, tree] = PAGE.exec(text) ?? []
  if (page !== undefined) return parse(tree === undefined ? page : `${page}@${tree}`)
  const repository = parse(text)
  return repository?.id.includes('/') === true ? repository : undefined
}

/** `name` or `name@revision` of a repository without an owner, as the hub's oldest ones are. */
export function parseWithoutOwner(text: string): Repository | undefined {
  const repository = parse(text)
  return repository?.id.includes('/') === false ? repository : undefined
}

function parse(text: string): Repository | undefined {
  const at = text.indexOf('@')
  const id = at === -1 ? text : text.slice(0, at)
  const revision = at === -1 ? MAIN : text.slice(at + 1)
  return isRepositoryId(id) && isRevision(revision) ? { id, revision } : undefined
}

/** As the hub has it: names of letters, digits and `-_.`, which become a folder's name. */
function isRepositoryId(id: string): boolean {
  return (
    /^\w[\w.-]*(?:\/\w[\w.-]*)?$/.test(id) &&
    id.length <= 96 &&
    !/--|\.\.|[.-](?:\/|$)/.test(id) &&
    !id.endsWith('.git')
  )
}

/** Whether a revision can be part of a path that stays where it is. */
export function isRevision(revision: string): boolean {
  return (
    revision.length <= 255 &&
    revision
      .split('/')
      .every((part) => /^[\w.+=,!#%&'()@^-]+$/.test(part) && !part.startsWith('..') && part !== '.')
  )
}

/** Whether a revision is a whole commit, which never changes. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision)
}

/** Whether a revision can be the beginning of a commit. */
export function isShortCommit(revision: string): boolean {
  return /^[0-9a-f]{7,39}$/.test(revision)
}

/** The repository that a short name stands for; case does not matter. */
export function aliased(name: string): string | undefined {
  const known = Object.entries<string>(RECOMMENDED_MODELS)
  return known.find(([alias]) => alias.toLowerCase() === name.toLowerCase())?.[1]
}

/** Which names were probably meant, as the end of a message; nothing where none is near. */
export function didYouMean(name: string): string {
  const aliases = Object.keys(RECOMMENDED_MODELS)
  const repositories = [...new Set(Object.values<string>(RECOMMENDED_MODELS))]
  const family = /^[a-z]*/.exec(name.slice(name.indexOf('/') + 1).toLowerCase())?.[0] ?? ''
  const near = name.includes('/')
    ? closest(name, repositories)
    : closest(name.toLowerCase(), aliases)
  const related = aliases.filter((alias) => family !== '' && /^[a-z]*/.exec(alias)?.[0] === family)
  const found = new Set([...(near === undefined ? [] : [near]), ...related])
  const names = [...found].filter((it) => it !== name).slice(0, 8)
  return names.length === 0 ? '' : `. Did you mean ${names.join(', ')}?`
}
