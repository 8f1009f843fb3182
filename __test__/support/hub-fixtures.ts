import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest'
import { ROOT } from './child.js'
import { HubServer } from './hub-server.js'

/** A configuration of an architecture that runs. */
export const CONFIG = readFileSync(join(ROOT, 'models', 'demo', 'config.json'))

/** Bytes that look random and are always the same. */
export function noise(size: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(size)
  let state = seed
  for (let at = 0; at < size; at++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    bytes[at] = state >>> 24
  }
  return bytes
}

/** The files of a model as far as a download goes: its weights are only looked at. */
export function modelFiles(
  weights: Buffer | string = noise(300_000),
): Record<string, Buffer | string> {
  return {
    'config.json': CONFIG,
    'tokenizer.json': '{"version": "1.0"}',
    'model.safetensors': weights,
    'README.md': '# Nothing that a model needs',
  }
}

/**
 * A hub, and an empty cache for each test. Variables that a user may have set are none of the
 * tests'.
 */
export class HubFixture {
  server!: HubServer
  cacheDir!: string

  constructor() {
    const kept = { ...process.env }
    beforeAll(async () => {
      this.server = await HubServer.start()
    })
    beforeEach(() => {
      this.cacheDir = mkdtempSync(join(tmpdir(), 'nodemlx-cache-'))
      for (const name of Object.keys(process.env)) {
        if (/^HF_|^HUGGING|_PROXY$|^XDG_CACHE/i.test(name))
          Reflect.deleteProperty(process.env, name)
      }
      // A token of the user who runs the tests is not for them, either.
      process.env['HF_HOME'] = join(this.cacheDir, 'home')
    })
    afterEach(() => {
      rmSync(this.cacheDir, { recursive: true, force: true })
      this.server.requests.length = 0
      this.server.fault = () => undefined
      this.server.onContent = () => undefined
      this.server.token = undefined
      this.server.listing = 'siblings'
      this.server.base = ''
      process.env = { ...kept }
    })
    afterAll(async () => {
      await this.server.stop()
    })
  }

  get options(): { endpoint: string; cacheDir: string } {
    return { endpoint: this.server.endpoint, cacheDir: this.cacheDir }
  }

  /** The names of what lies in a folder of a repository in the cache. */
  names(id: string, folder: string): string[] {
    const path = join(this.cacheDir, `models--${id.replace('/', '--')}`, folder)
    try {
      return readdirSync(path, { recursive: true }).map(String).sort()
    } catch {
      return []
    }
  }
}
