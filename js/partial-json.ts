/** An object or an array that is open. */
interface Frame {
  value: Record<string, unknown> | unknown[]
  /** The name or the index of the value that is being written, or is next. */
  key: string | number | undefined
  awaitsName: boolean
}

/** A string, a number or a word that is open. */
interface Scalar {
  /** Whether it is a string, in which `text` is what it says, and otherwise what is written. */
  isString: boolean
  text: string
  /** An escape that is not complete. */
  escape: string
}

/**
 * JSON that is being written, and its value as far as that is certain: without names that have no
 * value yet, and numbers and words that may go on. The text is taken to be the beginning of JSON: it
 * is not checked. Each character is looked at once.
 */
export class PartialJson {
  readonly #frames: Frame[] = []
  #scalar: Scalar | undefined
  #root: { value: unknown } | undefined
  #changed = false

  /** Takes what comes next; says whether the value has changed. */
  write(text: string): boolean {
    this.#changed = false
    for (let at = 0; at < text.length; at++) this.#take(text.charAt(at))
    return this.#changed
  }

  /**
   * The value so far; `undefined` where nothing is certain yet. It does not change any more: what is
   * open is a copy, and what is complete is shared by all values to come.
   */
  get value(): { value: unknown } | undefined {
    const scalar = this.#scalar
    const isText = scalar?.isString === true && this.#frames.at(-1)?.awaitsName !== true
    let open = isText ? { value: scalar.text as unknown } : undefined
    for (const { value, key } of this.#frames.toReversed()) {
      const copy = Array.isArray(value) ? [...value] : { ...value }
      if (open !== undefined && key !== undefined) set(copy, key, open.value)
      open = { value: copy }
    }
    return open ?? this.#root
  }

  /** A JSON pointer to the innermost value that is open. */
  get at(): string {
    const keys = this.#frames.flatMap(({ key }) => (key === undefined ? [] : [pointerPart(key)]))
    return keys.join('')
  }

  /** The characters that would close everything that is open. */
  get missing(): string {
    const isText = this.#scalar?.isString === true && this.#frames.at(-1)?.awaitsName !== true
    const closers = this.#frames.map(({ value }) => (Array.isArray(value) ? ']' : '}')).reverse()
    return (isText ? '"' : '') + closers.join('')
  }

  #take(character: string): void {
    const scalar = this.#scalar
    if (scalar?.isString === true) {
      this.#inString(scalar, character)
      return
    }
    if (scalar !== undefined) {
      if (!/[\s,\]}]/.test(character)) {
        scalar.text += character
        return
      }
      this.#scalar = undefined
      this.#complete(parsed(scalar.text))
    }
    this.#between(character)
  }

  #between(character: string): void {
    const frame = this.#frames.at(-1)
    if (character === '"') {
      this.#scalar = { isString: true, text: '', escape: '' }
      if (frame?.awaitsName !== true) this.#changed = true
    } else if (character === '{') {
      this.#open({ value: {}, key: undefined, awaitsName: true })
    } else if (character === '[') {
      this.#open({ value: [], key: 0, awaitsName: false })
    } else if (character === '}' || character === ']') {
      this.#frames.pop()
      if (frame !== undefined) this.#complete(frame.value)
    } else if (character === ',') {
      if (frame === undefined) return
      if (typeof frame.key === 'number') frame.key++
      else Object.assign(frame, { key: undefined, awaitsName: true })
    } else if (!/[\s:]/.test(character)) {
      this.#scalar = { isString: false, text: character, escape: '' }
    }
  }

  #open(frame: Frame): void {
    this.#frames.push(frame)
    this.#changed = true
  }

  #inString(scalar: Scalar, character: string): void {
    const frame = this.#frames.at(-1)
    if (scalar.escape === '' && character === '"') {
      this.#scalar = undefined
      if (frame?.awaitsName === true) Object.assign(frame, { key: scalar.text, awaitsName: false })
      else this.#complete(scalar.text)
      return
    }
    let more = character
    if (scalar.escape !== '' || character === '\\') {
      scalar.escape += character
      if (!/^\\(u.{4}|[^u])$/s.test(scalar.escape)) return
      more = String(parsed(`"${scalar.escape}"`))
      scalar.escape = ''
    }
    scalar.text += more
    if (frame?.awaitsName !== true) this.#changed = true
  }

  /** Puts a value where it belongs. */
  #complete(value: unknown): void {
    const frame = this.#frames.at(-1)
    // What is not a string or a container was not there before.
    if (typeof value !== 'string' && (typeof value !== 'object' || value === null))
      this.#changed = true
    if (frame === undefined) this.#root = { value }
    else if (frame.key !== undefined) set(frame.value, frame.key, value)
  }
}

function set(container: Record<string, unknown> | unknown[], key: string | number, value: unknown) {
  // As JSON does it, which makes `__proto__` a property like any other.
  Object.defineProperty(container, key, {
    value,
    configurable: true,
    enumerable: true,
    writable: true,
  })
}

/** What JSON says; what is none is left as it is written. */
function parsed(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return json
  }
}

function pointerPart(key: string | number): string {
  return `/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`
}
