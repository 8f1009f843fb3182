// Downloading models from a hub that behaves: what is asked for, and what the cache then holds.

import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { downloadModel, loadModel, type LoadProgress } from '../js/index.js'
import { CONFIG, HubFixture, modelFiles, noise } from './support/hub-fixtures.js'
import { gitHash } from './support/hub-server.js'

const hub = new HubFixture()

describe('downloadModel', () => {
  it('gets what a model needs, and nothing else', async () => {
    hub.server.add('owner/needs', {
      ...modelFiles(),
      'generation_config.json': '{}',
      'tokenizer_config.json': '{}',
      'special_tokens_map.json': '{}',
      'merges.txt': '#version: 0.2',
      'vocab.json': '{}',
      'chat_template.jinja': '{{ messages }}',
      'additional_chat_templates/tool_use.jinja': '{{ tools }}',
      'preprocessor_config.json': '{}',
      'consolidated.safetensors': 'x',
      'pytorch_model.bin': 'x',
      'model.gguf': 'x',
      'onnx/model.onnx': 'x',
      'original/model.safetensors': 'x',
      'training_args.bin': 'x',
    })
    const { path } = await downloadModel('owner/needs', hub.options)
    const files = hub.names('owner/needs', 'snapshots').map((name) => name.slice(41))
    expect(files.filter((name) => name !== '' && name !== 'additional_chat_templates')).toEqual([
      'additional_chat_templates/tool_use.jinja',
      'chat_template.jinja',
      'config.json',
      'generation_config.json',
      'merges.txt',
      'model.safetensors',
      'preprocessor_config.json',
      'special_tokens_map.json',
      'tokenizer.json',
      'tokenizer_config.json',
      'vocab.json',
    ])
    expect(readFileSync(join(path, 'model.safetensors')).equals(noise(300_000))).toBe(true)
  })

  it('lays the cache out as huggingface_hub does', async () => {
    const commit = hub.server.add('owner/layout', {
      ...modelFiles(),
      'additional_chat_templates/tool_use.jinja': '{{ tools }}',
    })
    const { path, revision } = await downloadModel('owner/layout', hub.options)
    const folder = join(hub.cacheDir, 'models--owner--layout')
    expect({ path, revision }).toEqual({
      path: join(folder, 'snapshots', commit),
      revision: commit,
    })
    expect(readFileSync(join(folder, 'refs', 'main'), 'utf8')).toBe(commit)
    const blob = gitHash(CONFIG)
    expect(readlinkSync(join(path, 'config.json'))).toBe(`../../blobs/${blob}`)
    expect(readFileSync(join(folder, 'blobs', blob))).toEqual(CONFIG)
    const nested = readlinkSync(join(path, 'additional_chat_templates', 'tool_use.jinja'))
    expect(nested).toMatch(/^\.\.\/\.\.\/\.\.\/blobs\/[0-9a-f]{40}$/)
    expect(hub.names('owner/layout', 'blobs').filter((name) => name.includes('.'))).toEqual([])
    expect(existsSync(join(hub.cacheDir, '.locks', 'models--owner--layout', `${blob}.lock`))).toBe(
      true,
    )
  })

  it('takes the weights that the index names', async () => {
    const index = { weight_map: { a: 'part-a.safetensors', b: 'part-b.safetensors' } }
    hub.server.add('owner/index', {
      'config.json': CONFIG,
      'tokenizer.json': '{}',
      'model.safetensors.index.json': JSON.stringify(index),
      'part-a.safetensors': 'a',
      'part-b.safetensors': 'b',
      'part-c.safetensors': 'c',
    })
    await downloadModel('owner/index', hub.options)
    expect(hub.server.of('part-a.safetensors')).not.toEqual([])
    expect(hub.server.of('part-b.safetensors')).not.toEqual([])
    expect(hub.server.of('part-c.safetensors')).toEqual([])
  })

  it('passes over an index that a conversion left behind', async () => {
    const index = { weight_map: { a: 'model-00001-of-00002.safetensors' } }
    hub.server.add('owner/stale', {
      ...modelFiles(),
      'model.safetensors.index.json': JSON.stringify(index),
    })
    const { path } = await downloadModel('owner/stale', hub.options)
    expect(existsSync(join(path, 'model.safetensors'))).toBe(true)
  })

  it.each(['names', 'tree'] as const)('understands hubs that list files as %s', async (listing) => {
    hub.server.add(`owner/${listing}`, modelFiles())
    hub.server.listing = listing
    const { path } = await downloadModel(`owner/${listing}`, hub.options)
    expect(readFileSync(join(path, 'config.json'))).toEqual(CONFIG)
  })

  it('takes what is included, without what is excluded', async () => {
    hub.server.add('owner/globs', { ...modelFiles(), 'sub/extra.md': 'x' })
    const { path } = await downloadModel('owner/globs', {
      ...hub.options,
      include: ['*.md', 'config.json'],
      exclude: ['sub/*'],
    })
    expect(existsSync(join(path, 'README.md'))).toBe(true)
    expect(existsSync(join(path, 'config.json'))).toBe(true)
    expect(existsSync(join(path, 'sub'))).toBe(false)
    expect(existsSync(join(path, 'model.safetensors'))).toBe(false)
  })

  it('leaves a branch at a model that is whole where a part of a newer one comes', async () => {
    const first = hub.server.add('owner/moved', modelFiles('one'))
    await downloadModel('owner/moved', hub.options)
    const second = hub.server.add('owner/moved', modelFiles('two'))
    const part = await downloadModel('owner/moved', { ...hub.options, include: ['README.md'] })
    expect(part.revision).toBe(second)
    expect(existsSync(join(part.path, 'README.md'))).toBe(true)
    const reference = (): string =>
      readFileSync(join(hub.cacheDir, 'models--owner--moved', 'refs', 'main'), 'utf8')
    expect(reference()).toBe(first)
    await downloadModel('owner/moved', { ...hub.options, exclude: ['*.safetensors'] })
    expect(reference()).toBe(first)
    await downloadModel('owner/moved', hub.options)
    expect(reference()).toBe(second)
    // Of what is nowhere whole a part is better than nothing.
    hub.server.add('owner/part', modelFiles())
    await downloadModel('owner/part', { ...hub.options, include: ['config.json'] })
    expect(hub.names('owner/part', 'refs')).toEqual(['main'])
  })

  it.each([{ include: ['*.gguf'] }, { exclude: ['*'] }, { include: ['*.md'], exclude: ['*'] }])(
    'says what there is where nothing is selected: %j',
    async (selection) => {
      hub.server.add('owner/none', modelFiles())
      const nothing = downloadModel('owner/none', { ...hub.options, ...selection })
      await expect(nothing).rejects.toMatchObject({
        code: 'FILE_NOT_FOUND',
        message: expect.stringContaining('model.safetensors') as string,
      })
      expect(hub.names('owner/none', 'refs')).toEqual([])
    },
  )

  it.each(['names', 'tree'] as const)(
    'mends what is damaged, if asked to (%s)',
    async (listing) => {
      const id = `owner/damaged-${listing}`
      hub.server.listing = listing
      const links = listing === 'names' ? undefined : '1'
      if (links !== undefined) process.env['HF_HUB_DISABLE_SYMLINKS'] = links
      hub.server.add(id, modelFiles())
      const { path, bytes } = await downloadModel(id, hub.options)
      const text = Buffer.from('{"version": "1.0"}')
      const damaged = { 'tokenizer.json': text, 'model.safetensors': noise(300_000) }
      for (const [name, content] of Object.entries(damaged))
        writeFileSync(join(path, name), Buffer.alloc(content.length, 'x'))
      expect(await downloadModel(id, hub.options)).toMatchObject({ downloadedBytes: 0 })
      const mended = await downloadModel(id, { ...hub.options, verify: true })
      expect(mended).toMatchObject({ path, bytes })
      expect(mended.downloadedBytes).toBe(text.length + 300_000)
      for (const [name, content] of Object.entries(damaged))
        expect(readFileSync(join(path, name)).equals(content)).toBe(true)
      expect(await downloadModel(id, { ...hub.options, verify: true })).toMatchObject({
        downloadedBytes: 0,
      })
      await expect(
        downloadModel(id, { ...hub.options, verify: true, offline: true }),
      ).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', option: 'verify' })
    },
  )

  it('ends with what its callback throws or rejects with', async () => {
    hub.server.add('owner/callback', modelFiles())
    const fails: (() => void)[] = [
      () => {
        throw new Error('no more')
      },
      () => Promise.reject(new Error('no more')),
    ]
    for (const onProgress of fails) {
      const download = downloadModel('owner/callback', { ...hub.options, onProgress })
      await expect(download).rejects.toThrow('no more')
    }
  })

  it('names branches, tags, references and commits, whole or not', async () => {
    const first = hub.server.add('owner/revisions', modelFiles('one'), 'v1')
    hub.server.add('owner/revisions', modelFiles('two'), 'refs/pr/1')
    hub.server.add('owner/revisions', modelFiles('three'), 'feature/x+y')
    hub.server.add('owner/revisions', modelFiles('four'))
    const weights = async (name: string, revision?: string): Promise<string> => {
      const { path } = await downloadModel(name, { ...hub.options, revision })
      return readFileSync(join(path, 'model.safetensors'), 'utf8')
    }
    expect(await weights('owner/revisions@v1')).toBe('one')
    expect(await weights('owner/revisions', 'refs/pr/1')).toBe('two')
    expect(await weights('owner/revisions@feature/x+y')).toBe('three')
    expect(await weights('owner/revisions', first)).toBe('one')
    expect(await weights(`owner/revisions@${first.slice(0, 8)}`)).toBe('one')
    expect(await weights('owner/revisions')).toBe('four')
    expect(hub.names('owner/revisions', 'refs')).toEqual([
      'feature',
      'feature/x+y',
      'main',
      'refs',
      'refs/pr',
      'refs/pr/1',
      'v1',
    ])
  })

  it('finds a short commit that is not in the cache', async () => {
    const commit = hub.server.add('owner/short', modelFiles())
    const { revision } = await downloadModel(`owner/short@${commit.slice(0, 7)}`, hub.options)
    expect(revision).toBe(commit)
    expect(hub.names('owner/short', 'refs')).toEqual([])
  })

  it('gets only what is new of a branch that has moved', async () => {
    hub.server.add('owner/moves', modelFiles())
    await downloadModel('owner/moves', hub.options)
    const newer = hub.server.add('owner/moves', { ...modelFiles(), 'tokenizer.json': '{"new": 1}' })
    hub.server.requests.length = 0
    const model = await downloadModel('owner/moves', hub.options)
    expect(model).toMatchObject({ revision: newer, downloadedBytes: 10 })
    expect(hub.server.of('model.safetensors')).toEqual([])
    expect(readFileSync(join(hub.cacheDir, 'models--owner--moves', 'refs', 'main'), 'utf8')).toBe(
      newer,
    )
  })

  it('asks nothing for a commit that is there', async () => {
    const commit = hub.server.add('owner/there', modelFiles())
    await downloadModel('owner/there', hub.options)
    hub.server.requests.length = 0
    const model = await downloadModel('owner/there', { ...hub.options, revision: commit })
    expect(model).toMatchObject({ revision: commit, downloadedBytes: 0 })
    expect(hub.server.requests).toEqual([])
  })

  it('asks for large files in parts, several at once', async () => {
    const weights = noise(40_000_000)
    hub.server.add('owner/large', modelFiles(weights))
    const { path } = await downloadModel('owner/large', hub.options)
    expect(readFileSync(join(path, 'model.safetensors')).equals(weights)).toBe(true)
    const ranges = hub.server.of('model.safetensors').filter(({ at }) => at === 'content')
    expect(ranges.map(({ headers }) => headers.range)).toEqual([
      'bytes=0-8388607',
      'bytes=8388608-16777215',
      'bytes=16777216-25165823',
      'bytes=25165824-33554431',
      'bytes=33554432-39999999',
    ])
  })

  it('reports one stream of progress', async () => {
    hub.server.add('owner/progress', modelFiles(noise(20_000_000)))
    const reports: LoadProgress[] = []
    const onProgress = (report: LoadProgress): void => {
      reports.push(report)
    }
    const { bytes, downloadedBytes } = await downloadModel('owner/progress', {
      ...hub.options,
      onProgress,
    })
    expect(downloadedBytes).toBe(bytes)
    expect(
      reports.every(({ stage, totalBytes }) => stage === 'download' && totalBytes === bytes),
    ).toBe(true)
    const loaded = reports.map(({ loadedBytes }) => loadedBytes)
    expect(loaded).toEqual([...loaded].sort((a, b) => a - b))
    expect(reports.at(-1)).toMatchObject({
      loadedBytes: bytes,
      file: 'model.safetensors',
      fileLoadedBytes: 20_000_000,
      fileTotalBytes: 20_000_000,
    })
  })

  it('ends where onProgress throws, and rejects with that', async () => {
    hub.server.add('owner/throws', modelFiles())
    const mine = new Error('mine')
    const onProgress = vi.fn(() => {
      throw mine
    })
    await expect(downloadModel('owner/throws', { ...hub.options, onProgress })).rejects.toBe(mine)
    expect(onProgress).toHaveBeenCalledTimes(1)
  })

  it('uses the fetch that it is given for everything', async () => {
    hub.server.add('owner/fetch', modelFiles(noise(20_000_000)))
    const mine = vi.fn((...args: Parameters<typeof fetch>) => fetch(...args))
    await downloadModel('owner/fetch', { ...hub.options, fetch: mine })
    expect(mine.mock.calls.length).toBe(hub.server.requests.length)
  })

  it('finds a hub below a path, whose address may end in a slash', async () => {
    hub.server.add('owner/path', modelFiles())
    hub.server.base = '/mirror/hf'
    const endpoint = `${hub.server.endpoint}/mirror/hf/`
    await expect(downloadModel('owner/path', { ...hub.options, endpoint })).resolves.toBeDefined()
  })

  it('takes an alias', async () => {
    hub.server.add('mlx-community/Qwen3-4B-4bit', modelFiles())
    await downloadModel('Qwen3', hub.options)
    expect(hub.names('mlx-community/Qwen3-4B-4bit', 'refs')).toEqual(['main'])
  })

  it('refuses an architecture that does not run before its weights come', async () => {
    hub.server.add('owner/other', { ...modelFiles(), 'config.json': '{"model_type": "other"}' })
    await expect(downloadModel('owner/other', hub.options)).rejects.toMatchObject({
      code: 'UNKNOWN_ARCHITECTURE',
    })
    expect(hub.server.of('model.safetensors', 'HEAD')).toEqual([])
  })

  it.each<[Record<string, string>, RegExp]>([
    [{ 'model.gguf': 'x' }, /no model of a config\.json .*llama\.cpp/],
    [{ 'config.json': CONFIG.toString(), 'pytorch_model.bin': 'x' }, /PyTorch/],
    [{ 'adapter_config.json': '{}', 'adapter_model.safetensors': 'x' }, /adapter \(LoRA\)/],
  ])('says what a repository has in place of a model: %j', async (files, says) => {
    hub.server.add('owner/none', files)
    await expect(downloadModel('owner/none', hub.options)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(says) as string,
    })
  })

  it.each([
    ['no-owner', 'id'],
    ['a/b/c', 'id'],
    ['../up', 'id'],
    ['a/../b', 'id'],
    ['owner/name@', 'id'],
    ['owner/name@../x', 'id'],
    ['', 'id'],
  ])('refuses %j as a name', async (name, option) => {
    await expect(downloadModel(name, hub.options)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      option,
    })
  })

  it.each([
    [{ revision: '../x' }, 'revision'],
    [{ endpoint: 'ftp://x' }, 'endpoint'],
    [{ endpoint: 'nowhere' }, 'endpoint'],
    [{ token: 5 }, 'token'],
    [{ token: 'two words' }, 'token'],
    [{ include: '*.json' }, 'include'],
    [{ localFilesOnly: true }, 'localFilesOnly'],
  ])('refuses the options %j', async (options, option) => {
    await expect(
      downloadModel('owner/name', { ...hub.options, ...options } as object),
    ).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', option })
  })
})

describe('where links are refused', () => {
  it('snapshots hold the files themselves', async () => {
    hub.server.add('owner/links', modelFiles())
    process.env['HF_HUB_DISABLE_SYMLINKS'] = '1'
    const { path } = await downloadModel('owner/links', hub.options)
    const weights = join(path, 'model.safetensors')
    expect(lstatSync(weights).isFile()).toBe(true)
    expect(readFileSync(weights).equals(noise(300_000))).toBe(true)
    hub.server.requests.length = 0
    expect(await downloadModel('owner/links', hub.options)).toMatchObject({ downloadedBytes: 0 })
    expect(hub.server.requests.map(({ method }) => method)).toEqual(['GET'])
  })
})

describe('loadModel', () => {
  it('needs no network for what is there, and says what is missing', async () => {
    hub.server.add('owner/offline', modelFiles())
    const options = { ...hub.options, offline: true }
    await expect(loadModel('owner/offline', options)).rejects.toMatchObject({ code: 'OFFLINE' })
    await downloadModel('owner/offline', hub.options)
    hub.server.requests.length = 0
    // The weights are noise, which is found out only once they are looked at.
    await expect(loadModel('owner/offline', options)).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS',
      message: expect.stringContaining('"nodemlx download --verify owner/offline"') as string,
    })
    await expect(loadModel('owner/offline', hub.options)).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS',
    })
    process.env['HF_HUB_OFFLINE'] = 'TRUE'
    await expect(downloadModel('owner/offline', hub.options)).resolves.toMatchObject({
      downloadedBytes: 0,
    })
    expect(hub.server.requests).toEqual([])
    rmSync(join(hub.cacheDir, 'models--owner--offline', 'blobs', gitHash(CONFIG)))
    await expect(loadModel('owner/offline', hub.options)).rejects.toMatchObject({
      code: 'OFFLINE',
      message: expect.stringContaining('without config.json') as string,
    })
  })

  it('completes what another program got in part', async () => {
    const commit = hub.server.add('owner/part', modelFiles())
    await downloadModel('owner/part', { ...hub.options, exclude: ['tokenizer.json'] })
    hub.server.requests.length = 0
    await expect(loadModel('owner/part', hub.options)).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS',
    })
    expect(hub.server.of('tokenizer.json')).toHaveLength(1)
    // Another program knows that there is none.
    rmSync(join(hub.cacheDir, 'models--owner--part', 'snapshots', commit, 'tokenizer.json'))
    const missing = join(hub.cacheDir, 'models--owner--part', '.no_exist', commit)
    mkdirSync(missing, { recursive: true })
    writeFileSync(join(missing, 'tokenizer.json'), '')
    hub.server.requests.length = 0
    await expect(loadModel('owner/part', hub.options)).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS',
    })
    expect(hub.server.requests).toEqual([])
  })

  it('is near to names that were meant', async () => {
    await expect(loadModel('qwen-nosuch')).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
      message: expect.stringMatching(/neither an alias.*Did you mean .*qwen3/) as string,
    })
    await expect(loadModel('owner/nosuch', hub.options)).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
    })
    await expect(loadModel('mlx-community/Qwen3-4B-4bits', hub.options)).rejects.toMatchObject({
      message: expect.stringContaining('Did you mean mlx-community/Qwen3-4B-4bit') as string,
    })
  })

  it('reads a cache that nobody can write', async () => {
    hub.server.add('owner/readonly', modelFiles())
    const { path } = await downloadModel('owner/readonly', hub.options)
    chmodSync(join(hub.cacheDir, 'models--owner--readonly', 'refs'), 0o500)
    await expect(downloadModel('owner/readonly', hub.options)).resolves.toMatchObject({ path })
  })
})
