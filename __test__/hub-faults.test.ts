// Downloading from a hub, and over a network, that misbehave.

import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { downloadModel, type DownloadedModel, type LoadProgress } from '../js/index.js'
import { getNative } from '../js/native.js'
import { runModule } from './support/child.js'
import { HubFixture, modelFiles, noise } from './support/hub-fixtures.js'
import type { Fault, Seen } from './support/hub-server.js'

const hub = new HubFixture()
const WEIGHTS = noise(300_000)
const LARGE = noise(20_000_000, 2)

const download = (id: string, options: object = {}): Promise<DownloadedModel> =>
  downloadModel(id, { ...hub.options, ...options })

const weightsOf = ({ path }: DownloadedModel): Buffer =>
  readFileSync(join(path, 'model.safetensors'))

const isContent = ({ at, method }: Seen): boolean => at === 'content' && method === 'GET'

/** What happens to the first requests for content, one after the other. */
function faults(...list: (Fault | undefined)[]): void {
  hub.server.fault = (seen) => (isContent(seen) ? list.shift() : undefined)
}

/** The weights' file in the cache while it grows. */
function partial(id: string): string {
  const blobs = join(hub.cacheDir, `models--${id.replace('/', '--')}`, 'blobs')
  const name = readdirSync(blobs).find((it) => it.endsWith('.incomplete'))
  return name === undefined ? '' : join(blobs, name)
}

describe('a connection', () => {
  it.each([0, 1, 1000, 299_999])('that is cut after %i bytes is made again', async (cutAfter) => {
    hub.server.add('owner/cut', modelFiles(WEIGHTS))
    faults({ cutAfter })
    const reports: LoadProgress[] = []
    const model = await download('owner/cut', {
      onProgress: (report: LoadProgress) => reports.push(report),
    })
    expect(weightsOf(model).equals(WEIGHTS)).toBe(true)
    const [, again] = hub.server.requests.filter(isContent)
    expect(again?.headers.range).toBe(cutAfter === 0 ? undefined : `bytes=${cutAfter}-`)
    expect(reports.at(-1)?.loadedBytes).toBe(model.bytes)
  })

  it('that is cut within a part of a large file is made again', async () => {
    hub.server.add('owner/parts', modelFiles(LARGE))
    faults(undefined, { cutAfter: 5_000_000 }, { cutAfter: 1 }, { cutAfter: 0 })
    expect(weightsOf(await download('owner/parts')).equals(LARGE)).toBe(true)
  })

  it('that stands still is given up and made again', async () => {
    process.env['HF_HUB_DOWNLOAD_TIMEOUT'] = '0.5'
    hub.server.add('owner/stall', modelFiles(WEIGHTS))
    faults({ stallAfter: 100_000 }, { silent: true })
    expect(weightsOf(await download('owner/stall')).equals(WEIGHTS)).toBe(true)
  })

  it('that is slow is waited for', async () => {
    // It takes longer than that in all, and not for any of its pieces.
    process.env['HF_HUB_DOWNLOAD_TIMEOUT'] = '3'
    hub.server.add('owner/slow', modelFiles(WEIGHTS))
    faults({ slowMs: 200 })
    expect(weightsOf(await download('owner/slow')).equals(WEIGHTS)).toBe(true)
    expect(hub.server.requests.filter(isContent)).toHaveLength(1)
  })

  it('that there is none of is said soon', async () => {
    const start = performance.now()
    await expect(
      downloadModel('owner/name', { cacheDir: hub.cacheDir, endpoint: 'http://127.0.0.1:9' }),
    ).rejects.toMatchObject({
      code: 'NETWORK_ERROR',
      message: expect.stringMatching(/127\.0\.0\.1:9 \(ECONNREFUSED\)/) as string,
    })
    expect(performance.now() - start).toBeLessThan(10_000)
  })

  it('that always breaks off ends with an error, and what has come is kept', async () => {
    hub.server.add('owner/never', modelFiles(WEIGHTS))
    faults({ cutAfter: 100_000 })
    const rest = hub.server.fault
    hub.server.fault = (seen) => rest(seen) ?? (isContent(seen) ? { cutAfter: 0 } : undefined)
    await expect(download('owner/never')).rejects.toMatchObject({ code: 'NETWORK_ERROR' })
    expect(readFileSync(partial('owner/never')).equals(WEIGHTS.subarray(0, 100_000))).toBe(true)
    hub.server.fault = () => undefined
    const model = await download('owner/never')
    expect(model.downloadedBytes).toBe(200_000)
    expect(weightsOf(model).equals(WEIGHTS)).toBe(true)
  }, 60_000)
})

describe('a server', () => {
  it.each([500, 502, 503, 504, 429, 408])(
    'that answers %i for a while is asked again',
    async (status) => {
      hub.server.add('owner/busy', modelFiles(WEIGHTS))
      const seen = new Map<string, number>()
      hub.server.fault = ({ at, method, url }) => {
        const key = `${at} ${method} ${url}`
        seen.set(key, (seen.get(key) ?? 0) + 1)
        return seen.get(key) === 1 ? { status } : undefined
      }
      expect(weightsOf(await download('owner/busy')).equals(WEIGHTS)).toBe(true)
    },
  )

  it.each([
    ['seconds', () => '1'],
    ['a date', () => new Date(Date.now() + 2000).toUTCString()],
  ])('that asks to wait for %s is given that time', async (_, value) => {
    hub.server.add('owner/wait', modelFiles(WEIGHTS))
    let first = true
    hub.server.fault = ({ url }) => {
      if (!first || !url.startsWith('/api/')) return undefined
      first = false
      return { status: 429, headers: { 'retry-after': value() } }
    }
    const start = performance.now()
    const reasons: (string | undefined)[] = []
    await download('owner/wait', {
      onProgress: ({ waiting }: LoadProgress) => reasons.push(waiting),
    })
    expect(performance.now() - start).toBeGreaterThan(900)
    expect(reasons[0]).toMatch(/tries again in \d s, after: .*too many requests/)
    expect(reasons.at(-1)).toBeUndefined()
  })

  it('that asks for too long a wait is left', async () => {
    hub.server.fault = () => ({ status: 429, headers: { 'retry-after': '86400' } })
    await expect(download('owner/name')).rejects.toMatchObject({
      code: 'HUB_ERROR',
      message: expect.stringContaining('86400 s') as string,
    })
  })

  it('that ignores ranges sends everything once more', async () => {
    hub.server.add('owner/whole', modelFiles(WEIGHTS))
    faults({ cutAfter: 200_000 }, { ignoreRange: true })
    expect(weightsOf(await download('owner/whole')).equals(WEIGHTS)).toBe(true)
  })

  it('that ignores ranges is not asked for parts', async () => {
    hub.server.add('owner/noparts', modelFiles(LARGE))
    hub.server.fault = (seen) => (isContent(seen) ? { ignoreRange: true } : undefined)
    expect(weightsOf(await download('owner/noparts')).equals(LARGE)).toBe(true)
  })

  it('that announces too many bytes is asked for the rest, in vain', async () => {
    hub.server.add('owner/long', modelFiles(WEIGHTS))
    faults({ contentLength: 400_000, cutAfter: 299_000 })
    expect(weightsOf(await download('owner/long')).equals(WEIGHTS)).toBe(true)
  })

  it('that announces too few bytes is asked for the rest', async () => {
    hub.server.add('owner/few', modelFiles(WEIGHTS))
    faults({ contentLength: 1000, content: WEIGHTS.subarray(0, 1000) })
    expect(weightsOf(await download('owner/few')).equals(WEIGHTS)).toBe(true)
  })

  it('that packs what it sends is understood', async () => {
    const { gzipSync } = await import('node:zlib')
    const packed = gzipSync(WEIGHTS)
    hub.server.add('owner/gzip', modelFiles(WEIGHTS))
    faults({ content: packed, headers: { 'content-encoding': 'gzip' } })
    expect(weightsOf(await download('owner/gzip')).equals(WEIGHTS)).toBe(true)
  })

  it('that knows no HEAD is asked otherwise', async () => {
    hub.server.add('owner/nohead', modelFiles(WEIGHTS))
    hub.server.fault = ({ method }) => (method === 'HEAD' ? { status: 405 } : undefined)
    expect(weightsOf(await download('owner/nohead')).equals(WEIGHTS)).toBe(true)
  })

  it('whose signed address expires is asked for another', async () => {
    hub.server.add('owner/expires', modelFiles(WEIGHTS))
    faults({ cutAfter: 1000 }, { status: 403 })
    expect(weightsOf(await download('owner/expires')).equals(WEIGHTS)).toBe(true)
    expect(hub.server.of('model.safetensors').filter(({ at }) => at === 'hub')).toHaveLength(2)
  })

  it.each([
    ['is no hub', { status: 200, body: '<html>' }],
    ['names no commit', { status: 200, body: '{"sha": "../../up", "siblings": []}' }],
  ])('that %s is refused', async (_, fault) => {
    hub.server.fault = () => fault
    await expect(download('owner/name')).rejects.toMatchObject({ code: 'HUB_ERROR' })
    expect(readdirSync(hub.cacheDir)).toEqual([])
  })

  it('that redirects for ever is left', async () => {
    hub.server.fault = ({ url }) => ({ status: 302, headers: { location: url } })
    await expect(download('owner/name')).rejects.toMatchObject({ code: 'NETWORK_ERROR' })
  }, 60_000)

  it('that moved a model leads there by a relative address', async () => {
    hub.server.add('owner/new', modelFiles(WEIGHTS))
    hub.server.fault = ({ at, url }) =>
      at === 'hub' && url.includes('owner/old')
        ? { status: 307, headers: { location: url.replace('owner/old', 'owner/new') } }
        : undefined
    expect(weightsOf(await download('owner/old')).equals(WEIGHTS)).toBe(true)
  })
})

describe('content', () => {
  it('that is wrong is thrown away and named', async () => {
    hub.server.add('owner/wrong', modelFiles(WEIGHTS))
    hub.server.fault = (seen) => (isContent(seen) ? { content: noise(300_000, 9) } : undefined)
    await expect(download('owner/wrong')).rejects.toMatchObject({
      code: 'HASH_MISMATCH',
      message: expect.stringContaining('model.safetensors') as string,
    })
    expect(partial('owner/wrong')).toBe('')
    expect(hub.names('owner/wrong', 'snapshots').join()).not.toContain('model.safetensors')
    expect(hub.names('owner/wrong', 'refs')).toEqual([])
  })

  it('of Git that is wrong is thrown away and named', async () => {
    hub.server.add('owner/git', modelFiles(WEIGHTS))
    hub.server.fault = ({ method, file }) =>
      method === 'GET' && file === 'tokenizer.json'
        ? { content: Buffer.from('{"version": "2.0"}') }
        : undefined
    await expect(download('owner/git')).rejects.toMatchObject({
      code: 'HASH_MISMATCH',
      message: expect.stringContaining('tokenizer.json') as string,
    })
  })

  it('that is longer than announced is refused', async () => {
    hub.server.add('owner/longer', modelFiles(WEIGHTS))
    hub.server.fault = (seen) =>
      isContent(seen) ? { content: Buffer.concat([WEIGHTS, WEIGHTS]) } : undefined
    await expect(download('owner/longer')).rejects.toMatchObject({ code: 'HASH_MISMATCH' })
    expect(partial('owner/longer')).toBe('')
  })

  it('that an earlier program left is gone on from, or begun again where it is wrong', async () => {
    const commit = hub.server.add('owner/left', modelFiles(WEIGHTS))
    const model = await download('owner/left')
    const blob = join(hub.cacheDir, 'models--owner--left', 'blobs')
    const etag = readdirSync(blob).find((name) => name.length === 64) ?? ''
    for (const [left, expected] of [
      [WEIGHTS.subarray(0, 123_456), 300_000 - 123_456],
      [noise(123_456, 9), 300_000 - 123_456 + 300_000],
      [Buffer.concat([WEIGHTS, WEIGHTS]), 300_000],
      [WEIGHTS, 0],
    ] as const) {
      const { rmSync } = await import('node:fs')
      rmSync(join(blob, etag))
      rmSync(join(model.path, 'model.safetensors'))
      writeFileSync(join(blob, `${etag}.incomplete`), left)
      const again = await download('owner/left', { revision: commit })
      expect(weightsOf(again).equals(WEIGHTS)).toBe(true)
      expect(again.downloadedBytes).toBe(expected)
    }
  })
})

describe('a token', () => {
  it('goes to the hub and nowhere else', async () => {
    hub.server.add('owner/private', modelFiles(WEIGHTS))
    hub.server.token = 'hf_secret'
    await download('owner/private', { token: 'hf_secret' })
    for (const { at, headers } of hub.server.requests)
      expect(headers.authorization).toBe(at === 'hub' ? 'Bearer hf_secret' : undefined)
  })

  it('does not come back through another host', async () => {
    hub.server.add('owner/back', modelFiles(WEIGHTS))
    hub.server.fault = ({ at, url }) =>
      at === 'content'
        ? { status: 302, headers: { location: `${hub.server.endpoint}/trap${url}` } }
        : undefined
    await expect(download('owner/back', { token: 'hf_secret' })).rejects.toThrow()
    const trapped = hub.server.of('/trap/')
    expect(trapped.length).toBeGreaterThan(0)
    expect(trapped.every(({ headers }) => headers.authorization === undefined)).toBe(true)
  })

  it('is taken from the environment or the file of a login', async () => {
    hub.server.add('owner/login', modelFiles(WEIGHTS))
    hub.server.token = 'hf_secret'
    process.env['HF_TOKEN'] = ' hf_secret\n'
    await download('owner/login')
    delete process.env['HF_TOKEN']
    const path = join(hub.cacheDir, 'home', 'token')
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, 'hf_secret\n')
    await download('owner/login')
    await expect(download('owner/login', { token: false })).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
    })
    process.env['HF_HUB_DISABLE_IMPLICIT_TOKEN'] = '1'
    await expect(download('owner/login')).rejects.toMatchObject({
      message: expect.stringContaining('HF_TOKEN') as string,
    })
  })

  it.each<[Fault, string, RegExp]>([
    [
      { status: 403, headers: { 'x-error-code': 'GatedRepo' } },
      'GATED_MODEL',
      /agree .*\/owner\/name, then give a token/,
    ],
    [{ status: 401, headers: { 'x-error-code': 'GatedRepo' } }, 'GATED_MODEL', /agree/],
    [
      {
        status: 401,
        headers: { 'x-error-message': 'Invalid credentials in Authorization header' },
      },
      'UNAUTHORIZED',
      /token \(from token\) is not accepted/,
    ],
    [{ status: 403 }, 'UNAUTHORIZED', /is not accepted/],
    [
      { status: 401, headers: { 'x-error-code': 'RepoNotFound' } },
      'MODEL_NOT_FOUND',
      /owner\/name/,
    ],
    [{ status: 404 }, 'MODEL_NOT_FOUND', /owner\/name/],
    [
      { status: 404, headers: { 'x-error-code': 'RevisionNotFound' } },
      'REVISION_NOT_FOUND',
      /"main"/,
    ],
    [{ status: 418 }, 'HUB_ERROR', /HTTP 418/],
  ])('that is refused with %j gives %s', async (fault, code, says) => {
    hub.server.fault = () => fault
    await expect(download('owner/name', { token: 'hf_secret' })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(says) as string,
    })
    expect(hub.server.requests).toHaveLength(1)
  })
})

describe('names of files', () => {
  it.each([
    '../config.json',
    '/etc/config.json',
    'a/../../config.json',
    'C:/config.json',
    'sub\\config.json',
    'CON.json',
    'aux',
    'nul\u0000.json',
    'line\nbreak.json',
    `${'x'.repeat(256)}.json`,
    'dot./config.json',
    'a//config.json',
    './config.json',
  ])('such as %j are refused where they are wanted, and else passed over', async (name) => {
    hub.server.add('owner/hostile', { ...modelFiles(WEIGHTS), [name]: 'x' })
    expect(weightsOf(await download('owner/hostile')).equals(WEIGHTS)).toBe(true)
    await expect(download('owner/hostile', { include: ['*'] })).rejects.toMatchObject({
      code: 'UNSAFE_FILE_NAME',
    })
    expect(readdirSync(dirname(hub.cacheDir)).filter((it) => it === 'config.json')).toEqual([])
  })

  it('in the index are refused', async () => {
    hub.server.add('owner/hostile', {
      ...modelFiles(WEIGHTS),
      'model.safetensors.index.json': JSON.stringify({
        weight_map: { a: '../../evil.safetensors' },
      }),
      '../../evil.safetensors': 'x',
    })
    await expect(download('owner/hostile')).rejects.toMatchObject({ code: 'UNSAFE_FILE_NAME' })
  })

  it('that differ by case alone are refused', async () => {
    hub.server.add('owner/case', { ...modelFiles(WEIGHTS), 'Config.json': '{}' })
    await expect(download('owner/case', { include: ['*.json'] })).rejects.toMatchObject({
      code: 'UNSAFE_FILE_NAME',
      message: expect.stringContaining('ignore case') as string,
    })
  })

  it.each(['"../../x"', '"a/b"', '""', '".."', 'W/"x\\\\y"'])(
    'an ETag such as %s names no blob',
    async (etag) => {
      hub.server.add('owner/etag', modelFiles(WEIGHTS))
      hub.server.listing = 'names'
      hub.server.fault = ({ method, url }) =>
        method === 'HEAD' && url.endsWith('config.json')
          ? { status: 200, headers: { etag, 'content-length': '5' } }
          : undefined
      await expect(download('owner/etag')).rejects.toMatchObject({ code: 'HUB_ERROR' })
    },
  )
})

describe('an abort', () => {
  it.each([0, 1, 3, 6, 9])(
    'after %i requests leaves nothing half-written, and is gone on from',
    async (count) => {
      hub.server.add('owner/abort', modelFiles(LARGE))
      const controller = new AbortController()
      const reason = new Error('enough')
      hub.server.fault = () => {
        if (hub.server.requests.length > count) controller.abort(reason)
        return undefined
      }
      await expect(download('owner/abort', { signal: controller.signal })).rejects.toMatchObject({
        code: 'ABORTED',
        cause: reason,
      })
      expect(hub.names('owner/abort', 'refs')).toEqual([])
      hub.server.fault = () => undefined
      expect(weightsOf(await download('owner/abort')).equals(LARGE)).toBe(true)
    },
  )

  it('of a signal that is aborted already asks nothing', async () => {
    const signal = AbortSignal.abort('before')
    await expect(download('owner/name', { signal })).rejects.toMatchObject({ code: 'ABORTED' })
    expect(hub.server.requests).toEqual([])
  })
})

describe('processes', () => {
  const program = (id: string): string => `
    import { downloadModel } from 'nodemlx'
    const options = ${JSON.stringify(hub.options)}
    console.log(JSON.stringify(await downloadModel('${id}', options)))`

  it('that want the same file load it once', async () => {
    hub.server.add('owner/both', modelFiles(LARGE))
    hub.server.fault = (seen) => (isContent(seen) ? { slowMs: 1 } : undefined)
    const outcomes = await Promise.all([
      runModule(program('owner/both')),
      runModule(program('owner/both')),
    ])
    const models = outcomes.map(({ code, stdout, stderr }) => {
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      return JSON.parse(stdout) as DownloadedModel
    })
    const total = models.reduce((sum, { downloadedBytes }) => sum + downloadedBytes, 0)
    expect(total).toBe(models[0]?.bytes)
    expect(models.map((model) => weightsOf(model).equals(LARGE))).toEqual([true, true])
  })

  it.each(['SIGKILL', 'SIGINT', 'SIGTERM'] as const)(
    'that are ended by %s leave what the next one goes on from',
    async (signal) => {
      hub.server.add(`owner/${signal}`, modelFiles(LARGE))
      hub.server.fault = (seen) => (isContent(seen) ? { slowMs: 2 } : undefined)
      const source = `process.stdout.write('started')\n${program(`owner/${signal}`)}`
      await runModule(source, {
        onOutput: (_, kill) => {
          const timer = setInterval(() => {
            const path = existsSync(join(hub.cacheDir, `models--owner--${signal}`, 'blobs'))
              ? partial(`owner/${signal}`)
              : ''
            // A small file may have its own name by now.
            const length = statSync(path, { throwIfNoEntry: false })?.size ?? 0
            if (length < 3_000_000) return
            clearInterval(timer)
            kill(signal)
          }, 5)
        },
      })
      const left = readFileSync(partial(`owner/${signal}`))
      expect(left.length).toBeLessThan(LARGE.length)
      expect(left.equals(LARGE.subarray(0, left.length))).toBe(true)
      hub.server.fault = () => undefined
      const model = await download(`owner/${signal}`)
      expect(weightsOf(model).equals(LARGE)).toBe(true)
      expect(model.downloadedBytes).toBe(LARGE.length - left.length)
    },
  )
})

describe('a disk', () => {
  it('without room is found out before anything is downloaded', async () => {
    hub.server.add('owner/huge', modelFiles(WEIGHTS))
    hub.server.fault = ({ method, url }) =>
      method === 'HEAD' && url.endsWith('model.safetensors')
        ? {
            status: 302,
            headers: {
              'x-linked-etag': `"${'a'.repeat(64)}"`,
              'x-linked-size': String(1e15),
              location: '/',
            },
          }
        : undefined
    await expect(download('owner/huge')).rejects.toMatchObject({
      code: 'DISK_FULL',
      message: expect.stringContaining('1000000.0 GB') as string,
    })
    expect(hub.server.of('model.safetensors')).toEqual([])
  })

  it('that is full while files come is said, and what has come is kept', async () => {
    hub.server.add('owner/full', modelFiles(LARGE))
    const { runProgram } = await import('./support/child.js')
    const source = `
      import { downloadModel } from 'nodemlx'
      process.on('SIGXFSZ', () => undefined)
      await downloadModel('owner/full', ${JSON.stringify(hub.options)}).catch((error) => console.log(error.code))`
    // A limit on the size of files stands for a disk that is full.
    const { stdout } = await runProgram('sh', [
      '-c',
      `ulimit -f 4000; exec "$0" --input-type=module --eval "$1"`,
      process.execPath,
      source,
    ])
    expect(stdout).toBe('DISK_FULL\n')
    const left = readFileSync(partial('owner/full'))
    expect(left.length).toBeGreaterThan(1_000_000)
    expect(left.equals(LARGE.subarray(0, left.length))).toBe(true)
  })

  it('that cannot be written is said', async () => {
    hub.server.add('owner/file', modelFiles(WEIGHTS))
    const path = join(hub.cacheDir, 'file')
    writeFileSync(path, '')
    await expect(download('owner/file', { cacheDir: path })).rejects.toMatchObject({
      code: 'IO_ERROR',
    })
  })
})

describe('a cache that another tool empties while a file comes', () => {
  it('never shows the half of a file', async () => {
    hub.server.add('owner/emptied', modelFiles(WEIGHTS))
    let requests = 0
    hub.server.fault = (seen) =>
      isContent(seen) ? { slowMs: requests++ === 0 ? 20 : 60 } : undefined
    const first = download('owner/emptied').catch((error: unknown) => error)
    await expect.poll(() => requests, { timeout: 20_000 }).toBe(1)
    await expect.poll(() => existsSync(partial('owner/emptied')), { timeout: 20_000 }).toBe(true)
    for (const folder of ['models--owner--emptied', '.locks/models--owner--emptied'])
      rmSync(join(hub.cacheDir, folder), { recursive: true })
    const second = download('owner/emptied')
    expect(await first).toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringContaining('was removed') as string,
    })
    expect(weightsOf(await second).equals(WEIGHTS)).toBe(true)
  })
})

describe('a file that somebody else downloads', () => {
  it('is waited for, and its progress is seen', async () => {
    const weights = noise(6_000_000)
    hub.server.add('owner/shared', modelFiles(weights))
    hub.server.fault = (seen) => (isContent(seen) ? { slowMs: 4 } : undefined)
    const first = download('owner/shared')
    await expect.poll(() => existsSync(partial('owner/shared')), { timeout: 20_000 }).toBe(true)
    const reports: LoadProgress[] = []
    const second = await download('owner/shared', {
      onProgress: (report: LoadProgress) => reports.push(report),
    })
    expect(second.downloadedBytes).toBe(0)
    const bytes = reports.filter(({ file }) => file === 'model.safetensors')
    const seen = bytes.map(({ fileLoadedBytes = 0 }) => fileLoadedBytes)
    expect(seen.some((loaded) => loaded > 0 && loaded < weights.length)).toBe(true)
    expect(seen).toEqual([...seen].sort((a, b) => a - b))
    expect(reports.at(-1)?.loadedBytes).toBe(second.bytes)
    await first
  })

  it('and that does not grow, is named as what is waited for', async () => {
    hub.server.add('owner/held', modelFiles(WEIGHTS))
    await download('owner/held')
    rmSync(join(hub.cacheDir, 'models--owner--held'), { recursive: true })
    const folder = join(hub.cacheDir, '.locks', 'models--owner--held')
    const locks = readdirSync(folder).map((name) => getNative().lockFile(join(folder, name)))
    let told: (reason: string) => void = () => undefined
    const reason = new Promise<string>((resolve) => {
      told = resolve
    })
    const second = download('owner/held', {
      onProgress: ({ waiting }: LoadProgress) => {
        if (waiting !== undefined) told(waiting)
      },
    })
    expect(await reason).toContain('another process')
    for (const lock of locks) lock?.release()
    expect(weightsOf(await second).equals(WEIGHTS)).toBe(true)
  })
})
