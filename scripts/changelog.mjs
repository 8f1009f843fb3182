#!/usr/bin/env node
// node scripts/changelog.mjs 1.2.3: what CHANGELOG.md says of that version.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './lib/project.mjs'
import { Problem, fail } from './lib/run.mjs'

function main([version]) {
  const sections = readFileSync(join(root, 'CHANGELOG.md'), 'utf8').split(/^## /m)
  const section = sections.find((text) => text.split(/\s/)[0] === version)
  if (section === undefined) throw new Problem(`CHANGELOG.md has no section "## ${version}".`)
  process.stdout.write(`${section.replace(/^.*\n+/, '').trim()}\n`)
}

try {
  main(process.argv.slice(2))
} catch (error) {
  fail(error)
}
