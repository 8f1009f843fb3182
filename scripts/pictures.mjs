#!/usr/bin/env node
// npm run pictures: the pictures of the documentation, docs/benchmarks.svg out of the figures in
// docs/benchmarks.md, and docs/terminal.svg out of what the command line prints.

import * as fs from 'node:fs'
import { join } from 'node:path'
import { benchmarksPicture } from './lib/benchmarks-picture.mjs'
import { ensureDist } from './lib/dist.mjs'
import { readText, writeText } from './lib/files.mjs'
import { root } from './lib/project.mjs'
import { fail, run } from './lib/run.mjs'
import { terminalPicture } from './lib/terminal-picture.mjs'

/** Figures of speed are those of the benchmarks, so none is shown here. */
const COMMANDS = [
  ['-t', '0', 'What is the capital of France?'],
  ['-t', '0', 'Tell me a short story about a fox.'],
  ['-t', '0', '--system', 'You are called Nova.', 'What is your name?'],
]

async function main() {
  await ensureDist()
  const docs = join(root, 'docs')
  writeText(join(docs, 'benchmarks.svg'), benchmarksPicture(readText(join(docs, 'benchmarks.md'))))
  const program = join(root, 'dist', 'cli', 'main.js')
  const env = { FORCE_COLOR: '1' }
  const runs = []
  for (const args of COMMANDS) {
    const typed = args.map((arg) => (arg.includes(' ') ? `"${arg}"` : arg)).join(' ')
    const printed = await run(process.execPath, [program, ...args], { cwd: root, env })
    runs.push({ typed: `npx nodemlx ${typed}`, printed })
  }
  writeText(join(docs, 'terminal.svg'), terminalPicture(runs))
  for (const name of ['benchmarks.svg', 'terminal.svg'])
    process.stdout.write(`docs/${name}  ${fs.statSync(join(docs, name)).size} bytes\n`)
}

main().catch(fail)
