import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { wantsNoLinks } from './environment.js'
import { fileError } from './errors.js'
import { isCommit, isShortCommit } from './repository.js'

const FOLDER = /^models--([^-].*?)(?:--(.+))?$/

/**
 * A repository's folder in the cache that all tools for the hub share, as huggingface_hub lays it
 * out: `blobs/` holds contents by their ETags, `snapshots/<commit>/` links to them under the names
 * of the files, `refs/<revision>` holds the commit of a branch or tag, and `.no_exist/<commit>/`
 * names files that are known to be missing.
 */
export class RepositoryCache {
  readonly id: string
  readonly folder: string
  readonly #locks: string

  constructor(root: string, id: string) {
    const name = `models--${id.replaceAll('/', '--')}`
    this.id = id
    this.folder = join(root, name)
    this.#locks = join(root, '.locks', name)
  }

  /** The repository of a folder in the cache; `undefined` where that holds no model. */
  static idOf(folder: string): string | undefined {
    const [, owner, name] = FOLDER.exec(folder) ?? []
    // The hub's oldest repositories have no owner.
    return name === undefined ? owner : `${owner ?? ''}/${name}`
  }

  /** The repository of a snapshot's folder; `undefined` for any other folder. */
  static idOfSnapshot(path: string): string | undefined {
    const [, folder = ''] = /([^/\\]+)[/\\]snapshots[/\\][0-9a-f]{40}$/.exec(path) ?? []
    return RepositoryCache.idOf(folder)
  }

  get locks(): string {
    return this.#locks
  }

  get blobs(): string {
    return join(this.folder, 'blobs')
  }

  get snapshots(): string {
    return join(this.folder, 'snapshots')
  }

  get refs(): string {
    return join(this.folder, 'refs')
  }

  blob(etag: string): string {
    return join(this.blobs, etag)
  }

  /** Where a blob grows. Without locks to keep others out everyone has a file of his own. */
  incomplete(etag: string, exclusive: boolean): string {
    const own = exclusive ? '' : `.${randomBytes(4).toString('hex')}`
    return join(this.blobs, `${etag}${own}.incomplete`)
  }

  lock(etag: string): string {
    return join(this.#locks, `${etag}.lock`)
  }

  snapshot(commit: string): string {
    return join(this.snapshots, commit)
  }

  /**
   * The commit of a revision that is here: by its reference, as a commit, or as the beginning of
   * only one.
   */
  async commitOf(revision: string): Promise<string | undefined> {
    const reference = await fs.readFile(join(this.refs, revision), 'utf8').catch(() => '')
    const commit = reference.trim()
    if (isCommit(commit)) return commit
    if (isCommit(revision)) return revision
    if (!isShortCommit(revision)) return undefined
    const matching = (await names(this.snapshots)).filter((name) => name.startsWith(revision))
    return matching.length === 1 ? matching[0] : undefined
  }

  /** Notes the commit of a branch or tag. Readers see the old one or the new one. */
  async setReference(revision: string, commit: string): Promise<void> {
    const path = join(this.refs, revision)
    if ((await fs.readFile(path, 'utf8').catch(() => '')) === commit) return
    await fs.mkdir(dirname(path), { recursive: true })
    const temporary = `${path}.${randomBytes(4).toString('hex')}.tmp`
    await fs.writeFile(temporary, commit)
    await fs.rename(temporary, path)
  }

  /** The branches, tags and other references, and their commits. */
  async references(): Promise<Map<string, string>> {
    const found = new Map<string, string>()
    for (const path of await fs.readdir(this.refs, { recursive: true }).catch(() => [])) {
      const commit = (await fs.readFile(join(this.refs, path), 'utf8').catch(() => '')).trim()
      if (isCommit(commit) && !path.endsWith('.tmp')) found.set(path.replaceAll('\\', '/'), commit)
    }
    return found
  }

  async isKnownMissing(commit: string, name: string): Promise<boolean> {
    return exists(join(this.folder, '.no_exist', commit, name))
  }

  /**
   * Notes that a file is not in the repository at this commit. That is only a hint, so that it may
   * fail.
   */
  async setMissing(commit: string, name: string): Promise<void> {
    const path = join(this.folder, '.no_exist', commit, name)
    try {
      await fs.mkdir(dirname(path), { recursive: true })
      await fs.writeFile(path, '')
    } catch {
      // The next one asks the hub again.
    }
  }

  /**
   * Makes a blob a file of a snapshot: a link that stays right where the cache is moved, and a file
   * where the system refuses links.
   */
  async place(commit: string, name: string, etag: string): Promise<void> {
    const pointer = join(this.snapshot(commit), name)
    const blob = this.blob(etag)
    const target = relative(dirname(pointer), blob)
    try {
      if ((await fs.readlink(pointer).catch(() => '')) === target) return
      await fs.mkdir(dirname(pointer), { recursive: true })
      // Made beside the blobs and moved, so that nobody sees a snapshot without the file that it
      // had.
      const temporary = join(this.blobs, `${randomBytes(8).toString('hex')}.incomplete`)
      await link(target, blob, temporary)
      try {
        await fs.rename(temporary, pointer)
      } finally {
        await fs.rm(temporary, { force: true })
      }
    } catch (error) {
      throw fileError(error, pointer)
    }
  }
}

/** Errors of systems, or of users, that may not make links. */
const REFUSED = new Set(['EPERM', 'EACCES', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP', 'EINVAL', 'UNKNOWN'])

/**
 * Links by a path that is relative to where the link will be, else shares the file, else copies it.
 */
async function link(target: string, blob: string, path: string): Promise<void> {
  // A blob can itself be a link, to one that several repositories share.
  const content = await fs.realpath(blob)
  const ways = [
    ...(wantsNoLinks() ? [] : [() => fs.symlink(target, path)]),
    () => fs.link(content, path),
  ]
  for (const way of ways) {
    try {
      await way()
      return
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException
      if (!REFUSED.has(code)) throw error
    }
  }
  await fs.copyFile(content, path)
}

export async function exists(path: string): Promise<boolean> {
  return fs.access(path).then(
    () => true,
    () => false,
  )
}

/** The names in a folder, sorted; none where it cannot be read. */
export async function names(folder: string): Promise<string[]> {
  return (await fs.readdir(folder).catch(() => [])).sort()
}
