// A hub for tests, and the host to which it sends those who want large files. It misbehaves where
// it is told to.

import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

/** A request as it came. */
export interface Seen {
  /** Which of the two hosts got it. */
  at: 'hub' | 'content'
  method: string
  /** The path and what follows it. */
  url: string
  /** The name of the file, where one was asked for. */
  file: string | undefined
  headers: IncomingMessage['headers']
  /** The client's end of the connection. */
  port: number | undefined
}

/** What goes wrong with an answer. */
export interface Fault {
  /** This answer in place of the right one. */
  status?: number
  headers?: Record<string, string>
  body?: string | Buffer
  /** The connection ends after this many bytes of the content. */
  cutAfter?: number
  /** The connection stands still after this many bytes. */
  stallAfter?: number
  /** Other content of the same length, or of another. */
  content?: Buffer
  /** The answer claims to have this many bytes. */
  contentLength?: number
  /** The whole file comes whatever part is asked for. */
  ignoreRange?: boolean
  /** Milliseconds between pieces of 16 kB. */
  slowMs?: number
  /** Nothing is answered at all. */
  silent?: boolean
  /** What goes over the connection in place of an answer, piece by piece. */
  raw?: readonly (string | Buffer)[]
}

export interface HubFile {
  content: Buffer
  /** Kept in LFS: named by its SHA-256, and served by the other host. */
  large: boolean
  etag: string
}

interface Repository {
  refs: Map<string, string>
  commits: Map<string, Map<string, HubFile>>
}

const sha256 = (content: Buffer): string => createHash('sha256').update(content).digest('hex')
export const gitHash = (content: Buffer): string =>
  createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex')

export class HubServer {
  readonly requests: Seen[] = []
  /** Asked for every request; where it gives a fault, that happens. */
  fault: (request: Seen) => Fault | undefined = () => undefined
  /** Called after the headers of content were sent, while its bytes go out. */
  onContent: (seen: Seen) => void = () => undefined
  /** A token without which nothing is answered. */
  token: string | undefined
  /** How the list of files says what there is. */
  listing: 'siblings' | 'names' | 'tree' = 'siblings'
  /** A path below which everything lies. */
  base = ''
  readonly #repositories = new Map<string, Repository>()
  readonly #hub: Server
  readonly #content: Server

  private constructor() {
    this.#hub = createServer((request, response) => {
      this.#handle('hub', request, response)
    })
    this.#content = createServer((request, response) => {
      this.#handle('content', request, response)
    })
  }

  static async start(): Promise<HubServer> {
    const server = new HubServer()
    for (const it of [server.#hub, server.#content])
      await new Promise<void>((resolve) => it.listen(0, '127.0.0.1', resolve))
    return server
  }

  async stop(): Promise<void> {
    for (const it of [this.#hub, this.#content]) {
      it.closeAllConnections()
      await new Promise((resolve) => it.close(resolve))
    }
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#hub.address() as AddressInfo).port}`
  }

  get contentHost(): string {
    return `http://127.0.0.1:${(this.#content.address() as AddressInfo).port}`
  }

  /** Commits files and lets a branch point there; gives the commit. */
  add(id: string, files: Record<string, string | Buffer>, branch = 'main'): string {
    const repository = this.#repositories.get(id) ?? { refs: new Map(), commits: new Map() }
    this.#repositories.set(id, repository)
    const entries = Object.entries(files).map(([name, text]) => {
      const content = Buffer.from(text)
      const large = name.endsWith('.safetensors') || content.length > 1_000_000
      const etag = large ? sha256(content) : gitHash(content)
      return [name, { content, large, etag }] as const
    })
    const tree = entries.map(([name, { etag }]) => `${name} ${etag}`).join('\n')
    const commit = createHash('sha1').update(`${id} ${tree}`).digest('hex')
    repository.commits.set(commit, new Map(entries))
    repository.refs.set(branch, commit)
    return commit
  }

  /** The requests for a file, or for what else the address holds. */
  of(part: string, method = 'GET'): Seen[] {
    return this.requests.filter(
      (seen) => seen.method === method && (seen.file === part || seen.url.includes(part)),
    )
  }

  #handle(at: Seen['at'], request: IncomingMessage, response: ServerResponse): void {
    const { method = '', headers } = request
    const url = at === 'hub' ? (request.url ?? '').replace(this.base, '') : (request.url ?? '')
    response.on('error', () => undefined)
    const found = this.#find(url)
    const { remotePort: port } = request.socket
    const seen: Seen = { at, method, url, file: found?.name, headers, port }
    this.requests.push(seen)
    const fault = this.fault(seen) ?? {}
    if (fault.silent === true) return
    if (fault.raw !== undefined) {
      void sendRaw(request.socket, fault.raw)
      return
    }
    if (fault.status !== undefined) {
      response.writeHead(fault.status, fault.headers).end(fault.body)
      return
    }
    if (
      at === 'hub' &&
      this.token !== undefined &&
      headers.authorization !== `Bearer ${this.token}`
    ) {
      refuse(response, 401, 'RepoNotFound')
    } else if (found !== undefined) {
      this.#sendFile(seen, found.file, found.commit, response, fault)
    } else {
      this.#sendList(url, response)
    }
  }

  #find(url: string): { name: string; file: HubFile; commit: string } | undefined {
    const path = decodeURIComponent(url.replace(/\?.*$/, ''))
    const [, id = '', rest = ''] = /^\/(?:api\/.*|([^/]+\/[^/]+)\/resolve\/(.*))$/.exec(path) ?? []
    const repository = this.#repositories.get(id)
    for (const [revision, commit] of [
      ...(repository?.refs ?? []),
      ...[...(repository?.commits.keys() ?? [])].map((key) => [key, key] as const),
    ]) {
      if (!rest.startsWith(`${revision}/`)) continue
      const name = rest.slice(revision.length + 1)
      const file = repository?.commits.get(commit)?.get(name)
      if (file !== undefined) return { name, file, commit }
    }
    return undefined
  }

  #sendFile(
    seen: Seen,
    file: HubFile,
    commit: string,
    response: ServerResponse,
    fault: Fault,
  ): void {
    const { content, large, etag } = file
    response.setHeader('x-repo-commit', commit)
    if (large && seen.at === 'hub') {
      response.setHeader('x-linked-etag', `"${etag}"`)
      response.setHeader('x-linked-size', content.length)
      // As the real hub: a signed address elsewhere, with some text for those who look.
      response.writeHead(302, {
        location: `${this.contentHost}${seen.url}?signature=x`,
        ...fault.headers,
      })
      response.end('Found')
      return
    }
    response.setHeader('etag', large ? `"content-${etag.slice(0, 8)}"` : `W/"${etag}"`)
    const [, from = '', to = ''] = /^bytes=(\d+)-(\d*)$/.exec(seen.headers.range ?? '') ?? []
    const whole = fault.content ?? content
    const isPart = from !== '' && fault.ignoreRange !== true
    if (isPart && Number(from) >= whole.length) {
      response.writeHead(416, { 'content-range': `bytes */${whole.length}` }).end()
      return
    }
    const start = isPart ? Number(from) : 0
    const end = isPart && to !== '' ? Math.min(Number(to) + 1, whole.length) : whole.length
    const part = whole.subarray(start, end)
    if (isPart) response.setHeader('content-range', `bytes ${start}-${end - 1}/${whole.length}`)
    response.setHeader('accept-ranges', 'bytes')
    response.writeHead(isPart ? 206 : 200, {
      'content-length': fault.contentLength ?? part.length,
      ...fault.headers,
    })
    if (seen.method === 'HEAD') {
      response.end()
      return
    }
    this.onContent(seen)
    void send(response, part, fault)
  }

  #sendList(url: string, response: ServerResponse): void {
    const path = decodeURIComponent(url.replace(/\?.*$/, ''))
    const [, id = '', kind = '', revision = ''] =
      /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree|commits)\/(.+)$/.exec(path) ?? []
    const repository = this.#repositories.get(id)
    if (repository === undefined) {
      const [, owner = ''] = /^\/([^/]+\/[^/]+)\/resolve\//.exec(path) ?? []
      const isKnown = this.#repositories.has(owner)
      const [, commit] = /\/resolve\/([0-9a-f]{40})\//.exec(path) ?? []
      const main = this.#repositories.get(owner)?.refs.get('main')
      if (isKnown) response.setHeader('x-repo-commit', commit ?? main ?? '')
      refuse(response, isKnown ? 404 : 401, isKnown ? 'EntryNotFound' : 'RepoNotFound')
      return
    }
    if (kind === 'commits') {
      json(
        response,
        [...repository.commits.keys()].map((commit) => ({ id: commit })),
      )
      return
    }
    const commit = repository.refs.get(revision) ?? revision
    const files = repository.commits.get(commit)
    if (files === undefined) {
      refuse(response, 404, 'RevisionNotFound')
    } else if (kind === 'tree') {
      json(
        response,
        [...files].map(([name, file]) => treeEntry(name, file)),
      )
    } else {
      const siblings = [...files].map(([name, file]) => sibling(name, file, this.listing))
      json(response, {
        id,
        sha: commit,
        ...(this.listing === 'tree' ? {} : { siblings }),
      })
    }
  }
}

function sibling(name: string, { content, large, etag }: HubFile, listing: string): object {
  if (listing === 'names') return { rfilename: name }
  const size = content.length
  return large
    ? {
        rfilename: name,
        size,
        blobId: gitHash(content),
        lfs: { sha256: etag, size, pointerSize: 130 },
      }
    : { rfilename: name, size, blobId: etag }
}

function treeEntry(path: string, { content, large, etag }: HubFile): object {
  const size = content.length
  const lfs = large ? { lfs: { oid: etag, size, pointerSize: 130 } } : {}
  return { type: 'file', path, size, oid: gitHash(content), ...lfs }
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value))
}

export function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'x-error-code': code, 'x-error-message': code }).end()
}

/** Sends bytes; where it is told to, slowly, or not to the end. */
async function send(response: ServerResponse, data: Buffer, fault: Fault): Promise<void> {
  const stop = fault.cutAfter ?? fault.stallAfter
  const end = Math.min(stop ?? data.length, data.length)
  const piece = fault.slowMs === undefined ? 1 << 20 : 16 << 10
  for (let at = 0; at < end && !response.destroyed; at += piece) {
    const more = response.write(data.subarray(at, Math.min(at + piece, end)))
    if (!more) await drained(response)
    if (fault.slowMs !== undefined)
      await new Promise((resolve) => setTimeout(resolve, fault.slowMs))
  }
  if (stop === undefined || stop >= data.length) response.end()
  // What was written is to arrive before the end.
  else if (fault.cutAfter !== undefined) setTimeout(() => response.destroy(), 20)
}

async function sendRaw(socket: Socket, pieces: readonly (string | Buffer)[]): Promise<void> {
  for (const piece of pieces) {
    socket.write(piece)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done).off('close', done)
      resolve()
    }
    response.once('drain', done).once('close', done)
  })
}
