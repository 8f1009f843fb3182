#!/usr/bin/env node
// npm run check:mac: what can be said of a Mac without one. On linux-x64 it compiles the project's
// C++ and mlx-c for a Mac, looks whether the MLX of the wheel has what they need, and whether a Mac
// would find that library where the package holds it.
//
//   --native   the project's own C++ alone, for linux-arm64 too: what `npm run lint` does
//   --addon    the whole addon as well, linked: wants Rust's standard library for a Mac

import * as fs from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  buildAddonForMac,
  compileMlxCForMac,
  compilePrimitives,
  getMlx,
  getZig,
  mlxCDir,
  readMachO,
  rustForMac,
} from './lib/cross.mjs'
import { filesUnder } from './lib/files.mjs'
import { Progress } from './lib/progress.mjs'
import { platform, root } from './lib/project.mjs'
import { Problem, fail } from './lib/run.mjs'
import { ensureSetUp } from './setup.mjs'

/** Where the addon looks for MLX's library, and how the library is called (see build.rs). */
const RPATH = '@loader_path/mlx/lib'
const MLX = '@rpath/libmlx.dylib'
const ARM64 = 0x0100000c
/** The oldest macOS that the packages are for. */
const MACOS = 14

/** Whether a symbol is one of MLX, of mlx-c, or of the project's C++. */
const ofMlx = (name) => /^_(mlx|nodemlx)_|^__Z.*3mlx4core/.test(name)

/** The C functions of mlx-c and of `native/primitives` that Rust calls. */
function calledByRust() {
  const bindings = fs.readFileSync(join(root, 'native/bindings/bindings.rs'), 'utf8')
  const sources = filesUnder(join(root, 'src/mlx')).filter((path) => path.endsWith('.rs'))
  const own = sources.map((path) => fs.readFileSync(path, 'utf8')).join('\n')
  const declared = [
    ...bindings.matchAll(/^\s*pub fn (mlx_\w+)/gm),
    ...own.matchAll(/^ +fn (nodemlx_\w+)/gm),
  ]
  return [...new Set(declared.map(([, name]) => `_${name}`))]
}

/** The functions of macOS's frameworks that Rust calls; zig links without these. */
function ofFrameworks() {
  const sources = filesUnder(join(root, 'src')).filter((path) => path.endsWith('.rs'))
  const blocks = sources.flatMap((path) => [
    ...fs
      .readFileSync(path, 'utf8')
      .matchAll(/kind = "framework"\)\]\s*unsafe extern "C" \{([^}]*)\}/g),
  ])
  const names = blocks.flatMap(([, block]) => [...block.matchAll(/fn (\w+)/g)])
  return new Set(names.map(([, name]) => `_${name}`))
}

/** What is wrong with MLX's own library; it is the Mac's loader that looks at all of this. */
function libraryFaults(library) {
  const strange = library.libraries.filter((path) => !/^\/(usr\/lib|System)\//.test(path))
  return [
    library.id !== MLX && `libmlx.dylib is called ${library.id}, and not ${MLX}`,
    ...strange.map((path) => `libmlx.dylib needs ${path}, which is not macOS's`),
    ...binaryFaults('libmlx.dylib', library),
  ].filter(Boolean)
}

function binaryFaults(name, binary) {
  return [
    binary.processor !== ARM64 && `${name} is not for arm64`,
    Number.parseFloat(binary.macos) > MACOS && `${name} needs macOS ${binary.macos}`,
  ].filter(Boolean)
}

/** What is missing where the objects are linked with MLX's library. */
function symbolFaults(objects, library) {
  const there = new Set([...library.exports, ...objects.flatMap((object) => object.exports)])
  const needed = [...objects.flatMap((object) => object.undefined).filter(ofMlx), ...calledByRust()]
  return [...new Set(needed)]
    .filter((name) => !there.has(name))
    .map((name) => `nothing has ${name}`)
}

/** What is wrong with the addon as it was linked. */
function addonFaults(addon, library) {
  const there = new Set(library.exports)
  const strange = addon.libraries.filter((path) => path !== MLX && !path.startsWith('/usr/lib/'))
  const frameworks = ofFrameworks()
  const nobodys = addon.loose.filter(
    (name) => !/^_(napi|node_api)_/.test(name) && !frameworks.has(name),
  )
  return [
    !addon.libraries.includes(MLX) && `the addon does not ask for ${MLX}`,
    !addon.rpaths.includes(RPATH) && `the addon does not look into ${RPATH}`,
    ...strange.map((path) => `the addon needs ${path}, which is neither macOS's nor beside it`),
    ...addon.undefined
      .filter((name) => ofMlx(name) && !there.has(name))
      .map((name) => `the addon wants ${name} of MLX, which has no such symbol`),
    ...nobodys.map((name) => `the addon wants ${name}, which is neither Node's nor a library's`),
    !addon.exports.includes('_napi_register_module_v1') && 'the addon registers no module',
    ...binaryFaults('the addon', addon),
  ].filter(Boolean)
}

function say(text) {
  process.stdout.write(`${text}\n`)
}

/** Compiles `native/primitives` for the platforms that this machine is not. */
async function checkNative(progress) {
  const [zig, mac, linux] = await Promise.all([
    progress.task('zig', getZig),
    progress.task('MLX for darwin-arm64', (report) => getMlx('darwin-arm64', report)),
    progress.task('MLX for linux-arm64', (report) => getMlx('linux-arm64', report)),
  ])
  const mlxC = await mlxCDir()
  const [objects] = await progress.task('C++ of native/', () =>
    Promise.all([
      compilePrimitives(zig, 'darwin-arm64', mac, mlxC),
      compilePrimitives(zig, 'linux-arm64', linux, mlxC),
    ]),
  )
  say('native/ compiles for darwin-arm64 and linux-arm64.')
  return { zig, mlx: mac, mlxC, objects }
}

async function checkMac({ native, addon }) {
  if (platform !== 'linux-x64') {
    say(`NOT CHECKED: native/ for other platforms. That is done on linux-x64; this is ${platform}.`)
    return
  }
  await ensureSetUp()
  const std = native ? undefined : await rustForMac()
  if (addon && std === undefined) {
    throw new Problem('Rust has no standard library for a Mac here, not even its sources.', [
      'Type one of these, then run the same command again:',
      '  rustup target add aarch64-apple-darwin',
      '  rustup component add rust-src',
    ])
  }
  const progress = new Progress('Looking at darwin-arm64 from here:')
  const { zig, mlx, mlxC, objects } = await checkNative(progress)
  if (native) return

  const mlxcObjects = await progress.task('mlx-c', () => compileMlxCForMac(zig, mlx, mlxC))
  const dylib = join(mlx, 'lib/libmlx.dylib')
  const read = await progress.task('Symbols', () => readMachO([dylib, ...objects, ...mlxcObjects]))
  const { [dylib]: library, ...compiled } = read
  const faults = [...libraryFaults(library), ...symbolFaults(Object.values(compiled), library)]
  if (!fs.existsSync(join(mlx, 'lib/mlx.metallib'))) faults.push('the wheel has no mlx.metallib')
  if (faults.length === 0) {
    say(`All that native/ and mlx-c need of MLX is among the ${library.exports.length} symbols of`)
    say(`libmlx.dylib, which is called ${library.id} and runs on macOS ${library.macos}.`)
  }
  if (addon) {
    const path = await progress.task('The addon', () =>
      buildAddonForMac(std, zig, mlx, mlxC, mlxcObjects),
    )
    const { [path]: built } = await readMachO([path])
    const found = addonFaults(built, library)
    if (found.length === 0) say(`The addon links, and finds MLX in ${RPATH}.`)
    faults.push(...found)
  } else {
    say('NOT CHECKED: Rust for a Mac, and the linked addon (--addon).')
  }
  say('NOT CHECKED: whether it runs. That is said by the job on a Mac.')
  if (faults.length > 0) throw new Problem('A Mac would not load this:', faults)
}

async function main() {
  const { values } = parseArgs({
    options: {
      native: { type: 'boolean', default: false },
      addon: { type: 'boolean', default: false },
    },
  })
  if (values.native && values.addon) throw new Problem('--native and --addon exclude each other.')
  await checkMac(values)
}

main().catch(fail)
