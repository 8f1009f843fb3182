import type { LoadProgress } from '../types.js'
import { bytes, duration } from './format.js'
import { styleFor } from './style.js'

/** Stages that read no more bytes, and what they are called. */
const WITHOUT_BYTES: Record<string, string> = {
  tokenizer: 'tokenizer',
  kernels: 'compiling kernels',
}
/** What is done faster than this needs no bar. */
const PATIENCE_MS = 150
const WIDTH = 24
/** Where there is no terminal, a download says how far it is this often. */
const LINE_EVERY_MS = 10_000
const CLEAR_LINE = '\r\u001B[K'
const LINE_UP = '\u001B[A'

interface Output extends NodeJS.WritableStream {
  isTTY?: boolean
  columns?: number
}

/**
 * Shows on a terminal how far a model has been downloaded and loaded: a bar, and while files come
 * one more for the current file. Where the output is no terminal, downloads are told in lines and
 * loading is not.
 */
export class ProgressBar {
  readonly #output: Output
  readonly #label: string
  readonly #start = performance.now()
  #shown: string[] = []
  #said = Number.NEGATIVE_INFINITY

  constructor(label: string, output: Output = process.stderr) {
    this.#label = label
    this.#output = output
  }

  update(progress: LoadProgress): void {
    if (this.#output.isTTY === true) {
      if (performance.now() - this.#start >= PATIENCE_MS) this.#show(this.#lines(progress))
    } else if (progress.stage === 'download') {
      this.#say(progress)
    }
  }

  /** Takes the bars away. */
  end(): void {
    this.#show([])
  }

  #lines(progress: LoadProgress): string[] {
    const {
      stage,
      loadedBytes,
      totalBytes,
      file,
      fileLoadedBytes = 0,
      fileTotalBytes = 0,
    } = progress
    if (stage !== 'download') {
      const amount = WITHOUT_BYTES[stage] ?? amountOf(loadedBytes, totalBytes)
      return [
        this.#bar(
          { convert: 'Converting', calibrate: 'Calibrating' }[stage] ?? 'Loading',
          this.#label,
          loadedBytes,
          totalBytes,
          amount,
        ),
      ]
    }
    const amount = [amountOf(loadedBytes, totalBytes), ...state(progress)].join(' · ')
    const whole = this.#bar('Downloading', this.#label, loadedBytes, totalBytes, amount)
    const { waiting } = progress
    const room = (this.#output.columns ?? 80) - 1
    const why = waiting === undefined ? [] : [waiting.slice(0, room)]
    if (file === undefined) return [whole, ...why]
    const ofFile = amountOf(fileLoadedBytes, fileTotalBytes)
    const second = this.#bar('', file, fileLoadedBytes, fileTotalBytes, ofFile)
    return [whole, second, ...why]
  }

  #bar(verb: string, label: string, done: number, total: number, amount: string): string {
    const style = styleFor(this.#output)
    const part = total > 0 ? Math.min(1, done / total) : 0
    const percent = `${String(Math.floor(part * 100)).padStart(3)} %`
    const columns = this.#output.columns ?? 0
    // One column stays free: a line that is full would go on in the next one.
    const room = (columns > 0 ? columns : 80) - verb.length - percent.length - amount.length - 6
    const name = shorten(label, Math.floor(room * 0.6))
    const width = Math.max(0, Math.min(WIDTH, room - name.length))
    const filled = Math.round(part * width)
    const bar = style.cyan('━'.repeat(filled)) + style.dim('━'.repeat(width - filled))
    return `${verb === '' ? '' : `${verb} `}${name} ${bar} ${percent}  ${style.dim(amount)}`
  }

  /** Draws lines over those that are there. */
  #show(lines: string[]): void {
    if (lines.length === this.#shown.length && lines.every((it, at) => it === this.#shown[at]))
      return
    const back =
      this.#shown.length === 0
        ? ''
        : CLEAR_LINE + `${LINE_UP}${CLEAR_LINE}`.repeat(this.#shown.length - 1)
    this.#shown = lines
    this.#output.write(back + lines.join('\n'))
  }

  #say({ loadedBytes, totalBytes, ...progress }: LoadProgress): void {
    const now = performance.now()
    // Where everything is there already nothing is downloaded.
    if (loadedBytes === totalBytes && !Number.isFinite(this.#said)) return
    const ends = loadedBytes === totalBytes && Number.isFinite(this.#said)
    if (now - this.#said < LINE_EVERY_MS && !ends) return
    this.#said = now
    const amount = [
      amountOf(loadedBytes, totalBytes),
      ...speed({ loadedBytes, totalBytes, ...progress }),
    ]
    const { waiting } = progress
    const why = waiting === undefined ? '' : ` · waits: ${waiting}`
    this.#output.write(`Downloading ${this.#label}: ${amount.join(' · ')}${why}\n`)
  }
}

/** How fast it goes, or that nothing does. */
function state(progress: LoadProgress): string[] {
  return progress.waiting === undefined ? speed(progress) : ['waits']
}

function amountOf(done: number, total: number): string {
  return `${bytes(done)} of ${bytes(total)}`
}

function speed({ rate, remainingSeconds }: LoadProgress): string[] {
  if (rate === undefined || remainingSeconds === undefined) return []
  const left = remainingSeconds > 0 ? [`${duration(remainingSeconds * 1000)} left`] : []
  return [`${bytes(rate)}/s`, ...left]
}

/** The end of a name, which tells more than its beginning. */
function shorten(text: string, length: number): string {
  const most = Math.max(length, 8)
  return text.length <= most ? text : `…${text.slice(1 - most)}`
}
