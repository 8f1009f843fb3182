// Child processes, and the one kind of error that is shown to the person without a stack.

import { spawn, spawnSync } from 'node:child_process'

/** Something the person has to know or do. `advice` says exactly what to type. */
export class Problem extends Error {
  constructor(message, advice = []) {
    super(message)
    this.name = 'Problem'
    this.advice = [advice].flat()
  }
}

/** Prints a problem, or any other error with its stack, and leaves with status 1. */
export function fail(error) {
  if (error instanceof Problem) {
    process.stderr.write(`\n${error.message}\n`)
    for (const line of error.advice) process.stderr.write(`  ${line}\n`)
  } else {
    process.stderr.write(`\n${error?.stack ?? error}\n`)
  }
  process.exit(1)
}

/** What npm, pip and cargo print when they reach nobody. */
const NETWORK =
  /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|resolve host|name resolution|Failed to establish a new connection|spurious network error|network failure|timed out/i

function networkAdvice(output) {
  return NETWORK.test(output)
    ? ['Is this machine online? Run the same command again; what is done already is kept.']
    : []
}

/** What a short command prints, or undefined where it is missing or fails. */
export function probe(command, args, options = {}) {
  const { status, stdout } = spawnSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    ...options,
  })
  return status === 0 ? stdout.trim() : undefined
}

/**
 * Runs a command without showing its output; rejects with what it printed when it fails.
 * Resolves to the standard output.
 */
export function run(command, args, { cwd, env, what = command } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stdout = ''
    let all = ''
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text
      all += text
    })
    child.stderr.setEncoding('utf8').on('data', (text) => {
      all += text
    })
    child.on('error', (error) => reject(new Problem(`${what}: ${error.message}`)))
    child.on('close', (status, signal) => {
      if (status === 0) return resolve(stdout)
      const tail = all.trimEnd().split('\n').slice(-30).join('\n')
      reject(
        new Problem(
          `${what} failed (${signal ?? `status ${status}`}):\n${tail}`,
          networkAdvice(tail),
        ),
      )
    })
  })
}

/** Runs a command in the foreground, with the terminal; throws where it fails. */
export function foreground(command, args, { cwd, env, what = `${command} ${args[0]}` } = {}) {
  const { status, signal, error } = spawnSync(command, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: 'inherit',
  })
  if (error) throw new Problem(`${what}: ${error.message}`)
  if (status !== 0) throw new Problem(`${what} failed (${signal ?? `status ${status}`}).`)
}

/**
 * Runs two commands at the same time: the first in the foreground, the second with its output held
 * back until the first has ended. Resolves when both have; rejects where either fails.
 */
export async function sideBySide(first, second) {
  const start = ({ command, args, cwd, env }, stdio) =>
    spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio })
  const ended = (child, what) =>
    new Promise((resolve) => {
      child.on('error', (error) => resolve(`${what}: ${error.message}`))
      child.on('close', (status, signal) =>
        resolve(status === 0 ? undefined : `${what} failed (${signal ?? `status ${status}`}).`),
      )
    })
  const behind = start(second, ['ignore', 'pipe', 'pipe'])
  let held = []
  const show = (chunk) => (held === undefined ? process.stdout.write(chunk) : held.push(chunk))
  behind.stdout.on('data', show)
  behind.stderr.on('data', show)
  const both = [
    ended(start(first, 'inherit'), first.what).then((failure) => {
      for (const chunk of held) process.stdout.write(chunk)
      held = undefined
      return failure
    }),
    ended(behind, second.what),
  ]
  const failures = (await Promise.all(both)).filter((failure) => failure !== undefined)
  if (failures.length > 0) throw new Problem(failures.join('\n'))
}
