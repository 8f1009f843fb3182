// The licences of everything that a platform package carries: Rust crates linked into the addon,
// mlx-c, and the libraries beside it (`npm/licenses/bundled.json`).

import * as fs from 'node:fs'
import { dirname, join } from 'node:path'
import { platform as host, root, targets } from './project.mjs'
import { Problem, run } from './run.mjs'
import { cacheEnvironment } from './toolchain.mjs'

const folder = join(root, 'npm', 'licenses')

/**
 * Licences under which a crate may be linked into the addon: they ask for their text to be passed
 * on, no more.
 */
const ALLOWED = new Set([
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'BSL-1.0',
  'CC0-1.0',
  'ISC',
  'MIT',
  'MIT-0',
  'Unicode-3.0',
  'Unlicense',
  'Zlib',
])

/** Whether an SPDX expression can be met with allowed licences alone. */
export function isAllowed(expression) {
  const alternatives = expression
    .replaceAll('/', ' OR ')
    .replaceAll(/[()]/g, ' ')
    .split(/\sOR\s/)
  return alternatives.some((alternative) =>
    alternative
      .split(/\sAND\s/)
      .every((license) => ALLOWED.has(license.replace(/\sWITH\s.*/, '').trim())),
  )
}

/** The crates that are linked into the addon on a target, sorted by name. */
async function linkedCrates(target) {
  const args = ['metadata', '--format-version=1', '--features=napi', '--filter-platform', target]
  const what = { cwd: root, env: cacheEnvironment(), what: 'cargo metadata' }
  const { packages, resolve } = JSON.parse(await run('cargo', args, what))
  const byId = new Map(packages.map((entry) => [entry.id, entry]))
  const nodes = new Map(resolve.nodes.map((node) => [node.id, node]))
  const found = new Set()
  const visit = (id) => {
    if (found.has(id)) return
    found.add(id)
    for (const { pkg, dep_kinds } of nodes.get(id).deps) {
      const compiledIn = byId.get(pkg).targets.every(({ kind }) => !kind.includes('proc-macro'))
      if (compiledIn && dep_kinds.some(({ kind }) => kind === null)) visit(pkg)
    }
  }
  visit(resolve.root)
  found.delete(resolve.root)
  return [...found]
    .map((id) => byId.get(id))
    .sort((a, b) => a.name.localeCompare(b.name) || a.version.localeCompare(b.version))
}

/** The licence files of a crate, or the standard text where its author packed none. */
function crateTexts(crate, expression) {
  const at = dirname(crate.manifest_path)
  const names = fs
    .readdirSync(at)
    .filter((name) => /^(licen[cs]e|copying|notice|unlicense)/i.test(name))
    .filter((name) => !/gpl/i.test(name) && fs.statSync(join(at, name)).isFile())
  if (names.length > 0) return names.map((name) => fs.readFileSync(join(at, name), 'utf8'))
  const standard = ['MIT', 'Apache-2.0'].find((license) => expression.includes(license))
  if (!standard) throw new Problem(`${crate.name} has no licence file, and is under ${expression}.`)
  const holders = crate.authors.length > 0 ? crate.authors.join(', ') : `The ${crate.name} authors`
  return [`Copyright (c) ${holders}\n\n${fs.readFileSync(join(folder, `${standard}.txt`), 'utf8')}`]
}

/**
 * The text of THIRD-PARTY-LICENSES for a platform package. Each text appears once, under all that
 * it is for.
 */
export async function thirdPartyLicenses(platform = host) {
  const parts = new Map()
  const add = (heading, text) => {
    const key = text.replaceAll('\r\n', '\n').trim()
    parts.set(key, [...(parts.get(key) ?? []), heading])
  }

  for (const { name, license, texts, platforms } of JSON.parse(
    fs.readFileSync(join(folder, 'bundled.json'), 'utf8'),
  )) {
    if (!platforms.includes(platform)) continue
    for (const text of texts)
      add(`${name}: ${license}`, fs.readFileSync(join(folder, text), 'utf8'))
  }
  const target = targets[platform.replace('-cuda13', '')]
  for (const crate of await linkedCrates(target)) {
    const expression = crate.license ?? 'an unnamed licence'
    if (!isAllowed(expression)) {
      throw new Problem(`The crate ${crate.name} ${crate.version} is under ${expression}.`, [
        'Replace it, or allow the licence in scripts/lib/licenses.mjs after reading it.',
      ])
    }
    for (const text of crateTexts(crate, expression)) {
      add(`${crate.name} ${crate.version}: ${expression}`, text)
    }
    if (crate.name === 'mlx-sys') {
      const mlxC = join(dirname(crate.manifest_path), 'src/mlx-c/LICENSE')
      add('mlx-c: MIT', fs.readFileSync(mlxC, 'utf8'))
    }
  }

  const rule = '='.repeat(80)
  const sections = [...parts].map(
    ([text, headings]) => `${rule}\n${headings.join('\n')}\n${rule}\n\n${text}\n`,
  )
  return `This package contains the following software, under the licences below.\n\n${sections.join('\n')}`
}
