// Every code of an error has a page, and errors say where it is.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'
import { NodeMlxError } from '../js/index.js'
import { ROOT, runCli, runProgram } from './support/child.js'

const FOLDER = join(ROOT, 'docs', 'errors')
const codes = [
  ...readFileSync(join(ROOT, 'js', 'errors.ts'), 'utf8').matchAll(/^ {2}\| '([A-Z_]+)'/gm),
].map(([, code = '']) => code)

describe('the page of an error', () => {
  it.each(codes)('is there: %s', (code) => {
    const { url = '' } = new NodeMlxError(code, 'said')
    expect(url).toMatch(/^file:/)
    const page = readFileSync(fileURLToPath(url), 'utf8')
    expect(page).toMatch(new RegExp(`^# ${code}\n\n\\*\\*.+\\*\\*.*\n\n- `))
    expect(readFileSync(join(FOLDER, 'index.md'), 'utf8')).toContain(`(${code}.md)`)
  })

  it('is there for no code that does not exist', () => {
    const pages = readdirSync(FOLDER).filter((name) => name !== 'index.md')
    expect(pages.sort()).toEqual(codes.map((code) => `${code}.md`).sort())
    expect(new NodeMlxError('../../README', 'said').url).toBeUndefined()
  })

  it('is where printed errors point', async () => {
    const place = join(FOLDER, 'MODEL_NOT_FOUND.md')
    const program = `require('nodemlx').loadModel('/no/model')`
    const { code, stderr } = await runProgram(process.execPath, ['--eval', program])
    expect(code).toBe(1)
    expect(stderr).toContain(pathToFileURL(place).href)
    expect(await runCli(['-m', '/no/model', 'Hi!'])).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(
        /^nodemlx: [^\n]*\/no\/model[^\n]*\nSee .*MODEL_NOT_FOUND.md\n$/,
      ) as string,
    })
  })
})
