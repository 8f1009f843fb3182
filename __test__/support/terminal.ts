import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'

/** Runs a program in a terminal of its own, 80 columns wide, and ends with its exit code. */
const PTY = `
import fcntl, os, pty, struct, sys, termios
def start():
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
pid, terminal = pty.fork()
if pid == 0:
    start()
    os.execvp(sys.argv[1], sys.argv[1:])
import select
sources = [0, terminal]
while terminal in sources:
    for source in select.select(sources, [], [])[0]:
        try:
            data = os.read(source, 65536)
        except OSError:
            data = b""
        if not data:
            sources.remove(source)
        elif source == terminal:
            os.write(1, data)
        else:
            os.write(terminal, data)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
`

/** A program that runs in a terminal: what it shows can be waited for, and keys can be pressed. */
export class Terminal {
  /** Everything that was shown, with escape sequences. */
  raw = ''
  readonly #child: ChildProcessWithoutNullStreams
  readonly #exit: Promise<number | null>
  #seen = 0

  constructor(command: readonly string[], environment: NodeJS.ProcessEnv = {}) {
    const env = {
      ...process.env,
      NO_COLOR: undefined,
      FORCE_COLOR: undefined,
      TERM: 'xterm-256color',
      ...environment,
    }
    this.#child = spawn('python3', ['-c', PTY, ...command], { env })
    this.#child.stdout.setEncoding('utf8')
    this.#child.stdout.on('data', (text: string) => {
      this.raw += text
    })
    this.#exit = new Promise((resolve) => {
      this.#child.on('close', resolve)
    })
  }

  /** What was shown, without colours and movements of the cursor. */
  get text(): string {
    // eslint-disable-next-line no-control-regex -- they are what is taken out
    return this.raw.replaceAll(/\u001B\[[0-9;?]*[A-Za-z]/g, '').replaceAll('\r', '')
  }

  /** Waits until something is shown after what was last waited for. */
  async shows(expected: string | RegExp, timeoutMs = 20_000): Promise<void> {
    const deadline = performance.now() + timeoutMs
    for (;;) {
      const rest = this.text.slice(this.#seen)
      const match = typeof expected === 'string' ? rest.indexOf(expected) : rest.search(expected)
      if (match !== -1) {
        this.#seen +=
          match +
          (typeof expected === 'string' ? expected.length : (expected.exec(rest)?.[0].length ?? 0))
        return
      }
      if (performance.now() > deadline)
        throw new Error(`The terminal does not show ${String(expected)}, but:\n${rest}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  type(text: string): void {
    this.#child.stdin.write(text)
  }

  /** The exit code. */
  exit(): Promise<number | null> {
    return this.#exit
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }
}

export const CTRL_C = '\u0003'
export const CTRL_D = '\u0004'
