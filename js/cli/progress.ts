import type { LoadProgress } from '../types.js'
import { bytes } from './format.js'
import { styleFor } from './style.js'

/** Models that load faster than this need no bar. */
const PATIENCE_MS = 150
const WIDTH = 24
const CLEAR_LINE = '\r\u001B[K'

interface Terminal extends NodeJS.WritableStream {
  isTTY?: boolean
  columns?: number
}

/** A bar on a terminal while a model loads; nothing where the output is no terminal. */
export class ProgressBar {
  readonly #output: Terminal
  readonly #label: string
  readonly #start = performance.now()
  #shown = ''

  constructor(label: string, output: Terminal = process.stderr) {
    this.#label = label
    this.#output = output
  }

  update({ stage, loadedBytes, totalBytes }: LoadProgress): void {
    if (this.#output.isTTY !== true || performance.now() - this.#start < PATIENCE_MS) return
    const style = styleFor(this.#output)
    const part = totalBytes > 0 ? Math.min(1, loadedBytes / totalBytes) : 0
    const filled = Math.round(part * WIDTH)
    const room = (this.#output.columns ?? 80) - WIDTH - 36
    const bar = style.cyan('━'.repeat(filled)) + style.dim('━'.repeat(WIDTH - filled))
    const amount = stage === 'weights' ? `${bytes(loadedBytes)} of ${bytes(totalBytes)}` : stage
    const line = `Loading ${shorten(this.#label, room)} ${bar} ${String(Math.floor(part * 100)).padStart(3)} %  ${style.dim(amount)}`
    if (line === this.#shown) return
    this.#shown = line
    this.#output.write(CLEAR_LINE + line)
  }

  /** Takes the bar away. */
  end(): void {
    if (this.#shown !== '') this.#output.write(CLEAR_LINE)
    this.#shown = ''
  }
}

/** The end of a name, which tells more than its beginning. */
function shorten(text: string, length: number): string {
  const most = Math.max(length, 8)
  return text.length <= most ? text : `…${text.slice(1 - most)}`
}
