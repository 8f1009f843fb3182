// The provider under the AI SDK itself, which wants Node.js 22: where this is an older one, that is
// taken from npm. Tools are installed into .build/ when they are first needed.

import { copyFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { installTools, makeApp, newerNode, NEWER_NODE } from './support/app.js'
import { ROOT, runProgram } from './support/child.js'
import { programs } from './support/programs.js'

const HOME = join(ROOT, '.build', 'ai-sdk')
const APP = join(HOME, 'app')
const SUITES = join(ROOT, '__test__', 'ai-sdk')
const TOOLS = {
  '@ai-sdk/react': '4.0.177',
  ai: '7.0.173',
  react: '19.3.1',
  'react-test-renderer': '19.3.1',
  zod: '4.6.7',
  ...NEWER_NODE,
}
const node = newerNode(HOME)

beforeAll(() => {
  installTools(HOME, TOOLS)
  makeApp(APP)
}, 300_000)

afterAll(() => {
  rmSync(APP, { recursive: true, force: true })
})

describe('the AI SDK', () => {
  const suites = readdirSync(SUITES).filter((name) => name.endsWith('.mjs'))
  it.each(suites)(
    '%s',
    async (name) => {
      copyFileSync(join(SUITES, name), join(APP, name))
      const { code, stdout, stderr } = await runProgram(
        node,
        ['--test', '--test-reporter=spec', '--test-timeout=60000', join(APP, name)],
        { cwd: APP, timeoutMs: 120_000 },
      )
      expect(code, stdout + stderr).toBe(0)
    },
    300_000,
  )

  it.each(programs('docs/ai-sdk.md'))('runs the programs of its page: %i', async (number, code) => {
    const file = join(APP, `program${number}.mjs`)
    writeFileSync(file, code)
    const { code: status, stderr } = await runProgram(node, [file], { cwd: APP })
    expect(status, stderr).toBe(0)
  })

  it('answers the page of the Next.js example', async () => {
    const route = join(APP, 'route.mjs')
    copyFileSync(join(ROOT, 'examples', 'nextjs', 'app', 'api', 'chat', 'route.js'), route)
    writeFileSync(
      join(APP, 'page.mjs'),
      `import { readUIMessageStream, DefaultChatTransport } from 'ai'
       import { POST } from './route.mjs'
       // What useChat sends with.
       const transport = new DefaultChatTransport({
         api: 'http://localhost/api/chat',
         fetch: (url, init) => POST(new Request(url, init)),
       })
       const parts = [{ type: 'text', text: 'What is the capital of France?' }]
       const messages = [{ id: '1', role: 'user', parts }]
       const trigger = 'submit-message'
       const stream = await transport.sendMessages({ chatId: '1', messages, trigger })
       let last
       for await (const message of readUIMessageStream({ stream })) last = message
       console.log(JSON.stringify(last.parts))`,
    )
    const page = [join(APP, 'page.mjs')]
    const { code, stdout, stderr } = await runProgram(node, page, { cwd: APP })
    expect(code, stderr).toBe(0)
    expect(JSON.parse(stdout)).toContainEqual(
      expect.objectContaining({ type: 'text', text: expect.stringContaining('France') as string }),
    )
  })

  it('is not needed for require() and its errors', async () => {
    const { code, stdout } = await runProgram(
      process.execPath,
      [
        '--eval',
        `const { createNodeMlx } = require('nodemlx/ai-sdk')
         try { createNodeMlx().imageModel('demo') } catch ({ name, modelType }) { console.log(name, modelType) }`,
      ],
      { cwd: APP },
    )
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'AI_NoSuchModelError imageModel\n' })
  })
})
