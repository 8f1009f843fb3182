import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** The package's folder: both `js/` and `dist/` lie directly in it. */
export const PACKAGE_ROOT: string = join(__dirname, '..')

/** The version of this package. */
export const VERSION: string = (
  JSON.parse(readFileSync(join(PACKAGE_ROOT, 'package.json'), 'utf8')) as { version: string }
).version
