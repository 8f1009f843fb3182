import { existsSync, readFileSync } from 'node:fs'
import { release } from 'node:os'

/** The platforms that a build of the addon exists for. */
const PLATFORMS: readonly string[] = ['darwin-arm64', 'linux-x64', 'linux-arm64']

/** MLX needs macOS 14, whose kernel is Darwin 23. */
const OLDEST_DARWIN = 23

/** This platform as it is written in package names: `darwin-arm64`. */
export function platformName(): string {
  return `${process.platform}-${process.arch}`
}

/** Why this platform cannot run the addon, or `undefined` where it can. */
export function platformProblem(): string | undefined {
  const name = platformName()
  if (!PLATFORMS.includes(name)) {
    return `There is no build of nodemlx for ${name}; it runs on ${PLATFORMS.join(', ')}.`
  }
  if (process.platform === 'darwin' && Number.parseInt(release(), 10) < OLDEST_DARWIN) {
    return `nodemlx needs macOS 14 or later; this is Darwin ${release()}.`
  }
  if (process.platform === 'linux' && usesMusl()) {
    return `There is no build of nodemlx for ${name} with musl (such as Alpine Linux); use a distribution with glibc, such as Debian.`
  }
  return undefined
}

/** Whether the C library is musl. Looks at files only: a diagnostic report can take seconds on a machine with many sockets. */
function usesMusl(): boolean {
  try {
    return readFileSync('/usr/bin/ldd', 'latin1').includes('musl')
  } catch {
    return existsSync(`/lib/ld-musl-${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}.so.1`)
  }
}
