import { createInterface, type Interface, type Key } from 'node:readline'
import { Writable } from 'node:stream'
import type { Completion } from './completion.js'
import { Interrupted } from './errors.js'
import { describe } from './output.js'

/** Opens and closes a message of several lines. */
const FENCE = '"""'

/** Has the terminal tell what is pasted from what is typed, or no longer. */
const PASTES = { tell: '\u001B[?2004h', hide: '\u001B[?2004l' }

export interface LineInputOptions {
  prompt: string
  /** Lines of earlier sessions, the newest first. */
  history: string[]
  onHistory: (lines: string[]) => void
  complete: (line: string) => Promise<Completion>
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
  /** Lines of a message that goes on. */
  readonly #begun: string[] = []
  /** The line that ends next is not the last of its message. */
  #goesOn = false
  #pasting = false
  readonly #reader: Interface
  #ended = false
  #interrupted = false
  #failure: Error | undefined
  #wake: (() => void) | undefined
  /** Ctrl-C was pressed at an empty prompt, and nothing was typed since. */
  #leaving = false
  /** Lines of the message that is being read were taken, and more belong to it. */
  #isOpen = false
  /** That message is wanted no more. */
  #isGivenUp = false

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
        completer: (line: string, done: (error: null, completion: Completion) => void) => {
          void options.complete(line).then((completion) => {
            done(null, completion)
          })
        },
        prompt: options.prompt,
      })
      this.#reader.on('history', options.onHistory)
      process.stdin.on('keypress', this.#onKey)
      this.#reader.on('SIGINT', () => {
        this.#pressedInterrupt()
      })
    } else {
      this.#reader = createInterface({ input: process.stdin })
      process.on('SIGINT', this.#onSignal)
    }
    this.#reader.on('line', (line) => {
      if (this.#goesOn) {
        this.#begun.push(line)
        this.#goesOn = this.#pasting
        this.#reader.setPrompt('… ')
        this.#reader.prompt()
        return
      }
      this.#lines.push([...this.#begun.splice(0), line].join('\n'))
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
      for (;;) {
        const message = await this.#message()
        if (!this.#isGivenUp) return message
        this.#isGivenUp = false
      }
    } finally {
      this.#output?.hide()
    }
  }

  /** A message, or what there is of it where it was given up. */
  async #message(): Promise<string | undefined> {
    let line = await this.#line(this.#options.prompt)
    if (line === undefined) return undefined
    try {
      this.#isOpen = true
      if (line.startsWith(FENCE)) return await this.#fenced(line.slice(FENCE.length))
      while (line.endsWith('\\')) {
        const next = await this.#line('… ')
        if (next === undefined) break
        line = `${line.slice(0, -1)}\n${next}`
      }
      return line
    } finally {
      this.#isOpen = false
    }
  }

  close(): void {
    process.off('SIGINT', this.#onSignal)
    process.stdin.off('keypress', this.#onKey)
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
      if (this.#ended || this.#isGivenUp) return undefined
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }

  /** Pasted lines stay together until Enter is pressed; Alt-Enter ends a line, and no message. */
  readonly #onKey = (_: string | undefined, { name, meta }: Key): void => {
    if (name === 'paste-start' || name === 'paste-end') {
      this.#pasting = name === 'paste-start'
      this.#goesOn = this.#pasting
    } else if (name === 'return' && meta === true) {
      this.#goesOn = true
      this.#reader.write(null, { name: 'return' })
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
    } else if (this.#reader.line !== '' || this.#begun.length > 0 || this.#isOpen) {
      this.#leaving = false
      this.#reader.write(null, { ctrl: true, name: 'e' })
      this.#reader.write(null, { ctrl: true, name: 'u' })
      const hasBegun = this.#begun.splice(0).length > 0
      if (this.#isOpen) {
        process.stdout.write('\n')
        this.#isGivenUp = true
        this.#wake()
        return
      }
      if (!hasBegun) return
      process.stdout.write('\n')
      this.#reader.setPrompt(this.#options.prompt)
      this.#reader.prompt()
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
    if (this.#hidden) process.stdout.write(PASTES.tell)
    this.#hidden = false
  }

  hide(): void {
    if (!this.#hidden) process.stdout.write(PASTES.hide)
    this.#hidden = true
  }

  override _write(text: string, _encoding: BufferEncoding, done: () => void): void {
    if (!this.#hidden) process.stdout.write(text)
    done()
  }

  override _final(done: () => void): void {
    process.stdout.off('resize', this.#onResize)
    this.hide()
    done()
  }
}
