// Progress of several tasks at once: one live line on a terminal, plain lines elsewhere.

/** Tasks quicker than this are not worth a line. */
const QUIET_MS = 400

export class Progress {
  #out
  #live
  #tasks = new Map()
  #timer
  #title

  constructor(title, out = process.stderr) {
    this.#title = title
    this.#out = out
    this.#live = out.isTTY === true && process.env.TERM !== 'dumb'
  }

  /** Runs `work(report)` as a named task; `report(text)` says how far it is. */
  async task(name, work) {
    const task = { name, text: '', start: performance.now(), shown: false }
    this.#tasks.set(name, task)
    this.#arm()
    try {
      const value = await work((text) => {
        task.text = text
      })
      const ms = performance.now() - task.start
      if (ms >= QUIET_MS) this.#line(`  ${name}: done in ${(ms / 1000).toFixed(1)} s`)
      return value
    } catch (error) {
      this.#line(`  ${name}: failed`)
      throw error
    } finally {
      this.#tasks.delete(name)
      if (this.#tasks.size === 0) this.#disarm()
    }
  }

  #arm() {
    this.#timer ??= setInterval(() => this.#tick(), this.#live ? 120 : QUIET_MS).unref()
  }

  #disarm() {
    clearInterval(this.#timer)
    this.#timer = undefined
    if (this.#live) this.#out.write('\r\x1b[K')
  }

  #line(text) {
    if (this.#live) this.#out.write('\r\x1b[K')
    if (this.#title) this.#out.write(`${this.#title}\n`)
    this.#title = undefined
    if (text !== undefined) this.#out.write(`${text}\n`)
  }

  #tick() {
    const now = performance.now()
    const slow = [...this.#tasks.values()].filter((task) => now - task.start >= QUIET_MS)
    if (!this.#live) {
      for (const task of slow) {
        if (!task.shown) this.#line(`  ${task.name} …`)
        task.shown = true
      }
      return
    }
    if (slow.length === 0) return
    this.#line()
    const parts = slow.map((task) => {
      const seconds = Math.floor((now - task.start) / 1000)
      return `${task.name}${task.text ? ` ${task.text}` : ''} ${seconds} s`
    })
    const width = (this.#out.columns || 80) - 1
    this.#out.write(`\r\x1b[K${`  ${parts.join(' · ')}`.slice(0, width)}`)
  }
}
