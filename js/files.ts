import { existsSync } from 'node:fs'

/** What to do where Node's permission model hides a path; nothing where it does not. */
export function permissionHint(path: string): string {
  const { permission } = process as {
    permission?: { has: (scope: string, reference: string) => boolean }
  }
  if (permission === undefined || permission.has('fs.read', path)) return ''
  return `. Node.js runs with its permission model: start it with --allow-fs-read=${path}, too`
}

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
