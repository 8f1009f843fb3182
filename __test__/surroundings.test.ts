// What surrounds a program: its asynchronous context, signals shared by many calls, another realm's
// globals, Node.js's permission model, and the archive of an Electron app.

import { AsyncLocalStorage } from 'node:async_hooks'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { PulledGeneration } from '../js/generation.js'
import { Slots } from '../js/hub/connections.js'
import { libcProblem, darwinProblem } from '../js/platform.js'
import { onAbort } from '../js/signal.js'
import { ROOT, runModule, type ChildOptions } from './support/child.js'
import { FakeGeneration, words } from './support/fake-native.js'

async function said(
  source: string,
  options: ChildOptions & { flags?: string[] } = {},
): Promise<unknown> {
  const { code, stdout, stderr } = await runModule(source, options)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return JSON.parse(stdout)
}

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nodemlx-'))
})
afterEach(() => {
  rmSync(folder, { recursive: true })
})

describe('callbacks see the AsyncLocalStorage of the call they were given to', () => {
  it('while a model loads and a prompt is read', async () => {
    const seen = await said(`
      import { AsyncLocalStorage } from 'node:async_hooks'
      import { generate, loadModel } from 'nodemlx'
      const storage = new AsyncLocalStorage()
      const seen = new Set()
      const note = (name) => () => seen.add(name + ' ' + storage.getStore())
      const model = await storage.run('load', () => loadModel('demo', { onProgress: note('progress') }))
      await storage.run('reader', async () => {
        const generation = storage.run('call', () => model.generate('Hi', { maxTokens: 1, onPrefill: note('prefill') }))
        await generation.then()
      })
      const once = storage.run('once', () =>
        generate('demo', 'Hi', { maxTokens: 1, onProgress: note('progress'), onPrefill: note('prefill') }))
      await once.then()
      console.log(JSON.stringify([...seen].sort()))
    `)
    expect(seen).toEqual(['prefill call', 'prefill once', 'progress load', 'progress once'])
  })

  it('whoever pulls', async () => {
    const storage = new AsyncLocalStorage<string>()
    const onPrefill = vi.fn(() => storage.getStore())
    const source = new FakeGeneration({ prompt: { text: 'x' } }, words('a'))
    const generation = storage.run('call', () => new PulledGeneration(source, { onPrefill }))
    await storage.run('reader', () => generation.then())
    expect(onPrefill).toHaveReturnedWith('call')
  })
})

describe('a signal', () => {
  it('ends many generations and loads without a warning of leaked listeners', async () => {
    const reasons = await said(`
      import { generate, loadModel } from 'nodemlx'
      const controller = new AbortController()
      const { signal } = controller
      const model = await loadModel('demo', { signal })
      // None ends by itself.
      const endless = { signal, minTokens: 3000 }
      const running = Array.from({ length: 30 }, () => model.generate('Tell me a story.', endless))
      const once = Array.from({ length: 15 }, () => generate('/no/model', 'Hi', { signal }).catch(({ code }) => code))
      const loads = Array.from({ length: 15 }, () => loadModel('/no/model', { signal }).catch(({ code }) => code))
      const results = running.map((generation) => generation.then())
      await Promise.all([...once, ...loads])
      setTimeout(() => controller.abort('enough'), 50)
      const reasons = (await Promise.all(results)).map(({ finishReason, abortReason }) => finishReason + abortReason)
      console.log(JSON.stringify([...new Set(reasons)]))
    `)
    expect(reasons).toEqual(['abortenough'])
  })

  it('has one listener, and none once nobody waits', () => {
    const { signal } = new AbortController()
    const add = vi.spyOn(signal, 'addEventListener')
    const remove = vi.spyOn(signal, 'removeEventListener')
    const forget = Array.from({ length: 20 }, () => onAbort(signal, () => undefined))
    expect(add).toHaveBeenCalledTimes(1)
    for (const one of forget) one()
    for (const one of forget) one()
    expect(remove).toHaveBeenCalledTimes(1)
    onAbort(signal, () => undefined)
    expect(add).toHaveBeenCalledTimes(2)
  })

  it('has one listener for all the waits of a download', async () => {
    const controller = new AbortController()
    const add = vi.spyOn(controller.signal, 'addEventListener')
    const slots = new Slots(1)
    const blocked = slots.use(controller.signal, () => new Promise(() => undefined))
    const waits = Array.from({ length: 20 }, () =>
      slots.use(controller.signal, () => Promise.resolve()),
    )
    expect(add).toHaveBeenCalledTimes(1)
    controller.abort(new Error('enough'))
    const outcomes = await Promise.allSettled(waits)
    expect(outcomes.every(({ status }) => status === 'rejected')).toBe(true)
    void blocked
  })

  it('calls everyone who waits, and nobody who does not any more', () => {
    const controller = new AbortController()
    const [first, second, third] = [vi.fn(), vi.fn(), vi.fn()]
    onAbort(controller.signal, first)
    onAbort(controller.signal, second)()
    onAbort(controller.signal, third)
    controller.abort()
    expect([first, second, third].map((callback) => callback.mock.calls.length)).toEqual([1, 0, 1])
  })
})

describe('another realm, such as a test in jest,', () => {
  it('gets results of its own kind, and can hand in its own values', async () => {
    const facts = await said(`
      import { createRequire } from 'node:module'
      import { dirname, join } from 'node:path'
      import { readFileSync } from 'node:fs'
      import vm from 'node:vm'

      // As jest does: the package's modules run with the globals of a context, Node's own and the
      // addon do not.
      const globals = { AbortController, AbortSignal, ReadableStream, TextEncoder, performance, process, setTimeout, console }
      const context = vm.createContext(globals)
      const modules = new Map()
      const load = (path) => {
        if (modules.has(path)) return modules.get(path).exports
        const module = { exports: {} }
        modules.set(path, module)
        const outer = createRequire(path)
        const require = Object.assign(
          (name) => (name.startsWith('.') ? load(join(dirname(path), name)) : outer(name)),
          { resolve: outer.resolve },
        )
        const wrapper = '(function (module, exports, require, __filename, __dirname) {' + readFileSync(path, 'utf8') + '\\n})'
        vm.runInContext(wrapper, context, { filename: path })(module, module.exports, require, path, dirname(path))
        return module.exports
      }
      context.nodemlx = load(join(process.cwd(), 'dist', 'index.js'))
      const facts = await vm.runInContext(\`(async () => {
        const foreign = []
        const LOCAL = new Set([Object.prototype, Array.prototype, Float32Array.prototype, Promise.prototype])
        const check = (where, value) => {
          if (typeof value !== 'object' || value === null) return
          if (!LOCAL.has(Object.getPrototypeOf(value))) foreign.push(where)
          if (!ArrayBuffer.isView(value))
            for (const [name, item] of Object.entries(value)) check(where + '.' + name, item)
        }
        let progress
        const model = await nodemlx.loadModel('demo', { onProgress: (report) => { progress = report } })
        check('progress', progress)
        check('info', model.info)
        let prefill
        const messages = [{ role: 'user', content: 'Hi' }]
        const generation = model.generate(messages, {
          maxTokens: 3, logprobs: 2, stop: ['zzz'], logitBias: { 5: 1 }, onPrefill: (report) => { prefill = report },
        })
        for await (const chunk of generation) check('chunk', chunk)
        check('prefill', prefill)
        check('result', await generation)
        check('promise', generation.then())
        const tokens = await model.tokenize('Hello')
        check('tokens', tokens)
        const logits = await model.logits(new Uint32Array(tokens))
        check('logits', logits)
        check('size', await model.createPromptCache().size())
        await model.generate({ tokens: new Uint32Array(tokens) }, { maxTokens: 1 })
        const errors = await Promise.all([
          nodemlx.loadModel('/no/such/model').catch((error) => error),
          model.logits([]).catch((error) => error),
          model.generate({ tokens: Array(100000).fill(5) }).catch((error) => error),
        ])
        await model.dispose()
        return JSON.stringify({
          foreign,
          errors: errors.map((error) => [error instanceof Error, error instanceof nodemlx.NodeMlxError, error.code, /^Error/.test(error.message)]),
        })
      })()\`, context)
      console.log(facts)
    `)
    expect(facts).toEqual({
      foreign: [],
      errors: [
        [true, true, 'MODEL_NOT_FOUND', false],
        [true, true, 'INVALID_ARGUMENT', false],
        [true, true, 'CONTEXT_OVERFLOW', false],
      ],
    })
  })

  it('may reject a generation with an error of its own', async () => {
    const foreign = Object.assign(Object.create(null) as object, {
      code: 'MLX_ERROR',
      message: 'broken',
    })
    const source = new FakeGeneration({ prompt: { text: 'x' } }, [])
    vi.spyOn(source, 'next').mockRejectedValue(foreign)
    await expect(new PulledGeneration(source).then()).rejects.toMatchObject({
      code: 'MLX_ERROR',
      message: 'broken',
    })
  })
})

describe("Node.js's permission model", () => {
  const flag = process.allowedNodeEnvironmentFlags.has('--permission')
    ? '--permission'
    : '--experimental-permission'
  const PROGRAM = `
    process.removeAllListeners('warning')
    const { isPlatformSupported, isSupported, loadModel, generate } = await import('nodemlx')
    const error = await loadModel('demo').catch((error) => error)
    console.log(JSON.stringify({ platform: isPlatformSupported(), supported: isSupported(), code: error.code, message: error.message }))
  `
  const flags = (...more: string[]) => [flag, '--no-warnings', ...more]

  it('without addons is named with the flag that allows them', async () => {
    expect(await said(PROGRAM, { flags: flags('--allow-fs-read=*') })).toMatchObject({
      platform: true,
      supported: false,
      code: 'ADDON_UNAVAILABLE',
      message: expect.stringContaining('--allow-addons') as string,
    })
  })

  it('does not stop the questions from being answered where little may be read', async () => {
    expect(await said(PROGRAM, { flags: flags(`--allow-fs-read=${ROOT}/`) })).toMatchObject({
      platform: true,
      supported: false,
      code: 'ADDON_UNAVAILABLE',
    })
  })

  it('that hides a model is named with the flag that shows it', async () => {
    const shown = ['dist/', 'npm/', 'package.json'].map(
      (name) => `--allow-fs-read=${join(ROOT, name)}`,
    )
    const program = `
      process.removeAllListeners('warning')
      const { loadModel } = await import('nodemlx')
      const names = ['demo', './models/demo']
      const errors = names.map((name) => loadModel(name).catch(({ message }) => message))
      console.log(JSON.stringify(await Promise.all(errors)))`
    const messages = await said(program, { flags: flags('--allow-addons', ...shown) })
    for (const message of messages as string[])
      expect(message).toContain(`--allow-fs-read=${join(ROOT, 'models', 'demo')}`)
  })

  it('with addons lets models run', async () => {
    const allowed = flags(`--allow-fs-read=${ROOT}/`, '--allow-addons')
    expect(await said(PROGRAM, { flags: allowed })).toMatchObject({
      platform: true,
      supported: true,
    })
  })
})

describe('a C library or a Mac that is too old', () => {
  it.each([
    ['ldd (Debian GLIBC 2.31-13+deb11u11) 2.31', '2.31'],
    ['ldd (GNU libc) 2.34', undefined],
    ['ldd (Ubuntu GLIBC 2.27-3ubuntu1.6) 2.27', '2.27'],
    ['ldd (Debian GLIBC 2.36-9+deb12u10) 2.36', undefined],
    ['ldd (Ubuntu GLIBC 2.35-0ubuntu3.8) 2.35', undefined],
    ['something else', undefined],
    [undefined, undefined],
  ])('is named: %s', (ldd, version) => {
    const problem = libcProblem(ldd, false)
    if (version === undefined) expect(problem).toBeUndefined()
    else
      expect(problem).toContain(
        `glibc 2.35 or later, as in Debian 12 or Ubuntu 22.04; this system has ${version}`,
      )
  })

  it('is named: macOS', () => {
    expect(darwinProblem('22.6.0')).toContain('macOS 14 or later')
    expect(darwinProblem('23.0.0')).toBeUndefined()
  })

  it('and musl', () => {
    expect(libcProblem('#!/bin/sh\nexec /lib/ld-musl-x86_64.so.1', false)).toContain('musl')
    expect(libcProblem(undefined, true)).toContain('musl')
  })
})

describe('a path below app.asar', () => {
  const PROGRAM = (path: string) => `
    import { loadModel } from 'nodemlx'
    const { info, code, message } = await loadModel(${JSON.stringify(path)}).catch((error) => error)
    console.log(JSON.stringify({ path: info?.path, code, message }))
  `

  it('is looked up beside the archive', async () => {
    const model = join(folder, 'app.asar.unpacked', 'models', 'demo')
    cpSync(join(ROOT, 'models', 'demo'), model, { recursive: true })
    writeFileSync(join(folder, 'app.asar'), 'an archive')
    expect(await said(PROGRAM(join(folder, 'app.asar', 'models', 'demo')))).toEqual({ path: model })
  })

  it('that was not unpacked is refused with what to do', async () => {
    writeFileSync(join(folder, 'app.asar'), 'an archive')
    const result = await said(PROGRAM(join(folder, 'app.asar', 'models', 'demo')))
    expect(result).toMatchObject({
      code: 'MODEL_NOT_FOUND',
      message: expect.stringContaining('asarUnpack') as string,
    })
  })

  it('is an ordinary one where app.asar is a folder', async () => {
    const model = join(folder, 'app.asar', 'models', 'demo')
    cpSync(join(ROOT, 'models', 'demo'), model, { recursive: true })
    expect(await said(PROGRAM(model))).toEqual({ path: model })
  })

  it('of a prompt cache is written beside the archive, or refused', async () => {
    mkdirSync(join(folder, 'app.asar.unpacked'))
    writeFileSync(join(folder, 'app.asar'), 'an archive')
    const codes = await said(`
      import { loadModel } from 'nodemlx'
      const model = await loadModel('demo')
      const path = ${JSON.stringify(join(folder, 'app.asar', 'cache.safetensors'))}
      const failed = ({ code, message }) => [code, message.includes('asarUnpack')]
      const cache = model.createPromptCache()
      await model.generate('Hi', { promptCache: cache, maxTokens: 1 })
      console.log(JSON.stringify([await cache.save(path).catch(failed), await model.loadPromptCache(path).catch(failed)]))
    `)
    expect(codes).toEqual([
      ['IO_ERROR', true],
      ['IO_ERROR', true],
    ])
  })
})
