import { spawn } from 'node:child_process'
import { join } from 'node:path'

/** The project's folder. */
export const ROOT = join(__dirname, '..', '..')

/** What a program did. */
export interface Outcome {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export interface ChildOptions {
  /** What is piped into it; without that its standard input is empty. */
  input?: string
  environment?: NodeJS.ProcessEnv
  cwd?: string
  timeoutMs?: number
  /** Called once the program runs. */
  onStarted?: (kill: (signal: NodeJS.Signals) => void) => void
  /** Called with each piece of standard output, to react to it. */
  onOutput?: (text: string, kill: (signal: NodeJS.Signals) => void) => void
}

/** Runs a program to its end; one that does not end is killed, and its signal says so. */
export function runProgram(
  command: string,
  args: readonly string[],
  {
    input,
    environment = {},
    cwd = ROOT,
    timeoutMs = 100_000,
    onStarted,
    onOutput,
  }: ChildOptions = {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, ...environment }
    // What the test runner sets for itself is not for the programs under test.
    for (const name of ['NO_COLOR', 'FORCE_COLOR', 'NODE_OPTIONS', 'DEBUG']) {
      if (!(name in environment)) env[name] = undefined
    }
    const child = spawn(command, args, { cwd, env })
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
    onStarted?.((signal) => child.kill(signal))
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
      onOutput?.(text, (signal) => child.kill(signal))
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    // A program that ends without reading its input is none of our concern.
    child.stdin.on('error', () => undefined)
    child.stdin.end(input)
    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      resolve({ code, signal, stdout, stderr })
    })
  })
}

/** Runs the text of an ES module that imports the package by its name. */
export function runModule(
  source: string,
  options: ChildOptions & { flags?: string[] } = {},
): Promise<Outcome> {
  const flags = [...(options.flags ?? []), '--input-type=module', '--eval', source]
  return runProgram(process.execPath, flags, options)
}

/** Runs the command line. */
export function runCli(args: readonly string[], options: ChildOptions = {}): Promise<Outcome> {
  return runProgram(process.execPath, [join(ROOT, 'dist', 'cli', 'main.js'), ...args], options)
}
