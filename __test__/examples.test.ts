// The programs that people copy, run as they are.

import { appendFileSync, cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { installTools, newerNode, NEWER_NODE } from './support/app.js'
import { ROOT, runProgram, type ChildOptions } from './support/child.js'

const HOME = join(ROOT, '.build', 'examples')

const run = (file: string, args: string[] = [], options?: ChildOptions) =>
  runProgram(process.execPath, [join(ROOT, 'examples', file), ...args], options)

describe('the example', () => {
  it('first-program.mjs answers', async () => {
    const { code, stdout } = await run('first-program.mjs', ['What is the capital of France?'])
    expect(code).toBe(0)
    expect(stdout).toMatch(/Paris.*\n\d+ tokens, [\d.]+ tokens per second\n$/)
  })

  it('commonjs.cjs answers', async () => {
    expect(await run('commonjs.cjs')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('cold') as string,
      stderr: '',
    })
  })

  // Where the process stands still for a moment, the whole story may come in one piece.
  it('stream.mjs stops after a sentence', { retry: 4 }, async () => {
    const { code, stdout } = await run('stream.mjs')
    expect(code).toBe(0)
    expect(stdout).toMatch(/^[^.]*fox[^]*\.[^]*\n\(abort, \d+ tokens\)\n$/)
  })

  it('chat.mjs remembers', async () => {
    const program = join(ROOT, 'examples', 'chat.mjs')
    const input = 'My favourite colour is teal.\nWhat is my favourite colour?\n'
    // Newer versions of Node.js mind a prompt after the end of the input.
    installTools(HOME, NEWER_NODE)
    for (const node of [process.execPath, newerNode(HOME)]) {
      const { code, stdout, stderr } = await runProgram(node, [program], { input })
      expect(code, stderr).toBe(0)
      expect(stdout.trim().split('\n').at(-1)).toContain('teal')
    }
  }, 300_000)

  it('tools.mjs calls a function and answers from what it returns', async () => {
    expect(await run('tools.mjs')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/sunny.*Paris/) as string,
      stderr: expect.stringContaining('get_weather') as string,
    })
  })

  it('rag answers from a folder, whose texts it embeds once', async () => {
    installTools(HOME, NEWER_NODE)
    const folder = mkdtempSync(join(tmpdir(), 'nodemlx-rag-'))
    const environment = { STORE: join(folder, 'embeddings.sqlite'), NODE_NO_WARNINGS: '1' }
    const notes = join(folder, 'notes')
    cpSync(join(ROOT, 'examples', 'rag', 'notes'), notes, { recursive: true })
    const ask = async (question: string): Promise<[string, string]> => {
      const program = [join(ROOT, 'examples', 'rag', 'ask.mjs'), question, notes]
      const { code, stdout, stderr } = await runProgram(newerNode(HOME), program, { environment })
      expect(code, stderr).toBe(0)
      return [stdout, stderr]
    }
    try {
      const [bridge, first] = await ask('What is the bridge made of?')
      expect(bridge).toContain('stone')
      expect(first).toMatch(/^9 paragraphs, 9 of them new\n[\d.]+ places\.md: The bridge/)
      const [lamp, second] = await ask('How much is a lamp?')
      expect(lamp).toContain('25')
      expect(second).toMatch(/^9 paragraphs, 0 of them new\n[\d.]+ shop\.md: A lamp/)
      appendFileSync(join(notes, 'shop.md'), '\n\nA broom costs 7 euros.\n')
      const [, third] = await ask('How much is a broom?')
      expect(third).toMatch(/^10 paragraphs, 1 of them new\n/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  }, 300_000)

  it('extract.mjs gives data of the schema', async () => {
    const { code, stdout } = await run('extract.mjs')
    expect(code).toBe(0)
    const { name, city, year } = JSON.parse(stdout) as Record<string, unknown>
    expect([typeof name, typeof city, Number.isInteger(year)]).toEqual(['string', 'string', true])
  })

  it('worker/main.mjs answers from another thread', async () => {
    expect(await run('worker/main.mjs')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('Tokyo') as string,
      stderr: '',
    })
  })

  it('server.mjs answers clients and its own route, and stops when asked to', async () => {
    let asked: Promise<[string, string]> | undefined
    const ask = async (base: string): Promise<[string, string]> => {
      const messages = [{ role: 'user', content: 'What is the capital of Italy?' }]
      const response = await fetch(`${base}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'demo', messages, temperature: 0, stream: true }),
      })
      return [await response.text(), await (await fetch(`${base}/hello`)).text()]
    }
    const { code, signal } = await run('server.mjs', [], {
      environment: { PORT: '0' },
      onOutput: (text, kill) => {
        const [base = ''] = /http:\/\/\S+/.exec(text) ?? []
        asked ??= ask(base).finally(() => {
          kill('SIGTERM')
        })
      },
    })
    expect({ code, signal }).toEqual({ code: 0, signal: null })
    const [stream = '', hello] = (await asked) ?? []
    const pieces = [...stream.matchAll(/"content":("[^"]*")/g)]
    expect(pieces.map(([, piece = '']) => JSON.parse(piece) as string).join('')).toContain('Rome')
    expect(stream).toMatch(/data: \[DONE\]\n\n$/)
    expect(hello).toBe('Hello!')
  })
})
