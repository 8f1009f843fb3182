import { createInterface, type Interface } from 'node:readline'
import { Writable } from 'node:stream'
import { Interrupted } from './errors.js'
import { describe } from './output.js'

/** Opens and closes a message of several lines. */
const FENCE = '"""'

export interface LineInputOptions {
  prompt: string
  /** Lines of earlier sessions, the newest first. */
  history: string[]
  onHistory: (lines: string[]) => void
  complete: (line: string) => [string[], string]
  /** Tells the user something. */
  note: (text: string) => void
}

/** Reads messages from a terminal, with editing and history, or from a pipe, line by line. */
export class LineInput {
  /** Called on Ctrl-C while nothing is being read. */
  onInterrupt: (() => void) | undefined

  readonly #options: LineInputOptions
  readonly #output: TerminalOutput | undefined
  readonly #lines: string[] = []
  readonly #reader: Interface
  #ended = false
  #interrupted = false
  #failure: Error | undefined
  #wake: (() => void) | undefined
  /** Ctrl-C was pressed at an empty prompt, and nothing was typed since. */
  #leaving = false

  constructor(options: LineInputOptions) {
    this.#options = options
    if (process.stdin.isTTY) {
      this.#output = new TerminalOutput()
      this.#reader = createInterface({
        input: process.stdin,
        output: this.#output,
        terminal: true,
        history: options.history,
        historySize: 1000,
        removeHistoryDuplicates: true,
        completer: options.complete,
        prompt: options.prompt,
      })
      this.#reader.on('history', options.onHistory)
      this.#reader.on('SIGINT', () => {
        this.#pressedInterrupt()
      })
    } else {
      this.#reader = createInterface({ input: process.stdin })
      process.on('SIGINT', this.#onSignal)
    }
    this.#reader.on('line', (line) => {
      this.#lines.push(line)
      this.#wake?.()
    })
    this.#reader.on('error', (error: NodeJS.ErrnoException) => {
      this.#failure = new Error(`standard input cannot be read: ${describe(error)}`)
      this.#wake?.()
    })
    this.#reader.on('close', () => {
      this.#ended = true
      this.#wake?.()
    })
  }

  /** The next message; `undefined` where the input ends. */
  async read(): Promise<string | undefined> {
    this.#output?.show()
    try {
      let line = await this.#line(this.#options.prompt)
      if (line === undefined) return undefined
      if (line.startsWith(FENCE)) return await this.#fenced(line.slice(FENCE.length))
      while (line.endsWith('\\')) {
        const next = await this.#line('… ')
        if (next === undefined) break
        line = `${line.slice(0, -1)}\n${next}`
      }
      return line
    } finally {
      this.#output?.hide()
    }
  }

  close(): void {
    process.off('SIGINT', this.#onSignal)
    this.#output?.show()
    this.#reader.close()
    this.#output?.end()
  }

  async #fenced(first: string): Promise<string> {
    const lines = [first]
    while (!lines.at(-1)?.endsWith(FENCE)) {
      const next = await this.#line('… ')
      if (next === undefined) return lines.join('\n').trim()
      lines.push(next)
    }
    return lines.join('\n').slice(0, -FENCE.length).trim()
  }

  async #line(prompt: string): Promise<string | undefined> {
    if (this.#output !== undefined) {
      this.#reader.setPrompt(prompt)
      // What was typed meanwhile is kept.
      if (this.#lines.length === 0 && !this.#ended) this.#reader.prompt(true)
    }
    for (;;) {
      if (this.#interrupted) throw new Interrupted()
      if (this.#failure !== undefined) throw this.#failure
      const line = this.#lines.shift()
      if (line !== undefined) {
        this.#leaving = false
        return line
      }
      if (this.#ended) return undefined
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }

  /**
   * Without a terminal Ctrl-C ends the program, after the answer that is being printed was told to
   * stop.
   */
  readonly #onSignal = (): void => {
    if (this.#wake === undefined) this.onInterrupt?.()
    this.#stop()
  }

  #pressedInterrupt(): void {
    if (this.#wake === undefined) {
      this.onInterrupt?.()
    } else if (this.#reader.line !== '') {
      this.#leaving = false
      this.#reader.write(null, { ctrl: true, name: 'e' })
      this.#reader.write(null, { ctrl: true, name: 'u' })
    } else if (this.#leaving) {
      process.stdout.write('\n')
      this.#stop()
    } else {
      this.#leaving = true
      process.stdout.write('\n')
      this.#options.note('Ctrl-C once more leaves, as does Ctrl-D.')
      this.#reader.prompt()
    }
  }

  #stop(): void {
    this.#interrupted = true
    this.#wake?.()
  }
}

/**
 * The terminal as the line editor sees it: while an answer is printed, what is typed is kept but
 * not shown in the middle of it.
 */
class TerminalOutput extends Writable {
  readonly isTTY = true
  #hidden = true
  readonly #onResize = (): void => {
    this.emit('resize')
  }

  constructor() {
    super({ decodeStrings: false })
    process.stdout.on('resize', this.#onResize)
  }

  get columns(): number {
    return process.stdout.columns
  }

  show(): void {
    this.#hidden = false
  }

  hide(): void {
    this.#hidden = true
  }

  override _write(text: string, _encoding: BufferEncoding, done: () => void): void {
    if (!this.#hidden) process.stdout.write(text)
    done()
  }

  override _final(done: () => void): void {
    process.stdout.off('resize', this.#onResize)
    done()
  }
}
