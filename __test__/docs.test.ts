// The programs in the pages of the documentation, run as they are.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ROOT, runProgram } from './support/child.js'
import { programs } from './support/programs.js'

const PAGES = [
  'agents.md',
  'chat.md',
  'electron.md',
  'embeddings.md',
  'errors/index.md',
  'getting-started.md',
  'memory.md',
  'structured-output.md',
  'testing.md',
  'tools.md',
]

describe.each(PAGES)('the programs of %s', (page) => {
  it.each(programs(page))('run: %i', async (_, code) => {
    // Inside the project, so that the package is found by its own name.
    const folder = mkdtempSync(join(ROOT, '__test__', 'tmp-'))
    try {
      writeFileSync(join(folder, 'program.mjs'), code)
      const {
        code: status,
        stdout,
        stderr,
      } = await runProgram(process.execPath, [join(folder, 'program.mjs')], { cwd: folder })
      expect({ status, stderr }, stdout).toEqual({ status: 0, stderr: '' })
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
