// Many generations of every kind at once, in a process of its own: all end as they must, the same
// seed gives the same text whatever else runs, and no memory stays behind. NODEMLX_SOAK=2000 says
// how many they are, and has the figures printed.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { adapterFiles, writeFiles } from './support/adapters.js'
import { runProgram } from './support/child.js'

const ASKED = process.env['NODEMLX_SOAK']
const COUNT = Number(ASKED ?? 240)
const TIMEOUT_MS = 120_000 + 500 * COUNT

interface Figures {
  ended: Record<string, number>
  compared: number
  rounds: unknown[]
  failures: string[]
}

let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'nodemlx-soak-'))
})

afterAll(() => {
  rmSync(folder, { recursive: true })
})

it(
  `${COUNT} generations, 16 at once, end as they must and leave nothing behind`,
  async () => {
    const adapters = [1, 2].map((seed) => writeFiles(join(folder, `${seed}`), adapterFiles(seed)))
    const program = join(__dirname, 'support', 'soak.mjs')
    const args = ['--expose-gc', program, '--generations', `${COUNT}`, '--at-once', '16']
    const outcome = await runProgram(process.execPath, [...args, ...adapters], {
      timeoutMs: TIMEOUT_MS,
    })
    expect(outcome).toMatchObject({ signal: null, stderr: '' })
    if (ASKED !== undefined) console.log(outcome.stdout)
    const { ended, compared, rounds, failures } = JSON.parse(outcome.stdout) as Figures
    expect(failures).toEqual([])
    expect(Object.values(ended).every((number) => number > 0)).toBe(true)
    expect(compared).toBeGreaterThan(COUNT / 30)
    expect(rounds).toHaveLength(4)
    expect(outcome.code).toBe(0)
  },
  TIMEOUT_MS + 10_000,
)
