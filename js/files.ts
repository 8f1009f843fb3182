import { existsSync } from 'node:fs'

/**
 * Whether a file is there and may be looked at: Node.js 20 with `--experimental-permission` throws
 * where it may not.
 */
export function exists(path: string): boolean {
  try {
    return existsSync(path)
  } catch {
    return false
  }
}
