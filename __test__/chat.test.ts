// The chat in a terminal of its own: keys are pressed, and what is shown is waited for.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ROOT, runCli } from './support/child.js'
import { CTRL_C, CTRL_D, Terminal } from './support/terminal.js'

const ENTER = '\r'
const UP = '\u001B[A'

let home: string
let terminal: Terminal

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'nodemlx-'))
})

afterEach(() => {
  terminal.kill()
  rmSync(home, { recursive: true })
})

async function start(...options: string[]): Promise<void> {
  terminal = new Terminal(
    [process.execPath, join(ROOT, 'dist', 'cli', 'main.js'), 'chat', ...options],
    { HOME: home, HF_HUB_OFFLINE: '1', HF_HUB_CACHE: join(home, 'hub') },
  )
  await terminal.shows('> ')
}

/** Types a line and waits for what is shown, and for the next prompt. */
async function enter(line: string, ...expected: (string | RegExp)[]): Promise<void> {
  terminal.type(line + ENTER)
  for (const text of expected) await terminal.shows(text)
  await terminal.shows('\n> ')
}

describe('a chat in a terminal', () => {
  it('remembers the conversation, until it is told to forget it', async () => {
    await start('-t', '0')
    expect(terminal.text).toMatch(
      /nodemlx [\d.]+ +demo: qwen3, [\d.]+ M parameters, 4-bit, on the [CG]PU/,
    )
    await enter('My favourite colour is teal.', 'tokens at')
    await enter('What is my favourite colour?', 'teal', 'tokens at')
    await enter('/clear', 'forgotten')
    const before = terminal.text.length
    await enter('What is my favourite colour?', 'tokens at')
    expect(terminal.text.slice(before)).not.toContain('teal')
    terminal.type(CTRL_D)
    expect(await terminal.exit()).toBe(0)
  })

  it('stops the answer on Ctrl-C, and goes on', async () => {
    await start('-t', '1', '--seed', '1')
    // The story may have ended before the key comes: at an empty prompt it is asked for once more.
    const stopped = () =>
      terminal.text.lastIndexOf('stopped') > terminal.text.lastIndexOf('once more')
    for (let tries = 0; tries < 20 && !stopped(); tries++) {
      terminal.type(`Tell me a long story about a fox and a bell.${ENTER}`)
      await terminal.shows('fox')
      await terminal.shows('fox')
      terminal.type(CTRL_C)
      await terminal.shows(/stopped|once more/)
    }
    expect(stopped()).toBe(true)
    await terminal.shows('> ')
    await enter('/temp 0', 'temperature: 0')
    await enter('/clear', 'forgotten')
    await enter('What is the capital of France?', 'Paris')
    terminal.type(`/quit${ENTER}`)
    expect(await terminal.exit()).toBe(0)
  })

  it('leaves on a second Ctrl-C at an empty prompt, and only then', async () => {
    await start()
    terminal.type('half a line')
    await terminal.shows('half a line')
    terminal.type(CTRL_C)
    await terminal.shows('> ')
    terminal.type(CTRL_C)
    await terminal.shows('once more')
    await enter('/temp', 'temperature:')
    terminal.type(CTRL_C)
    await terminal.shows('once more')
    terminal.type(CTRL_C)
    expect(await terminal.exit()).toBe(130)
  })

  it('has commands, and says what was probably meant', async () => {
    await start()
    await enter('/help', '/model NAME', '/retry', '/fork N', '/image', '/quit', 'Ctrl-D leaves')
    await enter('/temp 0.5', 'temperature: 0.5')
    await enter('/temp 99', 'Error: temperature: expected a number from 0 to 10, got 99')
    await enter('/temp', 'temperature: 0.5')
    await enter('/temp default', "temperature: the model's default")
    await enter('/tokens 3', 'maxTokens: 3')
    await enter('Tell me a story.', 'cut off at the limit')
    await enter('/rep 1.2', 'repetitionPenalty: 1.2')
    await enter('/system Be brief.', 'System prompt: Be brief.')
    await enter('/system none', 'There is no system prompt.')
    await enter('/image cat.png', 'takes text only')
    await enter('/list', 'demo', 'mlx-community/')
    await enter('/modle', 'did you mean /model?')
    await enter('/model', 'demo: qwen3')
    await enter('/model someone/something', 'Error: someone/something is not in the cache')
    await enter('/model demo', 'demo: qwen3')
    await enter('/temp 0', 'temperature: 0')
    await enter('/tokens default', "maxTokens: the model's default")
    await enter('What is the capital of France?', 'Paris')
  })

  it('begins without a command where there is nothing to answer', async () => {
    terminal = new Terminal([process.execPath, join(ROOT, 'dist', 'cli', 'main.js')], {
      HOME: home,
    })
    await terminal.shows('/help shows the commands')
    await terminal.shows('> ')
    terminal.type(CTRL_D)
    expect(await terminal.exit()).toBe(0)
  })

  it('completes commands', async () => {
    await start()
    terminal.type('/cl')
    await terminal.shows('/cl')
    terminal.type('\t')
    await terminal.shows('ear')
    terminal.type(ENTER)
    await terminal.shows('forgotten')
  })

  it('completes names of models, also of those in the cache, words and files', async () => {
    const commit = 'c'.repeat(40)
    const folder = join(home, 'hub', 'models--someone--Something-4bit')
    mkdirSync(join(folder, 'snapshots', commit), { recursive: true })
    mkdirSync(join(folder, 'refs'))
    writeFileSync(join(folder, 'refs', 'main'), commit)
    writeFileSync(join(folder, 'snapshots', commit, 'config.json'), '{}')
    writeFileSync(join(home, 'conversation.json'), '[]')
    await start()
    for (const [typed, completed] of [
      ['/model someone/S', 'omething-4bit'],
      ['/think me', 'dium'],
      [`/load ${home}/conv`, 'ersation.json'],
    ] as const) {
      terminal.type(typed)
      await terminal.shows(typed)
      terminal.type('\t')
      await terminal.shows(completed)
      terminal.type(CTRL_C)
    }
  })

  it('answers again, forks, and goes on with what was kept', async () => {
    const file = join(home, 'kept.json')
    await start('-t', '0')
    await enter('/retry', 'Nothing was said')
    await enter('My favourite colour is teal.', 'tokens at')
    await enter('/fork', 'conversation 2 of 2, 2 messages')
    await enter('What is my favourite colour?', 'teal', 'tokens at')
    await enter('/retry', 'teal', 'tokens at')
    await enter(`/save ${file}`, `is in ${file}`)
    await enter('/fork 1', 'conversation 1 of 2, 2 messages')
    await enter('/fork 3', 'conversations 1 to 2, and no 3')
    await enter('/clear', 'forgotten')
    await enter(`/load ${file}`, 'A conversation of 4 messages.')
    await enter('What is my favourite colour?', 'teal', 'tokens at')
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({
      model: 'demo',
      messages: [{ role: 'user' }, { role: 'assistant' }, { role: 'user' }, { role: 'assistant' }],
    })
    writeFileSync(file, '{"messages":[{"role":5}]}')
    await enter(`/load ${file}`, /Error: messages of .*kept\.json\[0\]\.role/)
    await enter('/load /no/such/file', 'Error: /no/such/file cannot be read: no such file')
    await enter('/save /no/such/folder/file', 'Error: /no/such/folder/file cannot be written')
  })

  it('lets the model call the tools of a module', async () => {
    const file = join(home, 'tools.mjs')
    writeFileSync(
      file,
      `const properties = { city: { type: 'string' } }
      export default [{
        name: 'get_weather',
        description: 'Get the weather in a city',
        parameters: { type: 'object', properties, required: ['city'] },
        execute: ({ city }) => ({ city, condition: 'sunny' }),
      }]`,
    )
    writeFileSync(join(home, 'none.mjs'), 'export const tools = [{ name: "a" }]')
    await start('-t', '0')
    await enter('/tools', 'There are no tools.')
    await enter(`/tools ${file}`, 'get_weather  Get the weather')
    await enter('What is the weather in Paris?', '→ get_weather {"city":"Paris"}', 'sunny')
    await enter(`/tools ${join(home, 'none.mjs')}`, 'tools[0] has no function execute')
    await enter('/tools none', 'There are no tools.')
    await enter('/tools /no/such/file', 'Error: /no/such/file cannot be loaded: no such file')
  })

  it('thinks as much as it is told to', async () => {
    await start()
    await enter('/think', "reasoning: the model's default")
    await enter('/think low', 'reasoning: low')
    await enter('/think 100', 'reasoning: up to 100 tokens')
    await enter('/think hard', 'Error: reasoning: expected')
    await enter('/think default', "reasoning: the model's default")
  })

  it('keeps together what is pasted, and what Alt-Enter has cut', async () => {
    await start('-t', '0')
    terminal.type('\u001B[200~What is the capital\rof Italy?\u001B[201~')
    await terminal.shows('… of Italy?')
    await enter('', 'Rome')
    terminal.type('What is the capital\u001B\r')
    await terminal.shows('… ')
    await enter('of Japan?', 'Tokyo')
    terminal.type('given up\u001B\r')
    await terminal.shows('… ')
    terminal.type(CTRL_C)
    await terminal.shows('\n> ')
    await enter('What is the capital of France?', 'Paris')
  })

  it('takes longer texts', async () => {
    await start('-t', '0')
    terminal.type(`What is the capital\\${ENTER}`)
    await terminal.shows('… ')
    await enter('of Italy?', 'Rome')
    terminal.type(`"""What is the capital${ENTER}`)
    await terminal.shows('… ')
    await enter('of Japan?"""', 'Tokyo')
  })

  it.each(['"""open', 'open \\'])('gives up a text of several lines: %s', async (open) => {
    await start('-t', '0')
    for (const typed of ['', 'half a line']) {
      terminal.type(`${open}${ENTER}`)
      await terminal.shows('… ')
      terminal.type(typed)
      if (typed !== '') await terminal.shows(typed)
      terminal.type(CTRL_C)
      await terminal.shows('\n> ')
    }
    await enter('What is the capital of France?', 'Paris')
  })

  it('keeps what was typed for the next time, for nobody else to read', async () => {
    await start('-n', '1')
    await enter('first line', 'first after')
    terminal.type(CTRL_D)
    await terminal.exit()
    const file = join(home, '.nodemlx_history')
    expect(readFileSync(file, 'utf8')).toBe('first line\n')
    expect(statSync(file).mode & 0o777).toBe(0o600)
    await start('-n', '1')
    terminal.type(UP)
    await terminal.shows('first line')
  })
})

describe('a chat without a terminal', () => {
  beforeEach(() => {
    terminal = new Terminal(['true'])
  })

  it('answers line by line, with nothing but answers on standard output', async () => {
    const { code, stdout, stderr } = await runCli(['chat', '-t', '0', '--no-stats'], {
      input: 'What is the capital of France?\n\n/system none\nWhat is the capital of Japan?\n',
    })
    expect(code).toBe(0)
    expect(stdout).toMatch(/^.*Paris.*\n.*Tokyo.*\n$/)
    expect(stderr).toBe('There is no system prompt.\n')
  })

  it('ends where something goes wrong', async () => {
    const { code, stdout, stderr } = await runCli(['chat'], {
      input: '/model /no/such/folder\nHi\n',
    })
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(/^nodemlx: .*\/no\/such\/folder/)
  })
})
