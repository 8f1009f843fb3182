import { fstatSync } from 'node:fs'
import { text } from 'node:stream/consumers'

/** After this long without an end of the input it is said what is waited for. */
const QUIET_MS = 2000

/** How long another program's open connection may stay silent where a prompt was typed. */
const PATIENCE_MS = 1000

/** How standard input takes part in a prompt. */
export interface InputOptions {
  /** A prompt was typed, so nothing need come. */
  typed: boolean
  /** `-` was typed: the input is waited for, whatever it is. */
  asked: boolean
}

/**
 * What is piped or redirected into the program; `undefined` where nothing is.
 *
 * A program that starts this one leaves a connection open on which it may never send anything
 * (Node's `execFile` does, with a socket). Where a prompt was typed such a connection counts only
 * if something comes soon. The pipes of a shell are waited for: the program before this one may
 * take its time.
 */
export async function readInput({ typed, asked }: InputOptions): Promise<string | undefined> {
  const source = sourceOfInput()
  if (!asked && (source === 'terminal' || source === 'nothing')) return undefined
  if (typed && !asked && source === 'socket' && !(await somethingComes())) {
    leaveInput()
    say('nothing came on standard input, so the prompt is answered without it; "-" waits for it')
    return undefined
  }
  const end = source === 'terminal' ? 'Ctrl-D ends it' : '"</dev/null" leaves it out'
  const hint = setTimeout(() => {
    say(`reading standard input to its end; ${end}`)
  }, QUIET_MS)
  try {
    return await text(process.stdin)
  } finally {
    clearTimeout(hint)
  }
}

/** Lets the program end, though its input has not. */
export function leaveInput(): void {
  process.stdin.destroy()
}

/**
 * Says that a chat waits for somebody who is not at a terminal; the function that comes back takes
 * that back.
 */
export function sayWhereQuiet(message: string): () => void {
  if (process.stdin.isTTY) return () => undefined
  const hint = setTimeout(say, QUIET_MS, message)
  hint.unref()
  return () => {
    clearTimeout(hint)
  }
}

function say(message: string): void {
  process.stderr.write(`nodemlx: ${message}\n`)
}

/** Files, pipes and sockets can hold a prompt; /dev/null cannot, and a closed input is none. */
function sourceOfInput(): 'terminal' | 'file' | 'pipe' | 'socket' | 'nothing' {
  if (process.stdin.isTTY) return 'terminal'
  try {
    const stat = fstatSync(0)
    if (stat.isFIFO()) return 'pipe'
    if (stat.isSocket()) return 'socket'
    return stat.isFile() ? 'file' : 'nothing'
  } catch {
    return 'nothing'
  }
}

function somethingComes(): Promise<boolean> {
  const { stdin } = process
  return new Promise((resolve) => {
    // 'close': the program has ended otherwise, and nobody is to be told anything.
    const events = ['readable', 'end', 'error', 'close']
    const came = (): void => {
      done(true)
    }
    const done = (value: boolean): void => {
      clearTimeout(timer)
      for (const event of events) stdin.off(event, came)
      resolve(value)
    }
    const timer = setTimeout(done, PATIENCE_MS, false)
    for (const event of events) stdin.on(event, came)
  })
}
