// The command line between programs: an input that never ends, and outputs that cannot be written.

import { spawn } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { readHistory, writeHistory } from '../js/cli/history.js'
import { ROOT, runProgram } from './support/child.js'

const FRANCE = ['-t', '0', '--no-stats', 'What is the capital of France?']
const MAIN = join(ROOT, 'dist', 'cli', 'main.js')

interface Streams {
  stdin?: 'pipe' | 'ignore'
  stdout?: 'pipe' | number
  stderr?: 'pipe' | number
  /**
   * Called with what writes to the program's input, and with what comes once the program has said
   * that it waits for that.
   */
  feed?: (write: (text: string) => void, end: () => void, waits: Promise<void>) => void
  /** The program is killed once it has written this to standard error. */
  until?: RegExp
}

/** Runs the command line; its standard input stays open, as with Node's `execFile`. */
function run(
  args: string[],
  { stdin = 'pipe', stdout = 'pipe', stderr = 'pipe', feed, until }: Streams = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [MAIN, ...args], {
      stdio: [stdin, stdout, stderr],
      env: { ...process.env, NO_COLOR: undefined, FORCE_COLOR: undefined, DEBUG: undefined },
    })
    const texts = { stdout: '', stderr: '' }
    let waits = (): void => undefined
    const waiting = new Promise<void>((resolve) => (waits = resolve))
    child.stdout?.on('data', (text: Buffer) => (texts.stdout += text.toString()))
    child.stderr?.on('data', (text: Buffer) => {
      texts.stderr += text.toString()
      if (until?.test(texts.stderr) === true) child.kill('SIGKILL')
      if (texts.stderr.includes('reading standard input')) waits()
    })
    const timer = setTimeout(() => child.kill('SIGKILL'), 50_000)
    feed?.(
      (text) => child.stdin?.write(text),
      () => child.stdin?.end(),
      waiting,
    )
    child.on('close', (code) => {
      clearTimeout(timer)
      resolve({ code, ...texts })
    })
  })
}

describe('an input that stays open', () => {
  it('is not waited for where a prompt was typed, and that is said', async () => {
    const { code, stdout, stderr } = await run(FRANCE)
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'The capital of France is Paris.\n' })
    expect(stderr).toMatch(/^nodemlx: nothing came on standard input.*"-" waits for it\n$/)
  })

  it('is read to its end once something has come', async () => {
    const { code, stdout, stderr } = await run(['--json', '-n', '1', 'One'], {
      feed: (write, end, waits) => {
        write('two ')
        void waits.then(() => {
          write('three')
          end()
        })
      },
    })
    expect(code).toBe(0)
    expect(stderr).toMatch(/^nodemlx: reading standard input to its end[^\n]*\n$/)
    const { stdout: typed } = await run(['--json', '-n', '1', 'One\n\ntwo three'], {
      stdin: 'ignore',
    })
    const tokens = (json: string) =>
      (JSON.parse(json) as { usage: { promptTokens: number } }).usage.promptTokens
    expect(tokens(stdout)).toBe(tokens(typed))
  })

  it.each([
    ['-', ['-t', '0', '--no-stats', '-'], '"</dev/null" leaves it out'],
    ['no prompt', ['-t', '0', '--no-stats'], '"</dev/null" leaves it out'],
  ])('is waited for with %s, and that is said', async (_, args, says) => {
    const { code, stdout, stderr } = await run(args, {
      feed: (write, end, waits) => {
        void waits.then(() => {
          write('What is the capital of France?')
          end()
        })
      },
    })
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'The capital of France is Paris.\n' })
    expect(stderr).toContain(says)
  })

  it('of a chat is waited for, and that is said', async () => {
    const { stderr } = await run(['chat'], { until: /standard input/ })
    expect(stderr).toContain('reading messages from standard input')
  })

  it('of a shell is waited for: the program before takes its time', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'nodemlx-'))
    const said = join(folder, 'said')
    // It takes until the program behind it has said that it waits, or half a minute.
    const hint = `grep -q "reading standard input" "${said}"`
    const before = `for _ in $(seq 300); do ${hint} && break; sleep 0.1; done; echo "What is 2 + 2?"`
    const program = `"${process.execPath}" "${MAIN}" -t 0 --no-stats --stop zzz "Answer:"`
    const command = `(${before}) | ${program} 2>"${said}" | cat`
    const { stdout } = await runProgram('sh', ['-c', command])
    const stderr = readFileSync(said, 'utf8')
    rmSync(folder, { recursive: true })
    expect(stdout).not.toBe('')
    expect(stderr).toContain('reading standard input')
  })

  it('goes with a prompt only', async () => {
    const { code, stderr } = await run(['info', '-'], { stdin: 'ignore' })
    expect(code).toBe(2)
    expect(stderr).toContain('- does not go with "nodemlx info"')
  })

  it('is a word like others after --', async () => {
    const { code } = await run(['-n', '1', '--no-stats', '--', '-'], { stdin: 'ignore' })
    expect(code).toBe(0)
  })
})

describe.runIf(existsSync('/dev/full'))('a full disk', () => {
  let full: number
  beforeAll(() => {
    full = openSync('/dev/full', 'w')
  })
  afterAll(() => {
    closeSync(full)
  })

  it.each([
    [FRANCE],
    [['--json', ...FRANCE]],
    [['--help']],
    [['--version']],
    [['info']],
    [['info', '--json', 'demo']],
    [['bench', '-p', '4', '-n', '2', '-r', '1']],
  ])('under standard output is one line with exit code 1: %j', async (args) => {
    expect(await run(args, { stdin: 'ignore', stdout: full })).toEqual({
      code: 1,
      stdout: '',
      stderr: 'nodemlx: standard output cannot be written: no space left on device (ENOSPC)\n',
    })
  })

  it('under the output of a chat ends it with exit code 1', async () => {
    const { code, stderr } = await run(['chat', '--no-stats'], {
      stdout: full,
      feed: (write, end) => {
        write('Hi\nHi\n')
        end()
      },
    })
    expect(code).toBe(1)
    expect(stderr).toMatch(/^nodemlx: standard output cannot be written: [^\n]+\n$/)
  })

  it('under standard error stops nothing', async () => {
    const { code, stdout } = await run(FRANCE, { stdin: 'ignore', stderr: full })
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'The capital of France is Paris.\n' })
    expect((await run(['-x'], { stdin: 'ignore', stderr: full })).code).toBe(2)
  })
})

describe('the history', () => {
  let folder: string
  let file: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'nodemlx-'))
    file = join(folder, 'history')
    vi.stubEnv('NODEMLX_HISTORY', file)
  })
  afterEach(() => {
    vi.unstubAllEnvs()
    rmSync(folder, { recursive: true })
  })

  it('is kept with the newest last', () => {
    writeHistory(['two', 'one'])
    expect(readFileSync(file, 'utf8')).toBe('one\ntwo\n')
    expect(readHistory()).toEqual(['two', 'one'])
  })

  it('loses nothing where it cannot be written', () => {
    writeFileSync(file, 'one\n')
    // The new file would be beside the old one, where there is a folder of that name.
    vi.stubEnv('NODEMLX_HISTORY', join(file, 'below-a-file'))
    expect(() => {
      writeHistory(['two', 'one'])
    }).toThrow()
    expect(readFileSync(file, 'utf8')).toBe('one\n')
  })

  it.runIf(existsSync('/dev/full'))('on a device stays that device', () => {
    vi.stubEnv('NODEMLX_HISTORY', '/dev/full')
    expect(() => {
      writeHistory(['one'])
    }).toThrow(/ENOSPC/)
    expect(existsSync('/dev/full')).toBe(true)
  })
})
