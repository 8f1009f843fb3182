import { NodeMlxError } from '../errors.js'
import type { HubClient } from './client.js'
import { refusal, type Asked } from './errors.js'
import { isCommit, isShortCommit } from './repository.js'

/** A file of a repository as the list of files has it. */
export interface ListedFile {
  name: string
  size: number | undefined
  /** The SHA-256 of the content, or else its hash in Git. */
  hash: string | undefined
}

/** What a repository holds at a commit. */
export interface Listing {
  commit: string
  files: ListedFile[]
}

/** A file as the hub describes it before it is downloaded. */
export interface RemoteFile {
  name: string
  /** The name of its blob: a SHA-256 for files in LFS, a hash of Git for others. */
  etag: string
  size: number | undefined
}

/** The repository's files at a revision. */
export async function listFiles(
  client: HubClient,
  id: string,
  revision: string,
  signal: AbortSignal,
): Promise<Listing> {
  const asked: Asked = { id, revision, endpoint: client.endpoint, token: client.token }
  const model = client.address('api', 'models', id)
  const at = async (name: string): Promise<Listing> => {
    const url = new URL(`${model.href}/revision/${encodeURIComponent(name)}?blobs=true`)
    const { value } = await client.json(url, asked, signal)
    const { sha, siblings } = record(value)
    if (typeof sha !== 'string' || !isCommit(sha)) throw noHub(asked, 'names no commit')
    const files = Array.isArray(siblings)
      ? siblings.map((file: unknown) => listed(file, 'rfilename'))
      : await tree(client, asked, new URL(`${model.href}/tree/${sha}?recursive=true`), signal)
    return { commit: sha, files: files.filter((file) => file !== undefined) }
  }
  try {
    return await at(revision)
  } catch (error) {
    const unknown = error instanceof NodeMlxError && error.code === 'REVISION_NOT_FOUND'
    if (!unknown || !isShortCommit(revision)) throw error
    const commits = await client.json(new URL(`${model.href}/commits/main`), asked, signal)
    const matching = (Array.isArray(commits.value) ? commits.value : [])
      .map((commit: unknown) => record(commit)['id'])
      .filter((commit) => typeof commit === 'string' && commit.startsWith(revision))
    if (matching.length !== 1) throw error
    return at(String(matching[0]))
  }
}

/** As many pages as no repository has. */
const MAX_PAGES = 1000

/** Reads a list of files, page by page. */
async function tree(
  client: HubClient,
  asked: Asked,
  first: URL,
  signal: AbortSignal,
): Promise<(ListedFile | undefined)[]> {
  const files: (ListedFile | undefined)[] = []
  let next: URL | undefined = first
  for (let page = 0; next !== undefined && page < MAX_PAGES; page++) {
    // A page elsewhere would be asked for without the token, and is none of this repository.
    if (next.origin !== first.origin) throw noHub(asked, 'continues at another host')
    const answer: { value: unknown; next?: URL } = await client.json(next, asked, signal)
    if (!Array.isArray(answer.value)) throw noHub(asked, 'lists no files')
    const entries = answer.value.filter((entry: unknown) => record(entry)['type'] !== 'directory')
    files.push(...entries.map((entry: unknown) => listed(entry, 'path')))
    next = answer.next
  }
  return files
}

function listed(entry: unknown, field: 'rfilename' | 'path'): ListedFile | undefined {
  const { [field]: name, size, lfs, blobId, oid } = record(entry)
  if (typeof name !== 'string') return undefined
  const large = record(lfs)
  const hash = [large['sha256'], large['oid'], blobId, oid].find((it) => typeof it === 'string')
  const bytes = large['size'] ?? size
  return { name, size: typeof bytes === 'number' ? bytes : undefined, hash }
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

function noHub({ id, endpoint }: Asked, what: string): NodeMlxError {
  const message = `${id}: the answer of ${endpoint.host} ${what}, so it is no hub. HF_ENDPOINT and the option "endpoint" say which is asked.`
  return new NodeMlxError('HUB_ERROR', message)
}

/** The address of a file's content. */
export function contentAddress(client: HubClient, id: string, commit: string, name: string): URL {
  return client.address(id, 'resolve', commit, ...name.split('/').map(encodeURIComponent))
}

/** Answers of servers that do not know HEAD. */
const NO_HEAD = new Set([405, 501])

/** What the hub says of a file: in the answer that redirects to the content, where it does. */
export async function describe(
  client: HubClient,
  id: string,
  commit: string,
  file: ListedFile,
  signal: AbortSignal,
): Promise<RemoteFile> {
  const asked: Asked = {
    id,
    revision: commit,
    file: file.name,
    endpoint: client.endpoint,
    token: client.token,
  }
  const url = contentAddress(client, id, commit, file.name)
  const ask = (method: 'GET' | 'HEAD'): Promise<RemoteFile | undefined> =>
    client.exchange(
      url,
      method,
      {},
      asked,
      signal,
      ({ response }) => {
        const { status, headers } = response
        if (method === 'HEAD' && NO_HEAD.has(status)) return undefined
        if (status >= 400) throw refusal(response, asked)
        const etag = etagOf(headers, file)
        if (etag === undefined) throw noHub(asked, `has no usable ETag for ${file.name}`)
        return { name: file.name, etag, size: sizeOf(status, headers) ?? file.size }
      },
      ({ headers }) => headers.has('x-linked-etag'),
    )
  const described = await client.persistently(signal, async () => (await ask('HEAD')) ?? ask('GET'))
  if (described === undefined) throw noHub(asked, `does not describe ${file.name}`)
  return described
}

const HASH = /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/

/**
 * The name of a file's blob: what the ETag says without its dress, where that can be the name of a
 * file.
 */
function etagOf(headers: Headers, file: ListedFile): string | undefined {
  const header = headers.get('x-linked-etag') ?? headers.get('etag') ?? ''
  const etag = header.trim().replace(/^W\//, '').replaceAll('"', '')
  // Where the server's own mark is no hash, the list of files may have one, which can be checked.
  if (!HASH.test(etag) && file.hash !== undefined && HASH.test(file.hash)) return file.hash
  return /^\w[\w.+=-]{0,200}$/.test(etag) ? etag : undefined
}

function sizeOf(status: number, headers: Headers): number | undefined {
  const encoded = (headers.get('content-encoding') ?? 'identity') !== 'identity'
  const own = status === 200 && !encoded ? headers.get('content-length') : null
  const size = headers.get('x-linked-size') ?? own
  return size !== null && /^\d{1,16}$/.test(size) ? Number(size) : undefined
}
