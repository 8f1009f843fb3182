import { join } from 'node:path'
import { unpacked } from './asar.js'
import { requireFrom } from './require.js'

// What is installed with this file, as Node.js finds it from here. The names are written out for
// tools that copy a program's files and read them from its source (@vercel/nft, which Next.js and
// Vercel use). The build for bundlers has installation.mts instead.

/** This file. */
export const OWN_FILES: readonly string[] = [__filename]

/** The demo model. */
export const DEMO_FOLDER: string | undefined = join(__dirname, '..', 'models', 'demo')

/** The server's chat page, as it is built. */
export const PAGE_FOLDER: string | undefined = join(__dirname, '..', 'dist', 'server', 'page')

/**
 * The packages of the platforms, beside this one. They are found by their names; their folders are
 * named for tools that would else copy the addon without the libraries that it loads (Next.js).
 */
export const ADDON_FOLDERS: readonly string[] = [
  join(__dirname, '..', '..', '@nodemlx', 'linux-x64-cuda13'),
  join(__dirname, '..', '..', '@nodemlx', 'linux-x64'),
  join(__dirname, '..', '..', '@nodemlx', 'linux-arm64'),
  join(__dirname, '..', '..', '@nodemlx', 'darwin-arm64'),
]

/** The addon of an installed package. Throws where that is not installed. */
export function requireAddon(platform: string): unknown {
  return requireFrom(__filename)(unpacked(addonFile(platform), 'ADDON_UNAVAILABLE'))
}

function addonFile(platform: string): string {
  switch (platform) {
    case 'linux-x64-cuda13':
      return require.resolve('@nodemlx/linux-x64-cuda13')
    case 'linux-x64':
      return require.resolve('@nodemlx/linux-x64')
    case 'linux-arm64':
      return require.resolve('@nodemlx/linux-arm64')
    default:
      // MLX reads its kernels from a file beside the addon.
      require.resolve('@nodemlx/darwin-arm64/mlx.metallib')
      return require.resolve('@nodemlx/darwin-arm64')
  }
}
