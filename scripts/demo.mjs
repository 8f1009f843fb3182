#!/usr/bin/env node
// npm run demo: from whatever state the checkout is in to an answer of the embedded model.
// npm run demo -- "question" asks something else; all arguments go to the command line of nodemlx.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { buildAddon, currentAddon } from './lib/addon.mjs'
import { ensureDist } from './lib/dist.mjs'
import { root } from './lib/project.mjs'
import { fail } from './lib/run.mjs'
import { ensureSetUp } from './setup.mjs'

const QUESTION = 'Tell me a short story about a fox and a lantern.'

async function main(args) {
  await ensureSetUp()
  if (currentAddon() !== 'release') buildAddon('release')
  await ensureDist()
  if (args.length === 0) {
    process.stderr.write(`> ${QUESTION}\n`)
    args = [QUESTION]
  }
  const cli = join(root, 'dist', 'cli', 'main.js')
  const child = spawn(process.execPath, [cli, ...args], { stdio: 'inherit' })
  // Ctrl-C reaches the child too; it decides what to do, and this process reports how it ended.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => child.kill('SIGTERM'))
  child.on('error', fail)
  child.on('exit', (status, signal) => {
    process.removeAllListeners('SIGTERM')
    if (signal === null) process.exitCode = status
    else process.kill(process.pid, signal)
  })
}

main(process.argv.slice(2)).catch(fail)
