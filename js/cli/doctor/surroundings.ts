import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { filled, type Environment } from '../../hub/environment.js'
import { OWN_FILES } from '../../installation.js'
import { platformName } from '../../platform.js'
import { requireFrom } from '../../require.js'

/** Where a report gets its facts from; tests have one of their own. */
export interface Surroundings {
  platform: string
  /** The folder that stands for the root of the file system. */
  root: string
  environment: Environment
  /** What a program prints, or `undefined` where it is missing, fails or does not end. */
  run: (command: string, args: readonly string[]) => string | undefined
  /** The folder of the package with CUDA, where it is installed. */
  cudaPackage: string | undefined
}

/** A driver that hangs must not take the report with it. */
const PATIENCE_MS = 20_000

/** This machine. */
export function surroundings(): Surroundings {
  return {
    platform: platformName(),
    root: '/',
    environment: process.env,
    run: (command, args) => {
      const { status, stdout } = spawnSync(command, args, {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
        timeout: PATIENCE_MS,
      })
      return status === 0 ? stdout : undefined
    },
    cudaPackage: cudaPackage(),
  }
}

export const CUDA_PACKAGE = '@nodemlx/linux-x64-cuda13'

function cudaPackage(): string | undefined {
  const [own] = OWN_FILES
  try {
    const manifest = requireFrom(own ?? '').resolve(`${CUDA_PACKAGE}/package.json`)
    return join(manifest, '..')
  } catch {
    return undefined
  }
}

/** A text file's content, or `undefined` where it cannot be read. */
export function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

/** The folder for caches: `XDG_CACHE_HOME` or `~/.cache`; `undefined` where there is no home. */
export function cachesFolder(environment: Environment): string | undefined {
  const home = filled(environment, 'HOME')
  return filled(environment, 'XDG_CACHE_HOME') ?? (home && join(home, '.cache'))
}
