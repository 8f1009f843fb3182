// The types as users' compilers see them: through the package's exports, as a module and as
// CommonJS, with and without the DOM's types.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ROOT, runProgram } from './support/child.js'

const BASE = {
  strict: true,
  exactOptionalPropertyTypes: true,
  noEmit: true,
  target: 'es2022',
  skipLibCheck: false,
  types: ['node'],
}

let folder: string

beforeEach(() => {
  // Inside the project, so that the package is found by its own name.
  folder = mkdtempSync(join(ROOT, '__test__', 'types', 'tmp-'))
})

afterEach(() => {
  rmSync(folder, { recursive: true })
})

async function compile(options: object, files: string[]): Promise<string> {
  const config = { compilerOptions: { ...BASE, ...options }, files }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
  const compiler = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')
  const { stdout } = await runProgram(process.execPath, [compiler, '-p', folder])
  return stdout
}

describe('the types', () => {
  it.each([
    ['CommonJS, without the DOM', { module: 'node20', lib: ['es2023'] }],
    ['CommonJS, with the DOM', { module: 'node20', lib: ['es2023', 'dom', 'dom.asynciterable'] }],
    [
      'a bundler',
      {
        module: 'esnext',
        moduleResolution: 'bundler',
        lib: ['es2023', 'dom', 'dom.asynciterable'],
      },
    ],
  ])('accept and refuse what they should, for %s', async (_, options) => {
    expect(await compile(options, ['../api.ts'])).toBe('')
  })

  it('give the object of an answer the type that the schema makes', async () => {
    const options = { module: 'node20', lib: ['es2023', 'dom'], skipLibCheck: true }
    expect(await compile(options, ['../structured-output.ts'])).toBe('')
  })

  it('are there for modules', async () => {
    writeFileSync(
      join(folder, 'module.mts'),
      `import { loadModel, type Model } from 'nodemlx'\nexport const model: Promise<Model> = loadModel('demo')\n`,
    )
    expect(await compile({ module: 'node20', lib: ['es2023'] }, ['module.mts'])).toBe('')
  })

  it('hide what is not for users', async () => {
    writeFileSync(
      join(folder, 'hidden.ts'),
      `import { LoadedModel } from 'nodemlx'\nexport { LoadedModel }\n`,
    )
    expect(await compile({ module: 'node20', lib: ['es2023'] }, ['hidden.ts'])).toMatch(
      /no exported member.*LoadedModel/,
    )
  })
})
