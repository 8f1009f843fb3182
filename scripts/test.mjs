#!/usr/bin/env node
// npm test: the Rust tests, then those of the package, against the addon that is there or a debug
// one. npm test -- <arguments> hands them to vitest, and leaves the Rust tests out.

import { join } from 'node:path'
import { buildAddon, currentAddon } from './lib/addon.mjs'
import { ensureDist } from './lib/dist.mjs'
import { root } from './lib/project.mjs'
import { fail, foreground } from './lib/run.mjs'
import { cacheEnvironment, checkRust } from './lib/toolchain.mjs'
import { ensureSetUp } from './setup.mjs'

async function main(args) {
  await ensureSetUp()
  const env = cacheEnvironment()
  if (args.length === 0) {
    checkRust()
    foreground('cargo', ['test', '--workspace'], { cwd: root, env })
  }
  if (currentAddon() === undefined) buildAddon('debug')
  await ensureDist()
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
  foreground(process.execPath, [vitest, 'run', ...args], { cwd: root, env, what: 'vitest' })
}

main(process.argv.slice(2)).catch(fail)
