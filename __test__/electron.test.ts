// The Electron example, with a stand-in for Electron whose utility process is a child process, and
// a package of it made with Electron's own archiver.

import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { installTools, makeApp } from './support/app.js'
import { ROOT, runProgram } from './support/child.js'

const HOME = join(ROOT, '.build', 'electron')
// The archiver's patterns go through no folder whose name begins with a dot.
const APP = join(ROOT, '__test__', 'tmp-electron')
const EXAMPLE = join(ROOT, 'examples', 'electron')

beforeAll(() => {
  installTools(HOME, { '@electron/asar': '3.4.0' })
  makeApp(APP)
  cpSync(EXAMPLE, APP, { recursive: true })
}, 300_000)

afterAll(() => {
  rmSync(join(HOME, 'resources'), { recursive: true, force: true })
  rmSync(APP, { recursive: true, force: true })
})

describe('the Electron example', () => {
  it('answers, stops, and survives the end of its utility process', async () => {
    const stub = join(APP, 'node_modules', 'electron')
    mkdirSync(stub)
    copyFileSync(join(__dirname, 'support', 'electron-stub.cjs'), join(stub, 'index.cjs'))
    writeFileSync(join(stub, 'package.json'), '{ "main": "index.cjs" }')
    writeFileSync(
      join(APP, 'drive.mjs'),
      `import { createRequire } from 'node:module'
       const require = createRequire(import.meta.url)
       const electron = require('electron')
       require('./preload.cjs')
       await import('./main.mjs')
       const { model, file } = electron.page
       const ask = async (content, react) => {
         let text = ''
         const asked = model.ask([{ role: 'user', content }], (piece) => {
           text += piece
           react?.(asked)
         })
         return { ...(await asked.done), text }
       }
       const first = await ask('What is the capital of France?')
       const stopped = await ask('Tell me a short story about a fox.', ({ stop }) => stop())
       const lost = await ask('Tell me a short story about a fox.', () => electron.hosts[0].child.kill())
       const again = await ask('What is the capital of Japan?')
       electron.app.emit('window-all-closed')
       electron.hosts.at(-1).child.disconnect()
       console.log(JSON.stringify({ first, stopped, lost, again, hosts: electron.hosts.length, file }))`,
    )
    const { code, stdout, stderr } = await runProgram(process.execPath, ['drive.mjs'], { cwd: APP })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(JSON.parse(stdout)).toMatchObject({
      first: { text: expect.stringContaining('Paris') as string, finishReason: 'stop' },
      stopped: { finishReason: 'abort' },
      lost: { error: { code: 'HOST_GONE' } },
      again: { text: expect.stringContaining('Tokyo') as string },
      hosts: 2,
      file: join(APP, 'index.html'),
    })
  })

  it('is packed with everything that native code reads outside of the archive', async () => {
    const { createPackageWithOptions } = createRequire(join(HOME, 'package.json'))(
      '@electron/asar',
    ) as {
      createPackageWithOptions: (from: string, to: string, options: object) => Promise<void>
    }
    rmSync(join(APP, 'node_modules', 'electron'), { recursive: true, force: true })
    const { packagerConfig } = createRequire(join(EXAMPLE, 'package.json'))(
      './forge.config.cjs',
    ) as { packagerConfig: { asar: { unpack: string } } }
    const { build } = JSON.parse(readFileSync(join(EXAMPLE, 'package.json'), 'utf8')) as {
      build: { asarUnpack: string[] }
    }
    expect(build.asarUnpack).toEqual([packagerConfig.asar.unpack])
    const check = (resources: string) =>
      runProgram(process.execPath, [join(EXAMPLE, 'check-packaging.mjs'), resources])
    const resources = join(HOME, 'resources')
    await createPackageWithOptions(APP, join(resources, 'app.asar'), packagerConfig.asar)
    const good = await check(resources)
    expect(good).toMatchObject({ code: 0, stderr: '' })
    expect(good.stdout).toMatch(/libraries, \d+ MB/)
    rmSync(join(resources, 'app.asar.unpacked', 'node_modules', '@nodemlx'), { recursive: true })
    const bad = await check(resources)
    expect(bad.code).toBe(1)
    expect(bad.stderr).toMatch(/@nodemlx is missing: name .* in asarUnpack/)
  })
})
