// The addon and its libraries, put together in `npm/<platform>` as the platform package holds them.

import * as fs from 'node:fs'
import { basename, join, relative } from 'node:path'
import { copyFile, filesUnder, readText, writeText } from './files.mjs'
import { fromSource, metallib } from './metal.mjs'
import { mlxDir } from './native.mjs'
import { buildDir, keyOf, platform, root } from './project.mjs'
import { Problem, foreground } from './run.mjs'
import { cacheEnvironment, checkRust } from './toolchain.mjs'

/** The folder of this platform's package: in a checkout the addon is loaded from here. */
export const packageDir = join(root, 'npm', platform)

const stampFile = join(buildDir, 'addon.json')

/** A key that changes with any source of the addon; sizes and times are enough and quick. */
function sourcesKey() {
  const files = [
    ...['Cargo.toml', 'Cargo.lock', 'build.rs', '.cargo/config.toml'].map((name) =>
      join(root, name),
    ),
    ...filesUnder(join(root, 'src')),
    ...filesUnder(join(root, 'crates'), ['target']),
    ...filesUnder(join(root, 'native'), ['target']),
  ]
  return keyOf(
    ...files.map((path) => {
      const stat = fs.statSync(path, { throwIfNoEntry: false })
      return `${path} ${stat?.size} ${stat?.mtimeMs}`
    }),
  )
}

/**
 * The profile (`release` or `debug`) of the addon in its place, or undefined where its sources have
 * changed since.
 */
export function currentAddon() {
  const { key, profile } = JSON.parse(readText(stampFile) ?? '{}')
  const there =
    fs.existsSync(join(packageDir, 'nodemlx.node')) && fs.existsSync(join(root, 'index.d.ts'))
  return there && key === sourcesKey() ? profile : undefined
}

/** Builds the addon, its raw types (`index.d.ts`) and the folder of the platform package. */
export function buildAddon(profile) {
  checkRust()
  const key = sourcesKey()
  const napi = join(root, 'node_modules', '@napi-rs', 'cli', 'dist', 'cli.js')
  const options = ['--features', 'napi', '--no-js', '--output-dir', packageDir]
  options.push('--dts', join('..', '..', 'index.d.ts'))
  if (profile === 'release') options.push('--release')
  foreground(process.execPath, [napi, 'build', ...options], {
    cwd: root,
    env: cacheEnvironment(),
    what: 'Building the addon',
  })
  cleanTypes()
  if (fromSource) copyMetallib()
  else copyLibraries()
  writeText(stampFile, `${JSON.stringify({ key, profile })}\n`)
}

/** Comments that went through a macro of Rust come as the raw strings that they are there. */
function cleanTypes() {
  const path = join(root, 'index.d.ts')
  writeText(path, readText(path).replaceAll(/(\*\*?) r" /g, '$1 '))
}

/**
 * MLX finds its own libraries and kernels beside it as in the wheel, so the wheel's layout is kept.
 */
function copyLibraries() {
  const libraries = ['mlx/lib', 'mlx_cpu.libs'].flatMap((folder) =>
    filesUnder(join(mlxDir, folder))
      .filter((path) => /\.(so|dylib|metallib)(\.|$)/.test(basename(path)))
      .map((path) => relative(mlxDir, path)),
  )
  for (const library of libraries) {
    const from = join(mlxDir, library)
    const to = join(packageDir, library)
    const existing = fs.statSync(to, { throwIfNoEntry: false })
    const wanted = fs.statSync(from)
    if (existing?.size === wanted.size && existing.mtimeMs >= wanted.mtimeMs) continue
    copyFile(from, to)
  }
}

function copyMetallib() {
  if (!fs.existsSync(metallib)) {
    // mlx-sys makes it, and cargo does not run it again only because its result is gone.
    throw new Problem(`${metallib} is gone.`, [
      'Type this, then run the same command again:',
      '  cargo clean -p mlx-sys',
    ])
  }
  copyFile(metallib, join(packageDir, 'mlx.metallib'))
}
