// Files that are either whole or absent: an interrupted set-up leaves nothing half-written behind.

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import * as fs from 'node:fs'
import { dirname, join } from 'node:path'

/** The file's text, or undefined where there is none. */
export function readText(path) {
  try {
    return fs.readFileSync(path, 'utf8')
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined
    throw error
  }
}

/** Writes a file at once; leaves it untouched, with its time, when it already says so. */
export function writeText(path, text) {
  if (readText(path) === text) return
  fs.mkdirSync(dirname(path), { recursive: true })
  const temporary = `${path}.${process.pid}.tmp`
  fs.writeFileSync(temporary, text)
  fs.renameSync(temporary, path)
}

/** Fills a folder with `fill(temporary)` and puts it into its place only when that succeeded. */
export async function replaceFolder(path, fill) {
  const temporary = `${path}.${process.pid}.tmp`
  fs.rmSync(temporary, { recursive: true, force: true })
  fs.mkdirSync(temporary, { recursive: true })
  try {
    await fill(temporary)
    fs.rmSync(path, { recursive: true, force: true })
    fs.renameSync(temporary, path)
  } finally {
    fs.rmSync(temporary, { recursive: true, force: true })
  }
}

/** Copies a file so that a process which has the old one open keeps it (an addon may be loaded). */
export function copyFile(from, to) {
  fs.mkdirSync(dirname(to), { recursive: true })
  const temporary = `${to}.${process.pid}.tmp`
  fs.copyFileSync(from, temporary)
  fs.renameSync(temporary, to)
}

/** The SHA-256 of a file, in hexadecimal. */
export async function sha256(path) {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return hash.digest('hex')
}

/** All files under a folder, sorted, without those in folders that `skip` names. */
export function filesUnder(folder, skip = []) {
  const found = []
  const walk = (at) => {
    for (const entry of fs.readdirSync(at, { withFileTypes: true })) {
      if (skip.includes(entry.name)) continue
      const path = join(at, entry.name)
      if (entry.isDirectory()) walk(path)
      else found.push(path)
    }
  }
  if (fs.existsSync(folder)) walk(folder)
  return found.sort()
}
