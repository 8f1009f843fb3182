import { mkdir, readFile, statfs, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { callBack } from '../callbacks.js'
import { aborted, fromNative, invalidArgument, NodeMlxError } from '../errors.js'
import { getNative } from '../native.js'
import { onAbort } from '../signal.js'
import type { DownloadModelOptions, DownloadedModel } from '../types.js'
import { exists, RepositoryCache } from './cache.js'
import { HubClient } from './client.js'
import { forEach, Slots } from './connections.js'
import { cacheFolder, endpointAddress, findToken, isOffline } from './environment.js'
import { fileError } from './errors.js'
import { downloadBlob, type DownloadContext } from './file-download.js'
import { Hashing } from './hashing.js'
import { describe, listFiles, type ListedFile, type Listing, type RemoteFile } from './listing.js'
import { describeSnapshot, folderBytes, localSnapshot, type LocalSnapshot } from './local.js'
import { DownloadProgress } from './progress.js'
import { isCommit, isShortCommit, type Repository } from './repository.js'
import { CONFIG, INDEX, indexedFiles, isTextFile, matcher } from './selection.js'
import { transport } from './transport.js'
import { removeDamaged } from './verification.js'
import { noModel, nothingSelected, select, weightsBy } from './wanted.js'

/** Files, and connections for parts of them, at the same time. */
const FILES = 4
const CONNECTIONS = 8
/** What a file system needs beside the files. */
const SPARE_BYTES = 16 << 20

/** The part of the options that says where to look, and whom to tell. */
export type EnsureOptions = Omit<DownloadModelOptions, 'include' | 'exclude' | 'verify'>

/** Asked before the weights come, with the folder that has the configuration; may throw. */
export type Admission = (folder: string, weightsBytes: number) => Promise<void>

/** Downloads what a repository's model needs and the cache lacks. */
export async function download(
  repository: Repository,
  options: DownloadModelOptions,
  admit?: Admission,
): Promise<DownloadedModel> {
  const controller = new AbortController()
  const { signal: outer } = options
  let thrown: { error: unknown } | undefined
  throwAborted(outer)
  const forget =
    outer &&
    onAbort(outer, () => {
      controller.abort(outer.reason)
    })
  const progress = new DownloadProgress((report) => {
    if (controller.signal.aborted) return
    callBack(options.onProgress, report, (error) => {
      thrown = { error }
      controller.abort(error)
    })
  })
  const throwReported = (): void => {
    if (thrown !== undefined) throw thrown.error
  }
  const run = new SnapshotDownload(repository, options, progress, controller, admit)
  try {
    const model = await run.run()
    throwReported()
    return model
  } catch (error) {
    throwReported()
    throwAborted(outer)
    throw fromNative(error)
  } finally {
    forget?.()
    await run.end()
  }
}

function throwAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw aborted('Downloading the model', signal.reason)
}

/**
 * The snapshot of a model whose files are to be loaded: that of the cache where it is complete,
 * else after downloading what it lacks.
 */
export async function ensure(
  repository: Repository,
  options: EnsureOptions,
  admit: Admission,
): Promise<string> {
  const cache = new RepositoryCache(cacheFolder(options.cacheDir), repository.id)
  const local = await localSnapshot(cache, repository.revision)
  if (local?.complete === true) return local.path
  if (isOffline(options.offline)) return available(local, repository, cache)
  try {
    return (await download(repository, options, admit)).path
  } catch (error) {
    // Without a tokenizer a model can still be loaded, and nobody can tell whether it has one.
    const unreached = error instanceof NodeMlxError && error.code === 'NETWORK_ERROR'
    if (unreached && local !== undefined && local.missing === undefined) return local.path
    throw error
  }
}

/** The path of what is in the cache, where only that may be used. */
function available(
  local: LocalSnapshot | undefined,
  { id, revision }: Repository,
  cache: RepositoryCache,
): string {
  if (local !== undefined && local.missing === undefined) return local.path
  const what =
    local === undefined
      ? `${id} is not in the cache ${dirname(cache.folder)} at the revision "${revision}"`
      : `${id} is in the cache ${dirname(cache.folder)} without ${local.missing ?? 'all its files'}`
  throw new NodeMlxError(
    'OFFLINE',
    `${what}, and nothing may be downloaded: HF_HUB_OFFLINE or the option "offline" says so. Download it once while online.`,
  )
}

class SnapshotDownload {
  readonly #repository: Repository
  readonly #options: DownloadModelOptions
  readonly #cache: RepositoryCache
  readonly #progress: DownloadProgress
  readonly #controller: AbortController
  readonly #admit: Admission
  readonly #hashing = new Hashing()

  constructor(
    repository: Repository,
    options: DownloadModelOptions,
    progress: DownloadProgress,
    controller: AbortController,
    admit: Admission = () => Promise.resolve(),
  ) {
    this.#repository = repository
    this.#options = options
    this.#cache = new RepositoryCache(cacheFolder(options.cacheDir), repository.id)
    this.#progress = progress
    this.#controller = controller
    this.#admit = admit
  }

  async run(): Promise<DownloadedModel> {
    const { id, revision } = this.#repository
    const { endpoint, token, fetch, offline, include, exclude, verify = false } = this.#options
    const isWhole = include === undefined && exclude === undefined && !verify
    const local = await localSnapshot(this.#cache, revision)
    if (isOffline(offline)) {
      if (verify)
        throw invalidArgument('verify', 'needs the hub, of which nothing may be asked offline')
      const path = available(local, this.#repository, this.#cache)
      return await this.#result(local?.commit ?? '', path)
    }
    if (isWhole && isCommit(revision) && local?.complete === true)
      return await this.#result(revision, local.path)
    const address = endpointAddress(endpoint)
    const client = new HubClient(address, await findToken(token), transport(fetch))
    client.onWait = (reason) => {
      this.#progress.waitsAtAll(reason)
    }
    const listing = await listFiles(client, id, revision, this.#controller.signal)
    const context: DownloadContext = {
      client,
      cache: this.#cache,
      commit: listing.commit,
      hashing: this.#hashing,
      connections: new Slots(CONNECTIONS),
      progress: this.#progress,
      signal: this.#controller.signal,
    }
    const [wanted, unwanted] = [matcher(include ?? ['*']), matcher(exclude ?? [])]
    const chosen = listing.files.filter(({ name }) => wanted(name) && !unwanted(name))
    if (chosen.length === 0 && listing.files.length > 0) throw nothingSelected(id, listing.files)
    if (verify) await removeDamaged(this.#cache, listing.commit, chosen, context.signal)
    if (include === undefined) await this.#fetchModel(listing, context)
    else await this.#fetch(select(chosen, wanted, exclude), context, { report: true })
    if (await this.#isBetter(listing.commit, local)) await this.#refer(listing.commit)
    return this.#result(listing.commit, this.#cache.snapshot(listing.commit))
  }

  async end(): Promise<void> {
    await this.#hashing.end()
  }

  /**
   * The configuration first, which says whether the model runs here, then the index, which says
   * which weights there are, then everything else.
   */
  async #fetchModel({ commit, files }: Listing, context: DownloadContext): Promise<void> {
    const { exclude } = this.#options
    const { id } = this.#repository
    const config = files.find(({ name }) => name === CONFIG)
    if (config === undefined) throw noModel(id, files)
    await this.#fetch(
      select([config], () => true, exclude),
      context,
    )
    const snapshot = this.#cache.snapshot(commit)
    if (await exists(join(snapshot, CONFIG))) getNative().architectureOf(snapshot)

    await this.#fetch(
      select(files, (name) => name === INDEX, exclude),
      context,
    )
    const index = await readFile(join(snapshot, INDEX), 'utf8').catch(() => undefined)
    const isWeight = weightsBy(index === undefined ? undefined : indexedFiles(index), id, files)
    const weights = select(files, isWeight, exclude)
    if (weights.length === 0 && exclude === undefined) throw noModel(id, files)
    const texts = select(files, isTextFile, exclude)
    await this.#fetch([...texts, ...weights], context, {
      last: isWeight,
      report: true,
      check: async (described) => {
        const bytes = described.filter(({ name }) => isWeight(name)).map(({ size = 0 }) => size)
        await this.#admit(
          snapshot,
          bytes.reduce((sum, size) => sum + size, 0),
        )
      },
    })
  }

  /**
   * Downloads files into the snapshot; those that `last` names when all others are there. Progress
   * is reported from when all that is to come is known.
   */
  async #fetch(
    files: readonly ListedFile[],
    context: DownloadContext,
    {
      last = () => false,
      report = false,
      check = () => Promise.resolve(),
    }: {
      last?: (name: string) => boolean
      report?: boolean
      check?: (files: readonly RemoteFile[]) => Promise<void>
    } = {},
  ): Promise<void> {
    const described = await this.#describe(files, context)
    await check(described)
    await this.#checkRoom(described)
    for (const { name, size } of described) context.progress.expect(name, size ?? 0)
    if (report) context.progress.begin()
    const first = described.filter(({ name }) => !last(name))
    for (const group of [first, described.filter(({ name }) => last(name))]) {
      await this.#eachOf(group, FILES, async (file) => {
        await this.#make(file, context)
      })
    }
  }

  /** What the hub says of the files that the snapshot lacks. */
  async #describe(files: readonly ListedFile[], context: DownloadContext): Promise<RemoteFile[]> {
    const { cache, client, commit, progress, signal } = context
    const described: RemoteFile[] = []
    await this.#eachOf(files, CONNECTIONS, async (file) => {
      const there = await stat(join(cache.snapshot(commit), file.name)).catch(() => undefined)
      if (there?.isFile() === true && (file.size === undefined || file.size === there.size)) {
        progress.expect(file.name, there.size, there.size)
        return
      }
      if (await cache.isKnownMissing(commit, file.name)) return
      try {
        described.push(await describe(client, cache.id, commit, file, signal))
      } catch (error) {
        const missing = error instanceof NodeMlxError && error.code === 'FILE_NOT_FOUND'
        if (!missing || !isTextFile(file.name) || file.name === CONFIG) throw error
        await cache.setMissing(commit, file.name)
      }
    })
    const order = new Map(files.map(({ name }, index) => [name, index]))
    const place = ({ name }: RemoteFile): number => order.get(name) ?? 0
    return described.sort((a, b) => place(a) - place(b))
  }

  async #make(file: RemoteFile, context: DownloadContext): Promise<void> {
    await downloadBlob(file, context)
    await this.#cache.place(context.commit, file.name, file.etag)
  }

  /** A failure of one ends the others, too. */
  #eachOf<T>(items: readonly T[], atOnce: number, run: (item: T) => Promise<void>): Promise<void> {
    return forEach(items, atOnce, run, (error) => {
      this.#controller.abort(error)
    })
  }

  /** Refuses what does not fit the disk before anything is written. */
  async #checkRoom(files: readonly RemoteFile[]): Promise<void> {
    if (files.length === 0) return
    const { blobs } = this.#cache
    try {
      await mkdir(blobs, { recursive: true })
    } catch (error) {
      throw fileError(error, blobs)
    }
    let needed = 0
    for (const { etag, size = 0 } of files) {
      if (await exists(this.#cache.blob(etag))) continue
      const begun = await stat(this.#cache.incomplete(etag, true)).catch(() => undefined)
      needed += Math.max(0, size - (begun?.size ?? 0))
    }
    const { bavail, bsize } = await statfs(blobs).catch(() => ({ bavail: Infinity, bsize: 1 }))
    const room = bavail * bsize
    if (needed + SPARE_BYTES <= room) return
    const amount = (bytes: number): string =>
      bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`
    throw new NodeMlxError(
      'DISK_FULL',
      `${this.#repository.id} needs ${amount(needed)} more, and the disk of ${blobs} has ${amount(room)}. ` +
        'Make room, or name a folder on another disk with the option "cacheDir" or HF_HUB_CACHE.',
    )
  }

  /** Whether a part of a commit does not take the place of a whole model. */
  async #isBetter(commit: string, local: LocalSnapshot | undefined): Promise<boolean> {
    if (local === undefined || local.missing !== undefined) return true
    const { missing, complete } = await describeSnapshot(this.#cache, commit)
    return missing === undefined && (complete || !local.complete)
  }

  /** Notes the commit of a branch or tag, now that all its files are there. */
  async #refer(commit: string): Promise<void> {
    const { revision } = this.#repository
    if (isCommit(revision) || (isShortCommit(revision) && commit.startsWith(revision))) return
    try {
      await this.#cache.setReference(revision, commit)
    } catch (error) {
      // A cache that can only be read had everything already.
      if (this.#progress.received > 0) throw fileError(error, join(this.#cache.refs, revision))
    }
  }

  async #result(commit: string, path: string): Promise<DownloadedModel> {
    const bytes = await folderBytes(path)
    return { path, revision: commit, bytes, downloadedBytes: this.#progress.received }
  }
}
