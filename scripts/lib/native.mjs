// Linux: puts the MLX of the Python wheel where mlx-sys would have built its own.
//
// mlx-sys's build script is for Apple's systems. It declares `links = "mlx"`, so cargo lets the
// configuration of a target stand in for it: the link line, the bindings and the include folders below.

import * as fs from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import {
  buildSection,
  checkCargoConfig,
  readCargoConfig,
  writeCargoConfig,
} from './cargo-config.mjs'
import { filesUnder, readText, writeText } from './files.mjs'
import { buildDir, keyOf, mlxVersion, platform, root, targets, wheels } from './project.mjs'
import { probe, run } from './run.mjs'
import { cacheEnvironment, findCompiler } from './toolchain.mjs'
import { unpackWheel } from './wheel.mjs'

/** The unpacked wheel of MLX: `mlx/` (library and headers) and `mlx_cpu.libs/`. */
export const mlxDir = join(buildDir, 'mlx')
const mlxcDir = join(buildDir, 'mlxc')
const bindingsDir = join(buildDir, 'bindings')
const shims = join(root, 'native', 'mlxc')
const stampFile = join(buildDir, 'native')

/** The folder of mlx-sys's source in cargo's registry. */
async function mlxSysDir(cargo) {
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

/**
 * mlx-c as a static library, compiled against the wheel's headers, one file per processor at a time. Resolves to its folder,
 * whose name changes with all that the library is made of: cargo would not notice another library in the same place.
 */
async function compileMlxC(mlxC, cxx, report) {
  const flags = ['-std=c++20', '-O2', '-fPIC', '-w', '-I', mlxC, '-I', join(mlxDir, 'mlx/include')]
  flags.push('-include', join(shims, 'half_types.hpp'))
  const shimTexts = filesUnder(shims).map((path) => fs.readFileSync(path))
  const key = keyOf(cxx.id, mlxC, wheels.mlx[platform].sha256, flags.join(' '), ...shimTexts)
  const folder = join(mlxcDir, key)
  const archive = join(folder, 'libmlxc.a')
  if (fs.existsSync(archive)) return folder

  fs.mkdirSync(mlxcDir, { recursive: true })
  for (const entry of fs.readdirSync(mlxcDir, { withFileTypes: true })) {
    if (entry.isDirectory() && entry.name !== key) {
      fs.rmSync(join(mlxcDir, entry.name), { recursive: true })
    }
  }
  fs.mkdirSync(folder, { recursive: true })

  const sources = [
    ...filesUnder(join(mlxC, 'mlx/c')).filter((path) => path.endsWith('.cpp')),
    join(shims, 'mach_time.cpp'),
  ].map((path) => ({
    path,
    object: join(folder, path.replace(/^.*\//, '').replace(/cpp$/, 'o')),
    size: fs.statSync(path).size,
  }))
  // The largest first, so that the last processor does not end up with it alone.
  const queue = sources
    .filter(({ object }) => !fs.existsSync(object))
    .sort((a, b) => b.size - a.size)
  let done = sources.length - queue.length
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const temporary = `${next.object}.tmp`
      await run(cxx.command, [...flags, '-c', next.path, '-o', temporary], {
        what: `Compiling ${next.path}`,
      })
      fs.renameSync(temporary, next.object)
      report(`${++done} of ${sources.length}`)
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, worker))

  const temporary = `${archive}.tmp`
  fs.rmSync(temporary, { force: true })
  await run('ar', ['rcs', temporary, ...sources.map(({ object }) => object)])
  fs.renameSync(temporary, archive)
  return folder
}

/** Rust's view of mlx-c's headers. */
async function writeBindings(mlxC, cxx, cargo, report) {
  const tool = join(root, 'native', 'bindgen')
  const inputs = filesUnder(tool, ['target']).map((path) => fs.readFileSync(path))
  const halfDecl = join(shims, 'half_decl.h')
  const key = keyOf(cxx.id, mlxC, fs.readFileSync(halfDecl), ...inputs)
  const bindings = join(bindingsDir, 'bindings.rs')
  if (readText(join(bindingsDir, 'key')) === key && fs.existsSync(bindings)) return

  const libclang = join(buildDir, 'libclang')
  const targetDir = join(buildDir, 'bindgen')
  report('building bindgen')
  await Promise.all([
    unpackWheel(wheels.libclang[platform], libclang),
    run('cargo', ['build', '--locked', '--target', targets[platform], '--target-dir', targetDir], {
      cwd: tool,
      env: cargo,
      what: 'Building bindgen',
    }),
  ])
  report('reading the headers')
  const folder = fs.readdirSync(libclang).find((entry) => entry.endsWith('.data'))
  const include = probe(cxx.command, ['-print-file-name=include'])
  const temporary = `${bindings}.tmp`
  fs.mkdirSync(bindingsDir, { recursive: true })
  const program = join(targetDir, targets[platform], 'debug', 'mlx-bindgen')
  await run(program, [mlxC, halfDecl, include, temporary], {
    env: { LIBCLANG_PATH: join(libclang, folder, 'platlib/clang/native') },
    what: 'Making the bindings',
  })
  fs.renameSync(temporary, bindings)
  writeText(join(bindingsDir, 'key'), key)
}

/** The cargo configuration that stands in for mlx-sys's build script. */
function cargoConfig(mlxC, mlxcLib) {
  const quote = JSON.stringify
  const lib = join(mlxDir, 'mlx/lib')
  return `${buildSection()}
[target.${targets[platform]}.mlx]
rustc-link-search = [${quote(`native=${mlxcLib}`)}, ${quote(`native=${lib}`)}]
rustc-link-lib = ["static=mlxc", "dylib=mlx", "dylib=stdc++"]
rustc-env = { OUT_DIR = ${quote(bindingsDir)} }
# What mlx-sys itself publishes on macOS, for build.rs; and where libmlx.so is.
include = ${quote(`${join(mlxDir, 'mlx/include')}:${mlxC}`)}
version = ${quote(mlxVersion)}
lib = ${quote(lib)}
`
}

/** A key of everything that the result depends on, without asking any tool. */
function inputsKey() {
  const lock = readText(join(root, 'Cargo.lock')) ?? ''
  const mlxSys = /name = "mlx-sys"\nversion = "(.+)"/.exec(lock)?.[1] ?? ''
  const inputs = [
    ...filesUnder(join(root, 'native', 'mlxc')),
    ...filesUnder(join(root, 'native', 'bindgen'), ['target']),
  ]
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
  const made = [
    mlxC,
    join(mlxDir, 'mlx/lib/libmlx.so'),
    join(mlxcLib, 'libmlxc.a'),
    join(bindingsDir, 'bindings.rs'),
  ]
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
  const [mlxcLib] = await Promise.all([
    progress.task('mlx-c', (report) => compileMlxC(mlxC, cxx, report)),
    progress.task('Rust bindings', (report) => writeBindings(mlxC, cxx, cargo, report)),
  ])
  writeCargoConfig(cargoConfig(mlxC, mlxcLib))
  writeText(stampFile, `${inputsKey()}\n${mlxC}\n${mlxcLib}\n`)
}
