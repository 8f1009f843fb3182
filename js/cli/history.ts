import { readFileSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

/**
 * The file of what was typed in chats; NODEMLX_HISTORY names another, or none where it is empty.
 */
function historyFile(): string | undefined {
  const path = process.env['NODEMLX_HISTORY'] ?? join(homedir(), '.nodemlx_history')
  return path === '' ? undefined : path
}

/**
 * Lines typed earlier, the newest first. A file that cannot be read is an empty one: a chat needs
 * no history.
 */
export function readHistory(): string[] {
  const file = historyFile()
  if (file === undefined) return []
  try {
    return readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .reverse()
  } catch {
    return []
  }
}

/** Keeps lines, given the newest first. */
export function writeHistory(lines: readonly string[]): void {
  const file = historyFile()
  if (file !== undefined) replaceFile(file, `${[...lines].reverse().join('\n')}\n`)
}

/**
 * Keeps a text for the user's own eyes only. The file is replaced as a whole, so that a full disk
 * costs nothing of what it said.
 */
export function replaceFile(file: string, text: string): void {
  const stat = statSync(file, { throwIfNoEntry: false })
  const target = stat === undefined ? file : realpathSync(file)
  if (stat?.isFile() === false) {
    writeFileSync(target, text)
    return
  }
  const temporary = `${target}.${process.pid}.tmp`
  try {
    writeFileSync(temporary, text, { mode: 0o600 })
    renameSync(temporary, target)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
}
