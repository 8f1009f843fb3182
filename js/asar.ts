import { statSync } from 'node:fs'
import { NodeMlxError, type NodeMlxErrorCode } from './errors.js'
import { exists } from './files.js'

/**
 * The archive that a path leads into, such as the `app.asar` of an Electron app, and the rest of
 * the path.
 */
const IN_ARCHIVE = /^(.*?\.asar)([/\\].*)$/s

/**
 * The file on disk for a path that may lead into an archive of Electron, which only Electron's
 * JavaScript can read. What `asarUnpack` leaves outside the archive lies beside it, in
 * `app.asar.unpacked`.
 *
 * @param code - The code of the error where there is no such file outside.
 */
export function unpacked(path: string, code: NodeMlxErrorCode): string {
  const [, archive, rest] = IN_ARCHIVE.exec(path) ?? []
  if (archive === undefined || rest === undefined) return path
  const kind = kindOf(archive)
  if (kind === 'folder') return path
  const outside = `${archive}.unpacked${rest}`
  if (exists(outside)) return outside
  if (kind === 'none') return path
  throw new NodeMlxError(
    code,
    `${path} is inside an archive, which native code cannot read. Leave it outside, so that it is in ${outside}: ` +
      'name its folder in asarUnpack (electron-builder) or asar.unpack (Electron Forge).',
  )
}

/** What is really there: Electron shows archives as folders unless `noAsar` is set. */
function kindOf(archive: string): 'file' | 'folder' | 'none' {
  const { noAsar } = process as { noAsar?: boolean }
  Object.assign(process, { noAsar: true })
  try {
    const stat = statSync(archive, { throwIfNoEntry: false })
    return stat === undefined ? 'none' : stat.isDirectory() ? 'folder' : 'file'
  } catch {
    return 'none'
  } finally {
    Object.assign(process, { noAsar })
  }
}
