import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DEMO_FOLDER, OWN_FILES, PAGE_FOLDER } from './installation.js'
import { platformName } from './platform.js'
import { requireFrom } from './require.js'

let found: { folder: string | undefined } | undefined

/**
 * The folder of this package, looked for when it is first needed: above this file or, where this
 * file is part of a bundle, where a program of the bundle's place finds the package. `undefined`
 * where it is not there.
 */
export function packageFolder(): string | undefined {
  found ??= { folder: find() }
  return found.folder
}

/** Where the addon of a checkout is. */
export function builtAddon(): string | undefined {
  const folder = packageFolder()
  return folder === undefined ? undefined : join(folder, 'npm', platformName(), 'nodemlx.node')
}

/** The demo model that comes with this package. */
export function demoFolder(): string | undefined {
  if (!isBundled()) return DEMO_FOLDER
  const folder = packageFolder()
  return folder === undefined ? undefined : join(folder, 'models', 'demo')
}

/** The files of the server's chat page. */
export function pageFolder(): string | undefined {
  if (!isBundled()) return PAGE_FOLDER
  const folder = packageFolder()
  return folder === undefined ? undefined : join(folder, 'dist', 'server', 'page')
}

/** Whether this code was taken out of its package. */
export function isBundled(): boolean {
  return ownFolder() === undefined
}

/**
 * The files from which a bundle's addon can be looked for: the installed package, and those of
 * {@link placesOfBundle}.
 */
export function basesOfBundle(): string[] {
  if (!isBundled()) return []
  const folder = packageFolder()
  return [...(folder === undefined ? [] : [join(folder, 'package.json')]), ...placesOfBundle()]
}

/** The bundle, the program, and where it was started. */
function placesOfBundle(): string[] {
  const [, program] = process.argv
  return [...OWN_FILES, ...(program === undefined ? [] : [program]), join(process.cwd(), 'main.js')]
}

function find(): string | undefined {
  const own = ownFolder()
  if (own !== undefined) return own
  for (const place of placesOfBundle()) {
    try {
      return dirname(requireFrom(place).resolve('nodemlx/package.json'))
    } catch {
      // It is not there, or may not be read.
    }
  }
  return undefined
}

/** The package's folder, where this file lies in it: in `js/`, `dist/` or `dist/esm/`. */
function ownFolder(): string | undefined {
  return OWN_FILES.map((file) => dirname(file.startsWith('file:') ? fileURLToPath(file) : file))
    .flatMap((folder) => [join(folder, '..'), join(folder, '..', '..')])
    .find((folder) => packageName(folder) === 'nodemlx')
}

function packageName(folder: string): unknown {
  try {
    const manifest: unknown = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
    return (manifest as { name?: unknown } | null)?.name
  } catch {
    return undefined
  }
}
