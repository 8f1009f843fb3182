// Puts the MLX of the Python wheel where mlx-sys would have built its own, on Linux and on a Mac.
//
// mlx-sys's build script downloads and compiles MLX, for Apple's systems alone. It declares
// `links = "mlx"`, so cargo lets the configuration of a target stand in for it: the link line, the
// bindings and the include folders below.

import * as fs from 'node:fs'
import { join } from 'node:path'
import {
  buildSection,
  checkCargoConfig,
  readCargoConfig,
  writeCargoConfig,
} from './cargo-config.mjs'
import { filesUnder, readText, writeText } from './files.mjs'
import { buildDir, keyOf, mlxVersion, platform, root, targets, wheels } from './project.mjs'
import { Problem, run } from './run.mjs'
import { cacheEnvironment, findCompiler } from './toolchain.mjs'
import { unpackWheel } from './wheel.mjs'

/** The unpacked wheel of MLX: `mlx/` (libraries and headers), and on Linux `mlx_cpu.libs/`. */
export const mlxDir = join(buildDir, 'mlx')

/** Rust's view of mlx-c's headers, committed. */
export const bindingsDir = join(root, 'native', 'bindings')

const mlxcDir = join(buildDir, 'mlxc')
const shims = join(root, 'native', 'mlxc')
const stampFile = join(buildDir, 'native')

/** What differs between the systems. */
const systems = {
  linux: {
    // mlx-c leaves out its 16-bit floats on x86-64, and gcc 12 has no <format>.
    flags: ['-fPIC', '-include', join(shims, 'half_types.hpp')],
    shims: ['mach_time.cpp'],
    library: 'libmlx.so',
    cxxLibrary: 'stdc++',
    env: '',
  },
  darwin: {
    flags: ['-mmacosx-version-min=14.0'],
    shims: [],
    library: 'libmlx.dylib',
    cxxLibrary: 'c++',
    // The oldest macOS that MLX's library runs on.
    env: '\n[env]\nMACOSX_DEPLOYMENT_TARGET = "14.0"\n',
  },
}
const system = systems[process.platform]

/** The folder of mlx-sys's source in cargo's registry. */
export async function mlxSysDir(cargo) {
  const metadata = JSON.parse(
    await run('cargo', ['metadata', '--format-version=1', '--filter-platform', targets[platform]], {
      cwd: root,
      env: cargo,
      what: 'cargo metadata',
    }),
  )
  const found = metadata.packages.find((entry) => entry.name === 'mlx-sys')
  return join(found.manifest_path, '..')
}

/** The first line of the bindings: which headers they are made from. */
export function bindingsHeading(mlxC) {
  const headers = filesUnder(join(mlxC, 'mlx/c')).filter((path) => path.endsWith('.h'))
  return `// Made by \`npm run bindings\` from the headers of mlx-c, ${keyOf(...headers.map((path) => fs.readFileSync(path)))}.`
}

function checkBindings(mlxC) {
  const text = readText(join(bindingsDir, 'bindings.rs')) ?? ''
  if (!text.startsWith(`${bindingsHeading(mlxC)}\n`)) {
    throw new Problem('native/bindings/bindings.rs was made from other headers of mlx-c.', [
      'Type this, then run the same command again:',
      '  npm run bindings',
    ])
  }
}

/**
 * mlx-c as a static library, compiled against the wheel's headers. Resolves to its folder, whose
 * name changes with all that the library is made of: cargo would not notice another library in the
 * same place.
 */
async function compileMlxC(mlxC, cxx, report) {
  const includes = ['-I', mlxC, '-I', join(mlxDir, 'mlx/include')]
  const flags = ['-std=c++20', '-O2', '-w', ...includes, ...system.flags]
  const shimTexts = filesUnder(shims).map((path) => fs.readFileSync(path))
  const key = keyOf(cxx.id, mlxC, wheels.mlx[platform].sha256, flags.join(' '), ...shimTexts)
  const folder = join(mlxcDir, key)
  const archive = join(folder, 'libmlxc.a')
  if (fs.existsSync(archive)) return folder

  fs.rmSync(mlxcDir, { recursive: true, force: true })
  fs.mkdirSync(folder, { recursive: true })
  // MLX's headers take most of a compiler's time, so there are two units: the largest file and all
  // others.
  const sources = filesUnder(join(mlxC, 'mlx/c')).filter((path) => path.endsWith('.cpp'))
  const largest = join(mlxC, 'mlx/c/ops.cpp')
  const units = [
    [largest],
    [
      ...sources.filter((path) => path !== largest),
      ...system.shims.map((name) => join(shims, name)),
    ],
  ]
  let done = 0
  const objects = units.map(async (paths, number) => {
    const unit = join(folder, `unit${number}.cpp`)
    const object = join(folder, `unit${number}.o`)
    fs.writeFileSync(unit, paths.map((path) => `#include ${JSON.stringify(path)}\n`).join(''))
    await run(cxx.command, [...flags, '-c', unit, '-o', object], { what: 'Compiling mlx-c' })
    report(`${++done} of ${units.length}`)
    return object
  })
  const temporary = `${archive}.tmp`
  await run('ar', ['rcs', temporary, ...(await Promise.all(objects))])
  fs.renameSync(temporary, archive)
  return folder
}

/** The cargo configuration that stands in for mlx-sys's build script. */
function cargoConfig(mlxC, mlxcLib) {
  const quote = JSON.stringify
  const lib = join(mlxDir, 'mlx/lib')
  return `${buildSection()}
[target.${targets[platform]}.mlx]
rustc-link-search = [${quote(`native=${mlxcLib}`)}, ${quote(`native=${lib}`)}]
rustc-link-lib = ["static=mlxc", "dylib=mlx", "dylib=${system.cxxLibrary}"]
rustc-env = { OUT_DIR = ${quote(bindingsDir)} }
# What mlx-sys itself publishes, for build.rs; and where MLX's library is.
include = ${quote(`${join(mlxDir, 'mlx/include')}:${mlxC}`)}
version = ${quote(mlxVersion)}
lib = ${quote(lib)}
${system.env}`
}

/** A key of everything that the result depends on, without asking any tool. */
function inputsKey() {
  const lock = readText(join(root, 'Cargo.lock')) ?? ''
  const mlxSys = /name = "mlx-sys"\nversion = "(.+)"/.exec(lock)?.[1] ?? ''
  const inputs = [...filesUnder(shims), ...filesUnder(bindingsDir)]
  const own = ['cargo-config.mjs', 'native.mjs', 'project.mjs'].map((name) =>
    join(root, 'scripts/lib', name),
  )
  return keyOf(
    root,
    platform,
    process.env.CXX ?? '',
    mlxSys,
    ...[...inputs, ...own].map((path) => fs.readFileSync(path)),
  )
}

/** Whether all of it was made from what is here now. */
export function nativeIsCurrent() {
  const [key, mlxC, mlxcLib] = readText(stampFile)?.split('\n') ?? []
  if (key !== inputsKey()) return false
  const made = [mlxC, join(mlxDir, 'mlx/lib', system.library), join(mlxcLib, 'libmlxc.a')]
  return (
    made.every((path) => fs.existsSync(path)) && readCargoConfig() === cargoConfig(mlxC, mlxcLib)
  )
}

/** All of it. Each part looks for itself whether it has something to do. */
export async function setUpNative(progress) {
  if (nativeIsCurrent()) return
  checkCargoConfig()
  const cargo = cacheEnvironment()
  const cxx = findCompiler()
  const [mlxC] = await Promise.all([
    progress.task('Rust packages', async () => {
      await run('cargo', ['fetch', '--target', targets[platform]], {
        cwd: root,
        env: cargo,
        what: 'Fetching the Rust packages',
      })
      return join(await mlxSysDir(cargo), 'src/mlx-c')
    }),
    progress.task(`MLX ${mlxVersion}`, (report) =>
      unpackWheel(wheels.mlx[platform], mlxDir, report),
    ),
  ])
  checkBindings(mlxC)
  const mlxcLib = await progress.task('mlx-c', (report) => compileMlxC(mlxC, cxx, report))
  writeCargoConfig(cargoConfig(mlxC, mlxcLib))
  writeText(stampFile, `${inputsKey()}\n${mlxC}\n${mlxcLib}\n`)
}
