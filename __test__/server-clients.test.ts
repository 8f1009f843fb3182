// The clients of others against the server: each test file of __test__/clients is one of them.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { serve, type RunningServer } from '../js/server/index.js'
import { installClients, runClient } from './support/clients.js'
import { writeBert } from './support/embedder.js'

const home = mkdtempSync(join(tmpdir(), 'nodemlx-clients-'))
let server: RunningServer

beforeAll(async () => {
  installClients()
  writeBert(home, 'embeds')
  server = await serve({ models: { demo: 'demo', embedder: home }, port: 0, apiKey: 'secret' })
}, 300_000)
afterAll(async () => {
  await server.close()
  rmSync(home, { recursive: true })
})

it.each(['openai', 'agents', 'anthropic', 'ai-sdk', 'langchain'])(
  '%s understands it',
  async (client) => {
    const { code, stdout, stderr } = await runClient(client, server.url)
    const failed = stdout.split('\n').filter((line) => line.startsWith('not ok'))
    expect(failed, `${stdout}\n${stderr}`).toEqual([])
    expect({ code, passed: /^# pass (\d+)$/m.exec(stdout)?.[1] }).toEqual({
      code: 0,
      passed: expect.stringMatching(/^[1-9]/) as string,
    })
  },
  240_000,
)
