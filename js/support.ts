import { getNative } from './native.js'
import { platformProblem } from './platform.js'

/** The version of the native addon. Throws where {@link isSupported} is false. */
export function getVersion(): string {
  return getNative().nativeVersion().addon
}

/**
 * Whether there is a build of the addon for this operating system and processor. Never throws, and
 * loads nothing.
 */
export function isPlatformSupported(): boolean {
  return platformProblem() === undefined
}

/**
 * Whether models can run here: the platform is supported, the addon is installed and loads, and a
 * Mac has a Metal device. Never throws.
 */
export function isSupported(): boolean {
  try {
    getNative().checkMachine?.()
    return true
  } catch {
    return false
  }
}
