import { getSystemErrorMap } from 'node:util'
import type { Generation, GenerationResult } from '../types.js'
import { MarkdownWriter } from './markdown.js'
import { styleFor } from './style.js'

/**
 * The reader of standard output has gone (`nodemlx … | head -1`): there is nobody left to write
 * for, and that is no error.
 */
export class OutputClosed extends Error {}

/** Standard output cannot be written: a full disk, a used-up quota, a terminal that is gone. */
export class OutputFailed extends Error {
  constructor(cause: NodeJS.ErrnoException) {
    super(`standard output cannot be written: ${describe(cause)}`, { cause })
  }
}

/** Why nothing more can be written. */
let ended: OutputClosed | OutputFailed | undefined

/** Standard output reports what goes wrong by an event, and not where something is written. */
export function watchOutput(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    ended ??= error.code === 'EPIPE' ? new OutputClosed() : new OutputFailed(error)
  })
  // Where standard error has gone nobody can be told anything.
  process.stderr.on('error', () => undefined)
}

/** Writes to standard output and waits where its reader is slow, so that the model waits, too. */
export async function write(text: string): Promise<void> {
  throwWhereEnded()
  if (!process.stdout.write(text)) await writable()
  throwWhereEnded()
}

/** Waits until everything was written; throws where it could not be. */
export async function flush(): Promise<void> {
  if (ended === undefined) await new Promise((resolve) => process.stdout.write('', resolve))
  throwWhereEnded()
}

function throwWhereEnded(): void {
  if (ended !== undefined) throw ended
}

/** What the system says of an error, and its name: `no space left on device (ENOSPC)`. */
export function describe({ code, errno, message }: NodeJS.ErrnoException): string {
  const words = errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1]
  return words === undefined ? message : `${words} (${code ?? ''})`
}

/** Waits until standard output takes more, or never will. */
function writable(): Promise<void> {
  return new Promise((resolve) => {
    const events = ['drain', 'error', 'close']
    const done = (): void => {
      for (const event of events) process.stdout.off(event, done)
      resolve()
    }
    for (const event of events) process.stdout.on(event, done)
  })
}

/** How an answer is printed. */
export interface PrintOptions {
  /** Show Markdown on a terminal as what it means. */
  markdown: boolean
}

/**
 * Prints an answer while it is generated, and ends its last line. What the model thinks before it,
 * and the tools that it calls, are shown dimmed where someone looks on, and are no part of the
 * output.
 */
export async function printAnswer(
  generation: Generation,
  { markdown }: PrintOptions,
): Promise<GenerationResult> {
  const { stdout } = process
  const style = styleFor(stdout)
  // Without styles there is nothing that marks could be shown as.
  const isRendered = markdown && stdout.isTTY && style.bold('x') !== 'x'
  const text = isRendered ? new MarkdownWriter(style) : undefined
  let last = '\n'
  const print = async (shown: string): Promise<void> => {
    if (shown === '') return
    last = shown
    await write(shown)
  }
  const endLine = async (): Promise<void> => {
    await print(text?.end() ?? '')
    if (!last.endsWith('\n') && ended === undefined) await print('\n')
  }
  const aside = new Aside()
  try {
    for await (const chunk of generation) {
      if (chunk.type === 'reasoning') aside.show(chunk.text)
      else if (chunk.type === 'tool-call-end') {
        await endLine()
        aside.show(`→ ${chunk.name} ${JSON.stringify(chunk.arguments)}\n`)
      } else if (chunk.type === 'text' && chunk.text !== '') {
        aside.end()
        const shown = stdout.isTTY ? harmless(chunk.text) : chunk.text
        await print(text?.write(shown) ?? shown)
      }
    }
  } finally {
    aside.end()
    // Also where it fails half-way: the error is to stand on a line of its own.
    if (ended === undefined) await endLine()
  }
  return generation
}

/** What is said beside an answer, on standard error. */
class Aside {
  readonly #style = styleFor(process.stderr)
  #last = ''

  show(text: string): void {
    if (!process.stderr.isTTY || text === '') return
    this.#last = text
    process.stderr.write(this.#style.dim(harmless(text)))
  }

  /** The answer goes on below. */
  end(): void {
    if (this.#last !== '') process.stderr.write(this.#last.endsWith('\n') ? '\n' : '\n\n')
    this.#last = ''
  }
}

/**
 * Text of a model must not move the cursor, change colours or name the window: control characters
 * are shown as pictures of themselves.
 */
export function harmless(text: string): string {
  // eslint-disable-next-line no-control-regex -- they are what is looked for
  return text.replaceAll(/[\u0000-\u0008\u000B-\u001F\u007F-\u009F]/g, (character) => {
    const code = character.charCodeAt(0)
    if (code < 0x20) return String.fromCharCode(0x2400 + code)
    return code === 0x7f ? '\u2421' : '\uFFFD'
  })
}
