// The programs in the pages of the documentation, run as they are.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ROOT, runProgram } from './support/child.js'

/** The complete programs on a page: those that import the package. */
function programs(page: string): string[] {
  const text = readFileSync(join(ROOT, 'docs', page), 'utf8')
  const blocks = [...text.matchAll(/^```js\n(.*?)^```$/gms)].map(([, code = '']) => code)
  return blocks.filter((code) => /^import .* from 'nodemlx/m.test(code))
}

describe.each(['structured-output.md', 'testing.md'])('the programs of %s', (page) => {
  it.each(programs(page).map((code, index) => [index + 1, code] as const))(
    'run: %i',
    async (_, code) => {
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
    },
  )
})
