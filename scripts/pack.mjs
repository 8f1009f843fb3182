#!/usr/bin/env node
// npm run pack:all: the tarballs of the main package and of this platform's, in .build/packages/.
//
//   --out <folder>      put them somewhere else
//   --any-profile       take the addon that is there, a debug one too (for tests)
//   --platform <name>   another package: linux-x64-cuda13 takes MLX from the wheel with CUDA
//   --main-only         leave the platform package out

import * as fs from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { buildAddon, currentAddon, packageDir } from './lib/addon.mjs'
import { ensureDist } from './lib/dist.mjs'
import { copyFile, filesUnder, replaceFolder, writeText } from './lib/files.mjs'
import { thirdPartyLicenses } from './lib/licenses.mjs'
import { buildDir, platform as host, root, targets, wheels } from './lib/project.mjs'
import { Problem, fail, run } from './lib/run.mjs'
import { unpackWheel } from './lib/wheel.mjs'
import { ensureSetUp } from './setup.mjs'

const manifest = JSON.parse(fs.readFileSync(join(root, 'package.json'), 'utf8'))

/** The most bytes that a package takes once it is installed; a debug addon is larger. */
const BUDGETS = { nodemlx: 9.3e6, 'linux-x64': 50e6 }

/** Where CI packs, the repository: npm wants it to be the one that a provenance names. */
function repository() {
  const { GITHUB_SERVER_URL: server, GITHUB_REPOSITORY: name } = process.env
  if (!server || !name) return {}
  return { repository: { type: 'git', url: `git+${server}/${name}.git` } }
}

/** Fields of package.json that mean nothing to those who install the package. */
const DEVELOPMENT = new Set(['scripts', 'devDependencies', 'overrides', 'napi'])

/** Writes a tarball of what `fill` puts into a folder; resolves to its path. */
async function pack(name, out, budget, fill) {
  const folder = join(buildDir, 'packing', name)
  await replaceFolder(folder, fill)
  const printed = await run(
    'npm',
    ['pack', '--json', '--ignore-scripts', '--pack-destination', out],
    {
      cwd: folder,
      what: `Packing ${name}`,
    },
  )
  const [{ filename, unpackedSize }] = JSON.parse(printed)
  if (unpackedSize > budget) {
    const [size, most] = [unpackedSize, budget].map((bytes) => (bytes / 1e6).toFixed(1))
    throw new Problem(`${name} takes ${size} MB unpacked, and may take ${most} MB.`)
  }
  return join(out, filename)
}

function writeManifest(folder, content) {
  writeText(join(folder, 'package.json'), `${JSON.stringify(content, null, 2)}\n`)
}

/** Copies files and whole folders from one folder into another. */
function copyInto(folder, from, names) {
  for (const name of names) {
    if (!fs.existsSync(join(from, name))) throw new Problem(`${join(from, name)} is missing.`)
    fs.cpSync(join(from, name), join(folder, name), { recursive: true })
  }
}

/**
 * The main package: JavaScript, types and the demo model, and the platform packages as optional
 * dependencies.
 */
function packMain(out) {
  return pack('nodemlx', out, BUDGETS.nodemlx, (folder) => {
    const published = Object.entries(manifest).filter(([field]) => !DEVELOPMENT.has(field))
    const optional = Object.keys(targets).map((name) => [`@nodemlx/${name}`, manifest.version])
    writeManifest(folder, {
      ...Object.fromEntries(published),
      ...repository(),
      optionalDependencies: Object.fromEntries(optional),
    })
    copyInto(folder, root, ['LICENSE', 'README.md', ...manifest.files])
    fs.rmSync(join(folder, 'dist', '.stamp'))
  })
}

/** A platform package: the addon, the libraries that it needs, and their licences. */
function packPlatform(name, out, anyProfile) {
  const budget = anyProfile ? Infinity : (BUDGETS[name] ?? Infinity)
  return pack(name, out, budget, async (folder) => {
    const template = JSON.parse(fs.readFileSync(join(root, 'npm', name, 'package.json'), 'utf8'))
    const { name: packageName, ...rest } = template
    writeManifest(folder, {
      name: packageName,
      version: manifest.version,
      ...rest,
      ...repository(),
    })
    copyInto(folder, root, ['LICENSE'])
    copyInto(folder, join(root, 'npm', name), ['README.md'])
    writeText(join(folder, 'THIRD-PARTY-LICENSES'), await thirdPartyLicenses(name))
    copyFile(join(packageDir, 'nodemlx.node'), join(folder, 'nodemlx.node'))
    const libraries = template.files.filter(
      (file) => !['nodemlx.node', 'THIRD-PARTY-LICENSES'].includes(file),
    )
    copyInto(folder, await libraryFolder(name), libraries)
    await strip(join(folder, 'mlx', 'lib', 'libmlx.so'))
  })
}

/**
 * Takes the symbols that nothing is linked with any more off MLX's library for Linux, a seventh of
 * it. The wheel's other libraries have none.
 */
async function strip(library) {
  if (!fs.existsSync(library)) return
  await run('strip', ['--strip-unneeded', library], { what: 'Stripping MLX' })
}

/**
 * Where the libraries of a platform package are: put together by the build, or in the wheel with
 * CUDA.
 */
async function libraryFolder(name) {
  if (name === host) return packageDir
  const wheel = wheels.mlxCuda[name]
  if (!wheel) throw new Problem(`On ${host} there is no addon for ${name}.`)
  const folder = join(buildDir, 'mlx-cuda')
  await unpackWheel(wheel, folder)
  // MLX compiles CUDA kernels when it first needs them, from the headers beside it; all else is for
  // building.
  for (const path of filesUnder(join(folder, 'mlx/share'))) fs.rmSync(path)
  return folder
}

/** Packs what is asked for; resolves to the paths of the tarballs, the main package's first. */
export async function packAll({ out, anyProfile = false, platform = host, mainOnly = false }) {
  await ensureSetUp()
  const addon = currentAddon()
  if (!mainOnly && (anyProfile ? addon === undefined : addon !== 'release')) buildAddon('release')
  await ensureDist()
  fs.mkdirSync(out, { recursive: true })
  const tarballs = platform === host ? [await packMain(out)] : []
  if (!mainOnly) tarballs.push(await packPlatform(platform, out, anyProfile))
  return tarballs
}

async function main() {
  const { values } = parseArgs({
    options: {
      out: { type: 'string', default: join(buildDir, 'packages') },
      'any-profile': { type: 'boolean', default: false },
      platform: { type: 'string', default: host },
      'main-only': { type: 'boolean', default: false },
    },
  })
  const tarballs = await packAll({
    out: resolve(values.out),
    anyProfile: values['any-profile'],
    platform: values.platform,
    mainOnly: values['main-only'],
  })
  for (const path of tarballs) {
    const megabytes = (fs.statSync(path).size / 1e6).toFixed(1)
    process.stdout.write(`${path}  ${megabytes} MB\n`)
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) main().catch(fail)
