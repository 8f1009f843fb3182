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

  it.each(['entries.mts', 'entries.ts'])('are there for the other entries: %s', async (file) => {
    writeFileSync(
      join(folder, file),
      `import { createNodeMlx, type NodeMlxProvider } from 'nodemlx/ai-sdk'
       import { connect, serve, type Client } from 'nodemlx/client'
       import { fakeModel, testModel, type FakeModel } from 'nodemlx/testing'
       import type { Model } from 'nodemlx'
       import type { ProviderV4 } from '@ai-sdk/provider'
       import { MessageChannel } from 'node:worker_threads'
       const { port1, port2 } = new MessageChannel()
       export const fake: FakeModel = fakeModel({ answers: ['Hi', { text: ['a'], tokenMs: 5 }] })
       export const provider: NodeMlxProvider = createNodeMlx({ models: { fake }, idleMs: 1 })
       export const any: ProviderV4 = provider
       export const client: Client = connect(() => port1)
       serve(port2, { load: async () => fake })
       export const models: Promise<Model>[] = [testModel(), client.loadModel('demo')]
       // @ts-expect-error -- there is no such answer
       fakeModel({ answers: { txt: 'a' } })
       // @ts-expect-error -- no port
       connect(5)
      `,
    )
    expect(await compile({ module: 'node20', lib: ['es2023'] }, [file])).toBe('')
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
