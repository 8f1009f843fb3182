// `nodemlx serve`, as a shell runs it.

import { describe, expect, it } from 'vitest'
import { runCli, type ChildOptions, type Outcome } from './support/child.js'
import type { Json } from './support/http.js'

/** Serves until `use` has asked, then ends the server by a signal. */
async function served<T>(
  args: string[],
  use: (url: string) => Promise<T>,
  options: ChildOptions = {},
  signal: NodeJS.Signals = 'SIGTERM',
): Promise<{ outcome: Outcome; result: T }> {
  let result: Promise<T> | undefined
  const outcome = await runCli(['serve', '--port', '0', ...args], {
    ...options,
    onOutput: (text, kill) => {
      const [url] = /http:\/\/\S+/.exec(text) ?? []
      if (url === undefined) return
      result ??= use(url).finally(() => {
        kill(signal)
      })
    },
  })
  if (result === undefined) throw new Error(`nothing was served: ${outcome.stderr}`)
  return { outcome, result: await result }
}

const ask = (url: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({
      model: 'demo',
      messages: [{ role: 'user', content: 'What is the capital of France?' }],
      temperature: 0,
    }),
  })

describe('serve', () => {
  it.each(['SIGTERM', 'SIGINT'] as const)('answers until %s', async (signal) => {
    const use = async (url: string): Promise<Json> => (await ask(url)).json()
    const { outcome, result } = await served([], use, {}, signal)
    expect(outcome).toMatchObject({ code: 0, signal: null })
    expect(outcome.stdout).toMatch(/^Serving demo at http:\/\/127\.0\.0\.1:\d+\n$/)
    expect(result.choices[0].message.content).toContain('Paris')
  })

  it('finishes an answer that is being streamed', async () => {
    const { outcome, result } = await served([], async (url) => {
      const response = await fetch(`${url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"model":"demo","prompt":"Once","stream":true,"max_tokens":40}',
      })
      // The signal comes while the answer is read.
      return { text: response.text() }
    })
    expect(outcome.code).toBe(0)
    expect(await result.text).toMatch(/data: \[DONE\]\n\n$/)
  })

  it('asks for the key of the environment', async () => {
    const use = async (url: string): Promise<number[]> => [
      (await ask(url)).status,
      (await ask(url, { authorization: 'Bearer secret' })).status,
    ]
    const { result } = await served([], use, { environment: { NODEMLX_API_KEY: 'secret' } })
    expect(result).toEqual([401, 200])
  })

  it('serves models by names of their own', async () => {
    const use = async (url: string): Promise<string[]> => {
      const { data } = (await (await fetch(`${url}/v1/models`)).json()) as Json
      return data.map(({ id }: Json) => id as string)
    }
    const { result } = await served(['./models/demo', 'small=demo', 'a/b=demo'].slice(0, 2), use)
    expect(result).toEqual(['demo', 'small'])
  })

  it.each<[string[], RegExp]>([
    [['--host', '0.0.0.0'], /--host: 0\.0\.0\.0 can be reached .*--api-key/],
    [['--host', '192.0.2.1', '--api-key', 'x'], /no such address/],
    [['--port', '70000'], /--port: expected a whole number/],
    [['--cors', 'example'], /--cors: .*no origin/],
    [['--cors', '*'], /--cors: .*api-?key/i],
    [['demo', 'demo'], /two models are called demo/],
    [['--prot', '1'], /did you mean --port/],
  ])('refuses %j', async (args, message) => {
    const { code, stderr } = await runCli(['serve', ...args])
    expect(code).toBe(2)
    expect(stderr).toMatch(message)
    expect(stderr).toMatch(/^nodemlx: [^\n]+\nSee "nodemlx.* --help"\.\n$/)
  })

  it('refuses a model that is nowhere before it listens', async () => {
    const { code, stderr } = await runCli(['serve', 'nowhere'])
    expect(code).toBe(1)
    expect(stderr).toMatch(/no folder nowhere/)
  })

  it('has a help', async () => {
    const { code, stdout } = await runCli(['serve', '--help'])
    expect(code).toBe(0)
    expect(stdout).toContain('--api-key KEY')
  })
})
