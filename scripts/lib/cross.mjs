// The project's C++ compiled for platforms that this machine is not, with the clang and the system
// headers that the wheel of zig holds.

import * as fs from 'node:fs'
import { basename, join } from 'node:path'
import { filesUnder, writeText } from './files.mjs'
import { mlxSysDir } from './native.mjs'
import { buildDir, crossWheels, pipPlatforms, root, wheels } from './project.mjs'
import { run } from './run.mjs'
import { cacheEnvironment } from './toolchain.mjs'
import { unpackWheel } from './wheel.mjs'
import { macFlags } from './zig.mjs'

const crossDir = join(buildDir, 'cross')
const primitives = join(root, 'native', 'primitives')

/** Flags of each platform that is compiled for, beside those of all. */
const platformFlags = {
  'darwin-arm64': [...macFlags.target, ...macFlags.cxx],
  'linux-arm64': [
    ...['-target', 'aarch64-linux-gnu.2.35'],
    ...['-include', join(root, 'native/mlxc/half_types.hpp')],
  ],
}

/** What zig keeps of earlier builds. */
const zigEnvironment = {
  ZIG_GLOBAL_CACHE_DIR: join(crossDir, 'zig-cache'),
  ZIG_LOCAL_CACHE_DIR: join(crossDir, 'zig-cache'),
}

/** Gets zig; resolves to its path. */
export async function getZig(report) {
  const folder = join(crossDir, 'zig')
  await unpackWheel(crossWheels.zig, folder, report)
  const zig = join(folder, 'ziglang', 'zig')
  fs.chmodSync(zig, 0o755)
  return zig
}

/** Gets the MLX of another platform; resolves to the folder with `lib/` and `include/`. */
export async function getMlx(platform, report) {
  const folder = join(crossDir, `mlx-${platform}`)
  const wheel = { ...wheels.mlx[platform], pipPlatform: pipPlatforms[platform] }
  await unpackWheel(wheel, folder, report)
  return join(folder, 'mlx')
}

/** mlx-c's sources in cargo's registry. */
export async function mlxCDir() {
  return join(await mlxSysDir(cacheEnvironment()), 'src/mlx-c')
}

/** A program that runs another one with these words before its own. */
function wrapper(name, words) {
  const path = join(crossDir, name)
  const quoted = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`)
  fs.writeFileSync(path, `#!/bin/sh\nexec ${quoted.join(' ')} "$@"\n`)
  fs.chmodSync(path, 0o755)
  return path
}

/** The program that runs zig as cargo's C compiler (`cc`) or C++ compiler (`c++`) for a Mac. */
function zigCommand(zig, language) {
  const words = [process.execPath, join(root, 'scripts/lib/zig.mjs'), zig, language]
  return wrapper(language === 'c++' ? 'zigcxx' : 'zigcc', words)
}

/**
 * Compiles C++ files for a platform; resolves to the object files. Warnings in the project's own
 * files are errors.
 */
async function compile(zig, platform, mlx, mlxC, sources, { own }) {
  const folder = join(crossDir, 'objects', platform)
  fs.mkdirSync(folder, { recursive: true })
  const warnings = own ? ['-Wall', '-Wextra', '-Wno-unused-parameter', '-Werror'] : ['-w']
  const headers = ['-isystem', join(mlx, 'include'), '-isystem', mlxC]
  const flags = ['-std=c++20', '-O1', ...platformFlags[platform], ...headers, ...warnings]
  return Promise.all(
    sources.map(async (source) => {
      const object = join(folder, basename(source).replace(/\.cpp$/, '.o'))
      await run(zig, ['c++', ...flags, '-c', source, '-o', object], {
        env: zigEnvironment,
        what: `Compiling ${basename(source)} for ${platform}`,
      })
      return object
    }),
  )
}

/** Compiles `native/primitives` for a platform; resolves to the object files. */
export function compilePrimitives(zig, platform, mlx, mlxC) {
  const sources = filesUnder(primitives).filter((path) => path.endsWith('.cpp'))
  return compile(zig, platform, mlx, mlxC, sources, { own: true })
}

/** Compiles mlx-c for a Mac; resolves to the object files. */
export async function compileMlxCForMac(zig, mlx, mlxC) {
  const sources = filesUnder(join(mlxC, 'mlx/c')).filter((path) => path.endsWith('.cpp'))
  // MLX's headers take most of the time: two units, one for each core.
  const largest = join(mlxC, 'mlx/c/ops.cpp')
  const units = [[largest], sources.filter((path) => path !== largest)]
  const files = units.map((paths, number) => {
    const unit = join(crossDir, `mlxc${number}.cpp`)
    const text = paths.map((path) => `#include ${JSON.stringify(path)}\n`).join('')
    // An unchanged file keeps its time, and zig its result.
    writeText(unit, text)
    return unit
  })
  return compile(zig, 'darwin-arm64', mlx, mlxC, files, { own: false })
}

/** What Mach-O files say of themselves, by path (see mach_o.py). */
export async function readMachO(paths) {
  const folders = ['altgraph', 'macholib'].map((name) => join(crossDir, name))
  await unpackWheel(crossWheels.altgraph, folders[0])
  await unpackWheel(crossWheels.macholib, folders[1])
  const text = await run('python3', [join(root, 'scripts/lib/mach_o.py'), ...paths], {
    env: { PYTHONPATH: folders.join(':') },
    what: 'Reading Mach-O files',
  })
  return JSON.parse(text)
}

/** The Rust standard library for a Mac: `installed`, its `sources`, or undefined. */
export async function rustForMac() {
  const rustc = process.env.RUSTC ?? 'rustc'
  const sysroot = (await run(rustc, ['--print', 'sysroot'])).trim()
  const rustlib = join(sysroot, 'lib/rustlib')
  if (fs.existsSync(join(rustlib, 'aarch64-apple-darwin/lib'))) return 'installed'
  if (fs.existsSync(join(rustlib, 'src/rust/library/Cargo.lock'))) return 'sources'
  return undefined
}

/** Builds the addon (debug) for a Mac with what {@link rustForMac} found; resolves to its path. */
export async function buildAddonForMac(std, zig, mlx, mlxC, mlxcObjects) {
  const archive = join(crossDir, 'libmlxc.a')
  fs.rmSync(archive, { force: true })
  await run(zig, ['ar', 'rcs', archive, ...mlxcObjects], { env: zigEnvironment })
  const [cc, cxx] = [zigCommand(zig, 'cc'), zigCommand(zig, 'c++')]
  const ar = wrapper('zigar', [zig, 'ar'])
  const quote = JSON.stringify
  const lib = join(mlx, 'lib')
  const config = join(crossDir, 'cargo.toml')
  fs.writeFileSync(
    config,
    `[target.aarch64-apple-darwin]
linker = ${quote(cc)}
[target.aarch64-apple-darwin.mlx]
rustc-link-search = [${quote(`native=${crossDir}`)}, ${quote(`native=${lib}`)}]
rustc-link-lib = ["static=mlxc", "dylib=mlx", "dylib=c++"]
rustc-env = { OUT_DIR = ${quote(join(root, 'native/bindings'))} }
include = ${quote(`${join(mlx, 'include')}:${mlxC}`)}
lib = ${quote(lib)}
`,
  )
  const target = join(crossDir, 'target')
  const build = ['build', '--lib', '--features', 'napi', '--target', 'aarch64-apple-darwin']
  const fromSources = std === 'sources' ? ['-Zbuild-std=std,panic_abort,panic_unwind'] : []
  await run('cargo', [...build, '--config', config, '--target-dir', target, ...fromSources], {
    cwd: root,
    env: {
      ...cacheEnvironment(),
      ...zigEnvironment,
      ...(std === 'sources' && { RUSTC_BOOTSTRAP: '1' }),
      CC_aarch64_apple_darwin: cc,
      CXX_aarch64_apple_darwin: cxx,
      AR_aarch64_apple_darwin: ar,
      MACOSX_DEPLOYMENT_TARGET: '14.0',
      // Any folder: it keeps the build from asking xcrun.
      SDKROOT: crossDir,
    },
    what: 'Building the addon for a Mac',
  })
  return join(target, 'aarch64-apple-darwin/debug/libnodemlx.dylib')
}
