import type { LoadProgress } from '../types.js'

/** The least time between two reports, in milliseconds. */
const REPORT_EVERY = 100
/** The rate is that of the last seconds. */
const RATE_OVER = 5000

interface FileProgress {
  loaded: number
  total: number
}

/** Counts bytes of a download and reports them, not too often. */
export class DownloadProgress {
  readonly #report: (progress: LoadProgress) => void
  readonly #files = new Map<string, FileProgress>()
  #loaded = 0
  #total = 0
  /** What came over the network, and when it had come. */
  #received = 0
  readonly #samples: { at: number; received: number }[] = []
  #last = 0
  #begun = false

  constructor(report: (progress: LoadProgress) => void) {
    this.#report = report
  }

  /** What came over the network. */
  get received(): number {
    return this.#received
  }

  /** Reports from now on: all files are counted. */
  begin(): void {
    this.#begun = true
    const [first] = this.#files
    if (first !== undefined) this.#tell(...first, performance.now())
  }

  /** Counts a file, of which some bytes are there already. */
  expect(name: string, total: number, loaded = 0): void {
    const before = this.#files.get(name) ?? { loaded: 0, total: 0 }
    this.#files.set(name, { loaded, total })
    this.#total += total - before.total
    this.#loaded += loaded - before.loaded
  }

  /** Bytes of a file that were found on the disk; less than none where they were thrown away. */
  found(name: string, bytes: number): void {
    this.#add(name, bytes)
  }

  /** Bytes of a file that came over the network. */
  arrived(name: string, bytes: number): void {
    this.#received += bytes
    this.#add(name, bytes)
  }

  /** Tells what a file waits for. */
  waits(name: string, reason: string): void {
    const file = this.#files.get(name)
    if (this.#begun && file !== undefined) this.#tell(name, file, performance.now(), reason)
    else this.waitsAtAll(reason)
  }

  /** Tells what the download waits for before files come. */
  waitsAtAll(reason: string): void {
    this.#report({
      stage: 'download',
      loadedBytes: this.#loaded,
      totalBytes: this.#total,
      waiting: reason,
    })
  }

  #add(name: string, bytes: number): void {
    const file = this.#files.get(name)
    if (file === undefined) return
    file.loaded += bytes
    file.total = Math.max(file.total, file.loaded)
    this.#loaded += bytes
    this.#total = Math.max(this.#total, this.#loaded)
    const now = performance.now()
    if (this.#begun && (now - this.#last >= REPORT_EVERY || file.loaded === file.total))
      this.#tell(name, file, now)
  }

  #tell(name: string, file: FileProgress, now: number, waiting?: string): void {
    this.#last = now
    this.#samples.push({ at: now, received: this.#received })
    while (this.#samples.length > 2 && now - (this.#samples[0]?.at ?? now) > RATE_OVER)
      this.#samples.shift()
    const first = this.#samples[0] ?? { at: now, received: 0 }
    const seconds = (now - first.at) / 1000
    const rate = seconds > 0 ? (this.#received - first.received) / seconds : 0
    this.#report({
      stage: 'download',
      loadedBytes: this.#loaded,
      totalBytes: this.#total,
      file: name,
      fileLoadedBytes: file.loaded,
      fileTotalBytes: file.total,
      ...(rate > 0 ? { rate, remainingSeconds: (this.#total - this.#loaded) / rate } : {}),
      ...(waiting === undefined ? {} : { waiting }),
    })
  }
}
