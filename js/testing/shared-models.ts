import { mkdtempSync, rmSync } from 'node:fs'
import { createConnection, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, serve, type Client } from '../client/index.js'
import { load, LoadedModel } from '../model.js'
import type { LoadModelOptions, Model } from '../types.js'
import { SocketPort } from './socket-port.js'

/** Names the socket of the process whose models all of a run's workers share. */
const VARIABLE = 'NODEMLX_TEST_MODELS'

/** A model that many have: it is not theirs to dispose of. */
export class SharedModel extends LoadedModel {
  readonly #loaded: LoadedModel

  constructor(loaded: LoadedModel) {
    super(loaded.native, loaded.info.maxContextLength)
    this.#loaded = loaded
  }

  /** With the adapter that the model was loaded with. */
  override prepare(
    ...args: Parameters<LoadedModel['prepare']>
  ): ReturnType<LoadedModel['prepare']> {
    return this.#loaded.prepare(...args)
  }

  override dispose(): Promise<void> {
    return Promise.resolve()
  }
}

/**
 * Serves models to the workers of a test run that this process starts from now on, each loaded
 * once, when the first of them asks for it.
 *
 * @returns What ends that; without it, it ends with the process.
 */
export async function shareModels(): Promise<() => Promise<void>> {
  // Nobody else can look into the folder, so nobody else reaches the socket.
  const folder = mkdtempSync(join(tmpdir(), 'nodemlx-test-'))
  const path = join(folder, 'socket')
  const models = new Map<string, Promise<LoadedModel>>()
  const loadOnce = async (name: string, options: LoadModelOptions): Promise<Model> => {
    // Whoever asks first may go away before the others have it.
    const others = { ...options, signal: undefined, onProgress: undefined }
    const key = JSON.stringify([name, others])
    const loading = models.get(key) ?? load(name, others)
    models.set(key, loading)
    // The next one may have more luck.
    loading.catch(() => models.delete(key))
    return new SharedModel(await loading)
  }
  const server = createServer((socket) => {
    serve(new SocketPort(socket), { load: loadOnce })
  })
  const remove = (): void => {
    rmSync(folder, { recursive: true, force: true })
  }
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(path, resolve)
  })
  server.unref()
  process.once('exit', remove)
  process.env[VARIABLE] = path
  return async () => {
    Reflect.deleteProperty(process.env, VARIABLE)
    process.off('exit', remove)
    server.close()
    remove()
    const loaded = await Promise.allSettled(models.values())
    for (const it of loaded) if (it.status === 'fulfilled') await it.value.dispose()
  }
}

let client: Promise<Client | undefined> | undefined

/** The models of the process that shares them; `undefined` where there is none. */
export function sharedModels(): Promise<Client | undefined> {
  const path = process.env[VARIABLE]
  client ??= path === undefined ? Promise.resolve(undefined) : reach(path)
  return client
}

function reach(path: string): Promise<Client | undefined> {
  return new Promise((resolve) => {
    const socket = createConnection(path)
    // That of a run that has ended.
    socket.once('error', () => {
      resolve(undefined)
    })
    socket.once('connect', () => {
      resolve(connect(new SocketPort(socket)))
    })
  })
}
