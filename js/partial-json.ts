/** JSON that breaks off, as far as it goes. */
export interface PartialJson {
  /** The JSON of what is certain: without names that have no value yet, and numbers that may go on. */
  json: string
  /** A JSON pointer to the innermost value that is open. */
  at: string
  /** The characters that would close everything that is open. */
  missing: string
}

/** An object or an array that is open. */
interface Frame {
  closer: '}' | ']'
  /** The name or the index of the value that is being written, or is next. */
  key: string | number | undefined
  awaitsName: boolean
}

/**
 * What can be said of the beginning of a JSON text; `undefined` where that is nothing. The text is
 * taken to be the beginning of JSON: it is not checked.
 */
export function partialJson(text: string): PartialJson | undefined {
  const frames: Frame[] = []
  // Up to where the text is certain.
  let end = 0
  let open = ''
  let position = 0
  while (position < text.length) {
    const character = text.charAt(position)
    const frame = frames.at(-1)
    if (character === '"') {
      const after = endOfString(text, position)
      const isName = frame?.awaitsName === true
      if (after === undefined) {
        if (isName) break
        end = endOfCharacters(text, position)
        open = '"'
        break
      }
      if (isName) {
        frame.key = JSON.parse(text.slice(position, after)) as string
        frame.awaitsName = false
      } else end = after
      position = after
    } else if (character === '{' || character === '[') {
      const isObject = character === '{'
      frames.push({
        closer: isObject ? '}' : ']',
        key: isObject ? undefined : 0,
        awaitsName: isObject,
      })
      end = ++position
    } else if (character === '}' || character === ']') {
      frames.pop()
      end = ++position
    } else if (character === ',') {
      position++
      if (frame === undefined) break
      if (typeof frame.key === 'number') frame.key++
      else Object.assign(frame, { key: undefined, awaitsName: true })
    } else if (/[\s:]/.test(character)) {
      position++
    } else {
      const [literal = character] = /^[^\s,\]}]+/.exec(text.slice(position)) ?? []
      position += literal.length
      // A number may go on, and a word may lack letters.
      if (position < text.length) end = position
    }
  }
  if (end === 0) return undefined
  const closers = frames.map(({ closer }) => closer).reverse()
  const missing = open + closers.join('')
  const keys = frames.flatMap(({ key }) => (key === undefined ? [] : [pointerPart(key)]))
  return { json: text.slice(0, end) + missing, at: keys.join(''), missing }
}

/** Behind the quote that ends the string at `start`. */
function endOfString(text: string, start: number): number | undefined {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === '\\') at++
    else if (text[at] === '"') return at + 1
  }
  return undefined
}

/** Where the string at `start`, which is open, has its last whole character behind it. */
function endOfCharacters(text: string, start: number): number {
  let at = start + 1
  while (at < text.length) {
    const length = text[at] !== '\\' ? 1 : text[at + 1] === 'u' ? 6 : 2
    if (at + length > text.length) return at
    at += length
  }
  return at
}

function pointerPart(key: string | number): string {
  return `/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`
}
