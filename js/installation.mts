// installation.ts for the build that bundlers take, in which this file's place is not the
// package's. `createRequire` is a member here and not imported by name: webpack would follow the
// names into the addon, which no bundler can take in, while tools that trace files find them.
import module from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

// Bundled as CommonJS there is no `import.meta.url`, and bundled as a module no `__filename`;
// webpack writes the place that the source had into `import.meta.url`.
const files: (string | undefined)[] = [import.meta.url, ownFilename()]

export const OWN_FILES: readonly string[] = files.filter((file) => file !== undefined)

export const DEMO_FOLDER: string | undefined = isFileUrl(import.meta.url)
  ? join(dirname(fileURLToPath(import.meta.url)), '../../models/demo')
  : undefined

export const PAGE_FOLDER: string | undefined = isFileUrl(import.meta.url)
  ? join(dirname(fileURLToPath(import.meta.url)), '../../dist/server/page')
  : undefined

export function requireAddon(platform: string): unknown {
  const load = module.createRequire(OWN_FILES[0] ?? join(process.cwd(), 'main.js'))
  switch (platform) {
    case 'linux-x64-cuda13':
      return load('@nodemlx/linux-x64-cuda13')
    case 'linux-x64':
      return load('@nodemlx/linux-x64')
    case 'linux-arm64':
      return load('@nodemlx/linux-arm64')
    default:
      return load('@nodemlx/darwin-arm64')
  }
}

function isFileUrl(url: unknown): boolean {
  return typeof url === 'string' && url.startsWith('file:')
}

/** webpack takes `typeof __filename` for known, so that cannot be asked. */
function ownFilename(): string | undefined {
  try {
    return __filename
  } catch {
    return undefined
  }
}
