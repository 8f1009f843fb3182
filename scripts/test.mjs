#!/usr/bin/env node
// npm test: the Rust tests and those of the package, side by side, the latter against a release
// addon, which is what is published. npm test -- <arguments> hands them to vitest, leaves the Rust
// tests out, and takes the addon that is there or a debug one, which is built sooner.

import { join } from 'node:path'
import { buildAddon, currentAddon } from './lib/addon.mjs'
import { ensureDist } from './lib/dist.mjs'
import { root } from './lib/project.mjs'
import { fail, foreground, sideBySide } from './lib/run.mjs'
import { cacheEnvironment, checkRust } from './lib/toolchain.mjs'
import { ensureSetUp } from './setup.mjs'

async function main(args) {
  await ensureSetUp()
  const env = cacheEnvironment()
  const all = args.length === 0
  if (all) checkRust()
  const addon = currentAddon()
  if (addon === undefined || (all && addon !== 'release')) buildAddon(all ? 'release' : 'debug')
  await ensureDist()
  const vitest = {
    command: process.execPath,
    args: [join(root, 'node_modules', 'vitest', 'vitest.mjs'), 'run', ...args],
    cwd: root,
    env,
    what: 'vitest',
  }
  if (!all) return foreground(vitest.command, vitest.args, vitest)
  // Most of vitest's time goes by in waiting for clocks, sockets and children. Rust gets that time
  // and little more: it is compiled and tested without a pause, which would slow all of them down.
  const rust = {
    command: 'nice',
    args: ['-n', '5', 'cargo', 'test', '--workspace'],
    cwd: root,
    env,
    what: 'cargo test',
  }
  const colors = process.stdout.isTTY ? { FORCE_COLOR: '1' } : {}
  await sideBySide(rust, { ...vitest, env: { ...env, ...colors } })
}

main(process.argv.slice(2)).catch(fail)
