// The command line with models that have to be downloaded: from a hub of the tests, which has the
// demo model.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { ROOT, runCli } from './support/child.js'
import { HubFixture } from './support/hub-fixtures.js'
import { Terminal } from './support/terminal.js'

const hub = new HubFixture()
const FRANCE = 'What is the capital of France?'

const DEMO = Object.fromEntries(
  readdirSync(join(ROOT, 'models', 'demo'))
    .filter((name) => /\.(json|safetensors|jinja)$/.test(name))
    .map((name) => [name, readFileSync(join(ROOT, 'models', 'demo', name))]),
)
let environment: NodeJS.ProcessEnv

beforeEach(() => {
  hub.server.add('owner/demo', DEMO)
  environment = {
    HF_ENDPOINT: hub.server.endpoint,
    HF_HUB_CACHE: hub.cacheDir,
    HF_HOME: hub.cacheDir,
  }
})

describe('nodemlx -m owner/name', () => {
  it('downloads, tells it in lines, answers, and then needs no network', async () => {
    const args = ['-m', 'owner/demo', '-t', '0', '--no-stats', FRANCE]
    const first = await runCli(args, { environment })
    expect({ code: first.code, stdout: first.stdout }).toEqual({
      code: 0,
      stdout: expect.stringContaining('Paris') as string,
    })
    expect(first.stderr).toMatch(/^(Downloading owner\/demo: [\d.]+ \w*B of 6\.8 MB[^\n]*\n)+$/)
    expect(first.stderr).toMatch(/6\.8 MB of 6\.8 MB/)
    hub.server.requests.length = 0
    const second = await runCli(args, { environment: { ...environment, HF_HUB_OFFLINE: '1' } })
    expect(second).toMatchObject({ code: 0, stdout: first.stdout, stderr: '' })
    expect(hub.server.requests).toEqual([])
  })

  it('shows bars on a terminal, for the whole and for the file', async () => {
    hub.server.fault = ({ at }) => (at === 'content' ? { slowMs: 3 } : undefined)
    const terminal = new Terminal(
      [
        process.execPath,
        join(ROOT, 'dist', 'cli', 'main.js'),
        '-m',
        'owner/demo',
        '-t',
        '0',
        FRANCE,
      ],
      environment,
    )
    await terminal.shows(/Downloading \S+ .*%.* of 6\.8 MB/)
    await terminal.shows(/model\.safetensors .*%.* of 6\.8 MB/)
    await terminal.shows('Paris')
    expect(await terminal.exit()).toBe(0)
    for (const line of terminal.text.split('\n')) expect(line.length).toBeLessThan(400)
  })

  it('is interrupted by Ctrl-C, and goes on from there', async () => {
    hub.server.fault = ({ at }) => (at === 'content' ? { slowMs: 5 } : undefined)
    const { code, stderr } = await runCli(['-m', 'owner/demo', 'Hi'], {
      environment,
      timeoutMs: 60_000,
      onStarted: (kill) => {
        hub.server.onContent = ({ at }) => {
          if (at === 'content')
            setTimeout(() => {
              kill('SIGINT')
            }, 300)
        }
      },
    })
    expect({ code, stderr: stderr.replaceAll(/Downloading .*\n/g, '') }).toEqual({
      code: 130,
      stderr: '',
    })
    hub.server.fault = () => undefined
    hub.server.onContent = () => undefined
    hub.server.requests.length = 0
    expect((await runCli(['download', 'owner/demo'], { environment })).code).toBe(0)
    const [content] = hub.server.requests.filter(({ at }) => at === 'content')
    expect(content?.headers.range).toMatch(/^bytes=[1-9]\d*-$/)
  })

  it('says what is wrong with a name', async () => {
    const { code, stdout, stderr } = await runCli(['-m', 'owner/nosuch', 'Hi'], { environment })
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(
      /^nodemlx: There is no model owner\/nosuch at [^\n]*HF_TOKEN[^\n]*\nSee [^\n]+NOT_FOUND.md\n$/,
    )
  })
})

describe('nodemlx download, models and rm', () => {
  it('go together', async () => {
    const none = await runCli(['models'], { environment })
    expect(none).toMatchObject({
      code: 0,
      stdout: '',
      stderr: `There are no models in ${hub.cacheDir} yet.\n`,
    })
    const downloaded = await runCli(['download', 'owner/demo'], { environment })
    expect(downloaded.code).toBe(0)
    expect(readdirSync(downloaded.stdout.trim())).toContain('model.safetensors')
    const list = await runCli(['models'], { environment })
    expect(list.stdout).toMatch(
      /^model +size +last used +runs +alias\nowner\/demo +6\.8 MB +\d{4}-\d\d-\d\d +yes\n$/,
    )
    const json = await runCli(['models', '--json'], { environment })
    expect(JSON.parse(json.stdout)).toMatchObject([
      { id: 'owner/demo', revisions: [{ runs: true }] },
    ])
    const removed = await runCli(['rm', 'owner/demo'], { environment })
    expect(removed).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/6\.8 MB are free again/) as string,
    })
    expect((await runCli(['rm', 'owner/demo'], { environment })).code).toBe(1)
  })

  it('go on behind a name that fails', async () => {
    const both = ['owner/nowhere', 'owner/demo']
    const downloaded = await runCli(['download', ...both, '--verify'], { environment })
    expect(downloaded.code).toBe(1)
    expect(downloaded.stderr).toContain('There is no model owner/nowhere')
    expect(readdirSync(downloaded.stdout.trim())).toContain('model.safetensors')
    const removed = await runCli(['rm', ...both, 'owner/other'], { environment })
    expect(removed.code).toBe(1)
    for (const said of ['owner/nowhere is not in', 'are free again', 'owner/other is not in'])
      expect(removed.stderr).toContain(said)
  })

  it('take revisions and patterns, and print JSON', async () => {
    hub.server.add('owner/demo', DEMO, 'v1')
    const args = [
      'download',
      'owner/demo',
      '--revision',
      'v1',
      '--include',
      '*.json',
      '--exclude',
      'tok*',
      '--json',
    ]
    const { stdout } = await runCli(args, { environment })
    const model = JSON.parse(stdout) as { model: string; path: string }
    expect(model.model).toBe('owner/demo')
    const files = readdirSync(model.path)
    expect(files).toContain('config.json')
    expect(files.filter((name) => /^tok|safetensors$/.test(name))).toEqual([])
    expect(hub.names('owner/demo', 'refs')).toEqual(['v1'])
  })

  it.each<[string[], RegExp]>([
    [['download'], /name a model/],
    [['download', 'nothing'], /expected an alias or "owner\/name"/],
    [['download', 'demo'], /"demo", which is here already/],
    [['download', 'owner/demo', '--revision', '..'], /--revision: is no branch/],
    [['rm'], /name a model/],
    [['rm', '/etc'], /expected an alias/],
    [['models', 'x'], /takes no names/],
    [['models', '--include', 'x'], /does not go with "nodemlx models"/],
  ])('refuse %j with exit code 2', async (args, says) => {
    const { code, stderr } = await runCli(args, { environment })
    expect(code).toBe(2)
    expect(stderr).toMatch(says)
  })
})
