import { readFileSync } from 'node:fs'
import { release } from 'node:os'
import { exists } from './files.js'

/** The platforms that a build of the addon exists for. */
const PLATFORMS: readonly string[] = ['darwin-arm64', 'linux-x64', 'linux-arm64']

/** MLX needs macOS 14, whose kernel is Darwin 23. */
const OLDEST_DARWIN = 23

/** The C library that MLX's builds for Linux are made for. */
const OLDEST_GLIBC = [2, 35] as const

/** This platform as it is written in package names: `darwin-arm64`. */
export function platformName(): string {
  return `${process.platform}-${process.arch}`
}

/** Why this platform cannot run the addon, or `undefined` where it can. */
export function platformProblem(): string | undefined {
  const name = platformName()
  if (!PLATFORMS.includes(name))
    return `There is no build of nodemlx for ${name}; it runs on ${PLATFORMS.join(', ')}.`
  if (process.platform === 'darwin') return darwinProblem(release())
  return libcProblem(readLdd(), exists(MUSL_LOADER))
}

/** Why a Mac with this kernel is too old. */
export function darwinProblem(kernel: string): string | undefined {
  if (!(Number.parseInt(kernel, 10) < OLDEST_DARWIN)) return undefined
  return `nodemlx needs macOS 14 or later; this is an earlier one (Darwin ${kernel}).`
}

const MUSL_LOADER = `/lib/ld-musl-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.so.1`

/**
 * Why the addon does not run with a C library.
 *
 * @param ldd - The text of the program `ldd`, which both C libraries bring and which names them.
 */
export function libcProblem(ldd: string | undefined, muslLoader: boolean): string | undefined {
  if (ldd === undefined ? muslLoader : ldd.includes('musl')) {
    return `There is no build of nodemlx for ${platformName()} with musl (such as Alpine Linux); use a distribution with glibc, such as Debian.`
  }
  const [, version = ''] = /GLIBC[^)]*\)\s+(\d+\.\d+)/i.exec(ldd ?? '') ?? []
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [oldestMajor, oldestMinor] = OLDEST_GLIBC
  const tooOld = major < oldestMajor || (major === oldestMajor && minor < oldestMinor)
  if (version === '' || !tooOld) return undefined
  return `nodemlx needs glibc ${OLDEST_GLIBC.join('.')} or later, as in Debian 12 or Ubuntu 22.04; this system has ${version}.`
}

/** Looks at a file only: a diagnostic report can take seconds on a machine with many sockets. */
function readLdd(): string | undefined {
  try {
    return readFileSync('/usr/bin/ldd', 'latin1')
  } catch {
    return undefined
  }
}
