import { join } from 'node:path'
import { invalidArgument } from './errors.js'
import { expand, filled, type Environment } from './hub/environment.js'
import type { NativeLoadRequest } from './native.js'
import type { PrefixCacheOptions } from './types.js'

/** `nodemlx/prefixes` in `XDG_CACHE_HOME` or `~/.cache`. */
function defaultDirectory(environment: Environment = process.env): string {
  const caches = filled(environment, 'XDG_CACHE_HOME') ?? join('~', '.cache')
  return join(expand(caches, environment), 'nodemlx', 'prefixes')
}

/** Refuses a directory for nothing. */
export function checkedPrefixCache(options: PrefixCacheOptions): PrefixCacheOptions {
  if (options.directory !== undefined && options.diskBytes === undefined)
    throw invalidArgument(
      'prefixCache.directory',
      'is where diskBytes are kept: say how many these may be',
    )
  return options
}

/** The addon's form of the option `prefixCache`. */
export function nativePrefixCache(
  options: false | PrefixCacheOptions | undefined,
): Partial<NativeLoadRequest> {
  if (options === undefined) return {}
  if (options === false) return { prefixCacheBytes: 0 }
  const { memoryBytes, diskBytes, directory } = options
  return {
    ...(memoryBytes === undefined ? {} : { prefixCacheBytes: memoryBytes }),
    ...(diskBytes === undefined
      ? {}
      : {
          prefixCacheDiskBytes: diskBytes,
          prefixCacheDirectory: directory === undefined ? defaultDirectory() : expand(directory),
        }),
  }
}
