// The examples that go with packages of others, in a program that has them and this one installed.

import { cpSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { installTools, makeApp, NEWER_NODE, newerNode } from './support/app.js'
import { ROOT, runProgram } from './support/child.js'

const HOME = join(ROOT, '.build', 'frameworks')
const APP = join(HOME, 'app')
const TOOLS = {
  ...NEWER_NODE,
  '@hono/node-server': '2.1.9',
  '@modelcontextprotocol/sdk': '1.32.2',
  express: '5.3.0',
  hono: '4.13.19',
  zod: '4.6.7',
}

beforeAll(() => {
  installTools(HOME, TOOLS)
  makeApp(APP)
  for (const name of ['express', 'hono', 'mcp', 'vitest'])
    cpSync(join(ROOT, 'examples', name), join(APP, name), { recursive: true })
}, 300_000)

afterAll(() => {
  rmSync(APP, { recursive: true, force: true })
})

/** Runs a server, asks it once it listens, and stops it. */
async function whileServing<T>(file: string, ask: (base: string) => Promise<T>): Promise<T> {
  let asked: Promise<T> | undefined
  const { code, signal, stderr } = await runProgram(process.execPath, [join(APP, file)], {
    cwd: APP,
    environment: { PORT: '0' },
    onOutput: (text, kill) => {
      const [base] = /http:\/\/\S+/.exec(text) ?? []
      if (base === undefined) return
      asked ??= ask(base).finally(() => {
        kill('SIGTERM')
      })
    },
  })
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' })
  if (asked === undefined) throw new Error('the server has not said where it listens')
  return asked
}

const json = (body: unknown): RequestInit => ({
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
})

/** What a client of OpenAI's API is answered. */
async function capital(base: string): Promise<string> {
  const messages = [{ role: 'user', content: 'What is the capital of Italy?' }]
  const body = { model: 'demo', messages, temperature: 0 }
  const response = await fetch(`${base}/v1/chat/completions`, json(body))
  const { choices } = (await response.json()) as { choices: { message: { content: string } }[] }
  return choices[0]?.message.content ?? ''
}

describe('the example', () => {
  it('hono/server.mjs answers clients and streams by itself', async () => {
    const [answer, streamed] = await whileServing('hono/server.mjs', async (base) => [
      await capital(base),
      await (await fetch(`${base}/ask?question=What+is+the+capital+of+France%3F`)).text(),
    ])
    expect(answer).toContain('Rome')
    expect(streamed).toContain('France')
  })

  it('express/server.mjs answers clients and streams by itself', async () => {
    const question = 'What is the capital of France?'
    const { answer, type, events } = await whileServing('express/server.mjs', async (base) => {
      const own = await fetch(`${base}/ask`, json({ question }))
      for (const asked of [json({}), { method: 'POST' }])
        expect((await fetch(`${base}/ask`, asked)).status).toBe(400)
      return {
        answer: await capital(base),
        type: own.headers.get('content-type'),
        events: await own.text(),
      }
    })
    expect(answer).toContain('Rome')
    expect(type).toContain('text/event-stream')
    const pieces = [...events.matchAll(/^data: (.*)$/gm)]
    expect(pieces.map(([, piece = '']) => JSON.parse(piece) as string).join('')).toContain('France')
  })

  it('mcp/agent.mjs calls the tools of a server as they are', async () => {
    const agent = [join(APP, 'mcp', 'agent.mjs')]
    for (const node of [process.execPath, newerNode(HOME)]) {
      const options = { cwd: APP, input: 'What is the weather in Paris?\nHi!\n' }
      const { code, stdout, stderr } = await runProgram(node, agent, options)
      expect(code, stderr).toBe(0)
      expect(stderr).toContain("→ get_weather { city: 'Paris' }")
      expect(stdout).toMatch(/sunny.*Paris/)
    }
  })

  it('vitest passes', async () => {
    const vitest = join(ROOT, 'node_modules', 'vitest')
    symlinkSync(vitest, join(APP, 'node_modules', 'vitest'))
    // Without one it takes that of this repository.
    writeFileSync(join(APP, 'vitest', 'vitest.config.mjs'), 'export default {}\n')
    const { code, stdout, stderr } = await runProgram(
      process.execPath,
      [join(vitest, 'vitest.mjs'), 'run', '--root', join(APP, 'vitest'), '--testTimeout', '60000'],
      {
        cwd: APP,
        environment: { CI: '1', NODE_ENV: 'test', VITEST: undefined, VITEST_WORKER_ID: undefined },
      },
    )
    expect(code, stdout + stderr).toBe(0)
    expect(stdout).toMatch(/4 passed/)
  })
})
