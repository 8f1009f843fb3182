#!/usr/bin/env node
// npm run lint: all linters, and all that they find.

import { join } from 'node:path'
import { ensureDist } from './lib/dist.mjs'
import { root } from './lib/project.mjs'
import { Problem, fail, foreground } from './lib/run.mjs'
import { cacheEnvironment, checkRust } from './lib/toolchain.mjs'
import { ensureSetUp } from './setup.mjs'

const tool = (...path) => [process.execPath, join(root, 'node_modules', ...path)]

const linters = [
  ['TypeScript', [...tool('typescript', 'bin', 'tsc'), '--noEmit']],
  [
    'TypeScript of the chat page',
    [...tool('typescript', 'bin', 'tsc'), '--noEmit', '-p', 'js/server/page'],
  ],
  ['ESLint', [...tool('eslint', 'bin', 'eslint.js'), '--max-warnings=0', '.']],
  ['Clippy', ['cargo', 'clippy', '--workspace', '--all-targets', '--', '-D', 'warnings']],
  [
    'Clippy of the addon',
    ['cargo', 'clippy', '--all-targets', '--features', 'napi', '--', '-D', 'warnings'],
  ],
  [
    'C++ for other platforms',
    [process.execPath, join(root, 'scripts', 'check-mac.mjs'), '--native'],
  ],
]

async function main() {
  await ensureSetUp()
  checkRust()
  // Examples and tests import the package by its name, hence its types from dist/.
  await ensureDist()
  const failed = linters.filter(([name, [command, ...args]]) => {
    process.stderr.write(`${name}\n`)
    try {
      foreground(command, args, { cwd: root, env: cacheEnvironment(), what: name })
      return false
    } catch (error) {
      if (error instanceof Problem) return true
      throw error
    }
  })
  if (failed.length > 0) {
    throw new Problem(`Not clean: ${failed.map(([name]) => name).join(', ')}.`)
  }
}

main().catch(fail)
