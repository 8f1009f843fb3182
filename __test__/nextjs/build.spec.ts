// The Next.js example, built as it is by both of Next.js's bundlers, and then served.

import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { installTools, makeApp, newerNode, NEWER_NODE, PLATFORM } from '../support/app.js'
import { findChromium, installDriver, runBrowser } from '../support/browser.js'
import { ROOT, runProgram } from '../support/child.js'

const HOME = join(ROOT, '.build', 'nextjs')
const APP = join(HOME, 'app')
const COPY = join(HOME, 'standalone')
const TOOLS = {
  '@ai-sdk/react': '4.0.177',
  ai: '7.0.173',
  next: '16.4.6',
  react: '19.3.1',
  'react-dom': '19.3.1',
  ...NEWER_NODE,
}
const NEXT = join(HOME, 'node_modules', 'next', 'dist', 'bin', 'next')
const node = newerNode(HOME)
const environment = { NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: undefined, CI: '1' }
const chromium = findChromium()

beforeAll(() => {
  installTools(HOME, TOOLS)
  makeApp(APP)
  cpSync(join(ROOT, 'examples', 'nextjs'), APP, { recursive: true })
  cpSync(join(APP, 'next.config.mjs'), join(APP, 'example.config.mjs'))
  // This repository's lock file would make it the workspace.
  writeFileSync(
    join(APP, 'next.config.mjs'),
    `import example from './example.config.mjs'
     const root = ${JSON.stringify(HOME)}
     const own = { output: 'standalone', outputFileTracingRoot: root, turbopack: { root } }
     export default { ...example, ...own }`,
  )
  if (chromium !== undefined) installDriver()
}, 600_000)

afterAll(() => {
  for (const folder of [APP, COPY]) rmSync(folder, { recursive: true, force: true })
})

/** Next.js takes the port 0 for none. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => {
        resolve(port)
      })
    })
  })
}

/** Runs a server, asks it once it listens, and stops it. */
async function whileServing<T>(args: string[], ask: (base: string) => Promise<T>): Promise<T> {
  let asked: Promise<T> | undefined
  let output = ''
  const { stderr } = await runProgram(node, args, {
    cwd: APP,
    environment: { ...environment, PORT: String(await freePort()), HOSTNAME: '127.0.0.1' },
    onOutput: (text, kill) => {
      output += text
      const [, base] = /Local: +(http:\/\/[\w.]+:\d+)\s/.exec(output) ?? []
      if (base === undefined || !output.includes('Ready in')) return
      asked ??= ask(base).finally(() => {
        kill('SIGTERM')
      })
    },
  })
  if (asked === undefined) throw new Error(`the server has not begun to listen: ${stderr}`)
  return asked
}

/** The text of the route's answer. */
async function capital(base: string): Promise<string> {
  const parts = [{ type: 'text', text: 'What is the capital of France?' }]
  const response = await fetch(`${base}/api/chat`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ messages: [{ id: '1', role: 'user', parts }] }),
  })
  const events = [...(await response.text()).matchAll(/^data: (\{.*)$/gm)].map(
    ([, event = '']) => JSON.parse(event) as { delta?: string },
  )
  return events.map(({ delta }) => delta ?? '').join('')
}

const scriptsIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.js'))
    .map((name) => readFileSync(join(folder, name), 'utf8'))

describe.each(['turbopack', 'webpack'])('built by %s', (bundler) => {
  beforeAll(async () => {
    rmSync(join(APP, '.next'), { recursive: true, force: true })
    const args = [NEXT, 'build', `--${bundler}`]
    const options = { cwd: APP, environment, timeoutMs: 300_000 }
    const { code, stdout, stderr } = await runProgram(node, args, options)
    expect(code, stdout + stderr).toBe(0)
  }, 300_000)

  it('the package stays outside of the bundle', () => {
    const scripts = scriptsIn(join(APP, '.next', 'server'))
    expect(scripts.length).toBeGreaterThan(3)
    expect(scripts.filter((text) => text.includes('ADDON_UNAVAILABLE'))).toEqual([])
  })

  it('next start answers', async () => {
    const answer = await whileServing([NEXT, 'start'], capital)
    expect(answer).toContain('Paris')
  })

  it('the page chats', async () => {
    if (chromium === undefined) return
    const { code, stdout, stderr } = await whileServing([NEXT, 'start'], (base) =>
      runBrowser('nextjs-page', chromium, { BASE_URL: base }),
    )
    expect(code, stdout + stderr).toBe(0)
    expect(stdout).toMatch(/^# pass [1-9]/m)
  }, 300_000)

  it('what next build copies runs elsewhere', async () => {
    rmSync(COPY, { recursive: true, force: true })
    cpSync(join(APP, '.next', 'standalone'), COPY, { recursive: true, verbatimSymlinks: true })
    const packages = join(COPY, 'app', 'node_modules')
    expect(existsSync(join(packages, '@nodemlx', PLATFORM, 'nodemlx.node'))).toBe(true)
    const answer = await whileServing([join(COPY, 'app', 'server.js')], capital)
    expect(answer).toContain('Paris')
  })
})
