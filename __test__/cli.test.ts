// The command line, as a shell runs it: what goes to which stream, and with which exit code.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { VERSION } from '../js/index.js'
import { ROOT, runCli, runProgram } from './support/child.js'
import { CTRL_C, Terminal } from './support/terminal.js'

const FRANCE = 'What is the capital of France?'
// It goes on for longer than any test, which the story alone does not on a fast machine.
const ENDLESS = [
  '--min-tokens',
  '3500',
  '-t',
  '1',
  '--seed',
  '1',
  'Tell me about a fox and a bell.',
]
const MAIN = join(ROOT, 'dist', 'cli', 'main.js')

describe('a prompt', () => {
  it('is answered on standard output, with statistics on standard error', async () => {
    const { code, stdout, stderr } = await runCli(['-t', '0', FRANCE])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^.*Paris.*\n$/)
    expect(stderr).toMatch(
      /^\d+ tokens at [\d.]+\/s · prompt \d+ at [\d.]+\/s · first after [\d.]+ m?s · peak [\d.]+ MB\n$/,
    )
  })

  it('can be several words, and can go without statistics', async () => {
    const { code, stdout, stderr } = await runCli([
      '-t0',
      '--no-stats',
      'What',
      'is',
      '2',
      '+',
      '2?',
    ])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toContain('4')
  })

  it('can be piped in', async () => {
    const { stdout } = await runCli(['-t', '0', '--no-stats'], { input: `${FRANCE}\n` })
    expect(stdout).toContain('Paris')
  })

  it('goes before what is piped in', async () => {
    const { stdout } = await runCli(['--json', '-n', '1', 'One'], { input: 'two\n' })
    const { usage } = JSON.parse(stdout) as { usage: { promptTokens: number } }
    const { stdout: joined } = await runCli(['--json', '-n', '1', 'One\n\ntwo'])
    expect(JSON.parse(joined)).toMatchObject({ usage: { promptTokens: usage.promptTokens } })
  })

  it('after -- can be the name of a command', async () => {
    const { code, stdout } = await runCli(['--no-stats', '-n', '3', '--', 'chat'])
    expect(code).toBe(0)
    expect(stdout).not.toBe('')
  })

  it('is one JSON object on request', async () => {
    const { code, stdout, stderr } = await runCli(['--json', '-t', '0', FRANCE])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(JSON.parse(stdout)).toMatchObject({
      model: 'demo',
      text: expect.stringContaining('Paris') as string,
      finishReason: 'stop',
      usage: { cachedTokens: 0 },
    })
  })

  it('is sampled as the options say', async () => {
    const story = async (...options: string[]) =>
      (await runCli([...options, '--no-stats', '-t', '1.5', '-n', '8', 'Tell me a short story.']))
        .stdout
    const [first, again, other] = [
      await story('--seed', '5'),
      await story('--seed=5'),
      await story('--seed', '6'),
    ]
    expect(again).toBe(first)
    expect(other).not.toBe(first)
    expect((await runCli(['-t', '0', '--no-stats', '--stop', ' Paris', FRANCE])).stdout).toMatch(
      /France is\n$/,
    )
  })

  it('goes through the chat template unless it is raw, with a system prompt on request', async () => {
    const tokens = async (...options: string[]) => {
      const { stdout } = await runCli(['--json', '-n', '1', ...options, 'Hi'])
      return (JSON.parse(stdout) as { usage: { promptTokens: number } }).usage.promptTokens
    }
    const [raw, plain, system] = [
      await tokens('--raw'),
      await tokens(),
      await tokens('--system', 'Be brief and kind.'),
    ]
    expect(raw).toBeLessThan(plain)
    expect(plain).toBeLessThan(system)
  })

  it('that nobody reads the answer of ends quietly', async () => {
    const { code, stdout, stderr } = await runProgram('sh', [
      '-c',
      `"${process.execPath}" "${MAIN}" --no-stats -t 0 "${FRANCE}" | true; echo done`,
    ])
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'done\n', stderr: '' })
  })
})

describe('mistakes', () => {
  it.each<[string[], RegExp]>([
    [['--tempreature', '1', 'Hi'], /no option --tempreature; did you mean --temperature\?/],
    [['--temp', '1', 'Hi'], /did you mean --temperature\?/],
    [['-x', 'Hi'], /no option -x/],
    [['-t', '70', 'Hi'], /--temperature: expected a number from 0 to 10, got 70/],
    [['-t', 'warm', 'Hi'], /--temperature: expected a number, got "warm"/],
    [['-t', '-1', 'Hi'], /--temperature: .* got -1/],
    [['-n', '0', 'Hi'], /--max-tokens: .* from 1/],
    [['--top-p', '2', 'Hi'], /--top-p: .* up to 1/],
    [['--seed', '1.5', 'Hi'], /--seed: expected a whole number/],
    [['--stop', '', 'Hi'], /--stop: is empty/],
    [['--device', 'metal', 'Hi'], /--device: expected one of 'auto', 'gpu', 'cpu', got "metal"/],
    [['--dtype', 'fp16', 'Hi'], /--dtype: .*'float16'/],
    [['--threads', '0', 'Hi'], /--threads: .*from 1/],
    [['--context-length', '0', 'Hi'], /--context-length: .*from 1/],
    [['--precision', 'double', 'Hi'], /--precision: .*exact/],
    [['Hi', '--model'], /--model needs a value: --model MODEL/],
    [['-m', '--json', 'Hi'], /-m needs a value.*--model=--json/],
    [['--json=yes', 'Hi'], /--json takes no value/],
    [['--system', 'x', '--raw', 'Hi'], /--system needs the chat template/],
    [['--rounds', '3', 'Hi'], /--rounds does not go with "nodemlx"/],
    [['chat', '--json'], /--json does not go with "nodemlx chat"/],
    [['chat', 'Hi'], /a chat takes no prompt/],
    [['info', 'a', 'b'], /give one model/],
    [['bench', '-r', '0'], /--rounds: expected a whole number from 1/],
    [[], /there is no prompt/],
    [[' '], /there is no prompt/],
  ])('%j is refused with exit code 2', async (args, says) => {
    const { code, stdout, stderr } = await runCli(args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(says)
    expect(stderr).toMatch(/^nodemlx: [^\n]+\nSee "nodemlx.* --help"\.\n$/)
  })

  it('of the model are one line, with exit code 1', async () => {
    const { code, stdout, stderr } = await runCli(['-m', 'someone/something', 'Hi'], {
      environment: { HF_HUB_OFFLINE: '1' },
    })
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(
      /^nodemlx: someone\/something is not in the cache [^\n]*HF_HUB_OFFLINE[^\n]*\nSee [^\n]+OFFLINE.md\n$/,
    )
  })

  it('show where they come from on request', async () => {
    const flag = await runCli(['--verbose', '-m', '/no/such/folder', 'Hi'])
    expect(flag.stderr).toMatch(/NodeMlxError: .*\n\s+at /)
    const variable = await runCli(['-m', '/no/such/folder', 'Hi'], {
      environment: { DEBUG: 'nodemlx' },
    })
    expect(variable.stderr).toMatch(/\n\s+at /)
  })
})

describe('help and version', () => {
  it.each(['', 'chat', 'info', 'bench'])('of "%s"', async (command) => {
    const { code, stdout, stderr } = await runCli([...command.split(' ').filter(Boolean), '--help'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toContain(`nodemlx ${command}`.trim())
    expect(stdout).toContain('--model MODEL')
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(80)
  })

  it('are there with -h and -v', async () => {
    expect((await runCli(['-h'])).stdout).toBe((await runCli(['--help'])).stdout)
    expect((await runCli(['-v'])).stdout).toMatch(
      new RegExp(`^nodemlx ${VERSION.replaceAll('.', '\\.')} \\(MLX [\\d.]+\\)\n$`),
    )
  })
})

describe('info', () => {
  it('shows a model', async () => {
    const { code, stdout } = await runCli(['info', 'demo'])
    expect(code).toBe(0)
    expect(stdout).toMatch(/architecture +qwen3/)
    expect(stdout).toMatch(/weights +4-bit affine/)
    expect(JSON.parse((await runCli(['info', '--json', 'demo'])).stdout)).toMatchObject({
      architecture: 'qwen3',
    })
  })

  it('shows the machine without one', async () => {
    const { stdout } = await runCli(['info'])
    expect(stdout).toMatch(/MLX +[\d.]+/)
    expect(stdout).toMatch(/used by default/)
    expect(JSON.parse((await runCli(['info', '--json'])).stdout)).toMatchObject({
      version: VERSION,
    })
  })
})

describe('bench', () => {
  it('measures what was asked for', async () => {
    const { code, stdout } = await runCli(['bench', '-p', '16', '-n', '8', '-r', '2', '--json'])
    expect(code).toBe(0)
    const report = JSON.parse(stdout) as {
      promptTokens: number
      rounds: { completionTokens: number }[]
    }
    expect(report.promptTokens).toBe(16)
    expect(report.rounds.map((round) => round.completionTokens)).toEqual([8, 8])
    const text = await runCli(['bench', 'demo', '-p', '16', '-n', '4', '-r', '1'])
    expect(text.stdout).toMatch(/reading +16 tokens +[\d.]+ tokens\/s/)
  })
})

describe('on a terminal', () => {
  let home: string
  beforeAll(() => {
    home = mkdtempSync(join(tmpdir(), 'nodemlx-'))
  })
  afterAll(() => {
    rmSync(home, { recursive: true })
  })
  const terminal = (args: string[], environment = {}) =>
    new Terminal([process.execPath, MAIN, ...args], { HOME: home, ...environment })

  it('colours are used, unless NO_COLOR says otherwise', async () => {
    const colored = terminal(['--help'])
    await colored.exit()
    expect(colored.raw).toContain('\u001B[1m')
    const plain = terminal(['--help'], { NO_COLOR: '1' })
    await plain.exit()
    expect(plain.raw).not.toContain('\u001B')
    const forced = await runCli(['--help'], { environment: { FORCE_COLOR: '1' } })
    expect(forced.stdout).toContain('\u001B[1m')
    expect((await runCli(['--help'])).stdout).not.toContain('\u001B')
  })

  it('Ctrl-C stops an answer with exit code 130, and the shell is left on a new line', async () => {
    const session = terminal(ENDLESS)
    await session.shows('fox')
    session.type(CTRL_C)
    expect(await session.exit()).toBe(130)
    expect(session.text.endsWith('\n')).toBe(true)
  })
})

it('Ctrl-C stops an answer that goes into a pipe with exit code 130', async () => {
  // A second one ends the process at once.
  let pressed = false
  const { code, signal } = await runCli(ENDLESS, {
    onOutput: (_, kill) => {
      if (!pressed) kill('SIGINT')
      pressed = true
    },
  })
  expect({ code, signal }).toEqual({ code: 130, signal: null })
})
