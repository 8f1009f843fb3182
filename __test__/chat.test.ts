// The chat in a terminal of its own: keys are pressed, and what is shown is waited for.

import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
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
    { HOME: home, HF_HUB_OFFLINE: '1' },
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
    await enter('/help', '/model NAME', '/image', '/quit', 'Ctrl-D leaves')
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

  it('takes longer texts', async () => {
    await start('-t', '0')
    terminal.type(`What is the capital\\${ENTER}`)
    await terminal.shows('… ')
    await enter('of Italy?', 'Rome')
    terminal.type(`"""What is the capital${ENTER}`)
    await terminal.shows('… ')
    await enter('of Japan?"""', 'Tokyo')
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
