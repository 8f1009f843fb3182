// What the cache holds: listed, and removed.

import { existsSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { downloadModel, listModels, loadModel, removeModel } from '../js/index.js'
import { CONFIG, HubFixture, modelFiles, noise } from './support/hub-fixtures.js'

const hub = new HubFixture()

describe('listModels', () => {
  it('is empty where there is no cache', async () => {
    expect(await listModels({ cacheDir: join(hub.cacheDir, 'none') })).toEqual([])
  })

  it('says of each model its revisions, its size, and whether it runs', async () => {
    const first = hub.server.add('b/name', modelFiles('one'), 'v1')
    const second = hub.server.add('b/name', modelFiles('three'))
    hub.server.add('a/other', { ...modelFiles('x'), 'config.json': '{"model_type": "other"}' })
    await downloadModel('b/name@v1', hub.options)
    await downloadModel('b/name', hub.options)
    await expect(downloadModel('a/other', hub.options)).rejects.toThrow()
    writeFileSync(join(hub.cacheDir, 'models--broken'), '')
    const models = await listModels({ cacheDir: hub.cacheDir })
    const size = CONFIG.length + '{"version": "1.0"}'.length
    expect(models).toMatchObject([
      { id: 'a/other', revisions: [{ complete: false, runs: false, modelType: 'other' }] },
      { id: 'b/name', bytes: size + 3 + 5 },
    ])
    const revisions = [...(models[1]?.revisions ?? [])]
    expect(
      revisions.map((it) => [it.revision, it.references, it.bytes, it.complete, it.runs]),
    ).toEqual(
      [
        [first, ['v1'], size + 3, true, true],
        [second, ['main'], size + 5, true, true],
      ].sort((a, b) => (String(a[0]) < String(b[0]) ? -1 : 1)),
    )
    expect(Date.now() - (models[1]?.lastUsed.getTime() ?? 0)).toBeLessThan(60_000)
  })
})

describe('a repository without an owner', () => {
  it('is listed, loaded from the cache and removed', async () => {
    hub.server.add('a/name', modelFiles('one'))
    await downloadModel('a/name', hub.options)
    const { cacheDir } = hub
    renameSync(join(cacheDir, 'models--a--name'), join(cacheDir, 'models--gpt2'))
    expect(await listModels({ cacheDir })).toMatchObject([{ id: 'gpt2' }])
    // It is found: what is wrong with it is its content.
    await expect(loadModel('gpt2', hub.options)).rejects.toMatchObject({ code: 'INVALID_WEIGHTS' })
    await expect(loadModel('gpt3', hub.options)).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' })
    const { bytes } = await removeModel('gpt2', { cacheDir })
    expect(bytes).toBeGreaterThan(3)
    expect(await listModels({ cacheDir })).toEqual([])
  })
})

describe('removeModel', () => {
  it('removes one revision, and what only that has', async () => {
    hub.server.add('a/name', modelFiles('one'), 'v1')
    hub.server.add('a/name', modelFiles('three'))
    await downloadModel('a/name@v1', hub.options)
    await downloadModel('a/name', hub.options)
    expect(await removeModel('a/name@v1', { cacheDir: hub.cacheDir })).toEqual({ bytes: 3 })
    const [model] = await listModels({ cacheDir: hub.cacheDir })
    expect(model?.revisions).toMatchObject([{ references: ['main'], complete: true }])
    expect(hub.names('a/name', 'refs')).toEqual(['main'])
    await expect(
      removeModel('a/name', { cacheDir: hub.cacheDir, revision: 'v1' }),
    ).rejects.toMatchObject({
      code: 'REVISION_NOT_FOUND',
      message: expect.stringContaining('only main') as string,
    })
  })

  it('removes all of a model', async () => {
    hub.server.add('a/name', modelFiles('one'))
    const { bytes } = await downloadModel('a/name', hub.options)
    expect(await removeModel('a/name', { cacheDir: hub.cacheDir })).toEqual({ bytes })
    expect(existsSync(join(hub.cacheDir, 'models--a--name'))).toBe(false)
    await expect(removeModel('a/name', { cacheDir: hub.cacheDir })).rejects.toMatchObject({
      code: 'MODEL_NOT_FOUND',
    })
  })

  it('counts nothing of what a link leads to', async () => {
    hub.server.add('a/linked', modelFiles('one'))
    await downloadModel('a/linked', hub.options)
    const folder = join(hub.cacheDir, 'models--a--linked')
    renameSync(folder, join(hub.cacheDir, 'elsewhere'))
    symlinkSync(join(hub.cacheDir, 'elsewhere'), folder)
    expect(await removeModel('a/linked', { cacheDir: hub.cacheDir })).toEqual({ bytes: 0 })
    expect(existsSync(folder)).toBe(false)
    expect(existsSync(join(hub.cacheDir, 'elsewhere', 'blobs'))).toBe(true)
  })

  it('waits for no download that is under way, and takes nothing from it', async () => {
    hub.server.add('a/busy', modelFiles())
    hub.server.fault = ({ at, method }) =>
      at === 'content' && method === 'GET' ? { slowMs: 20 } : undefined
    const download = downloadModel('a/busy', hub.options)
    await expect
      .poll(() => hub.names('a/busy', 'blobs').some((name) => name.endsWith('.incomplete')))
      .toBe(true)
    await expect(removeModel('a/busy', { cacheDir: hub.cacheDir })).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringContaining('is being downloaded') as string,
    })
    const { path } = await download
    expect(readFileSync(join(path, 'model.safetensors')).equals(noise(300_000))).toBe(true)
    await removeModel('a/busy', { cacheDir: hub.cacheDir })
  })

  it('takes away what a download left that was cut off', async () => {
    hub.server.add('a/part', modelFiles('one'))
    hub.server.fault = ({ at }) => (at === 'content' ? { status: 418 } : undefined)
    await expect(downloadModel('a/part', hub.options)).rejects.toThrow()
    await removeModel('a/part', { cacheDir: hub.cacheDir })
    expect(existsSync(join(hub.cacheDir, 'models--a--part'))).toBe(false)
  })

  it.each(['/etc', '../x', 'demo', './folder'])('refuses %s', async (name) => {
    await expect(removeModel(name, { cacheDir: hub.cacheDir })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      option: 'id',
    })
  })
})
