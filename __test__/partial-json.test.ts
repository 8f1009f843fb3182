// JSON that breaks off anywhere.

import { describe, expect, it } from 'vitest'
import { PartialJson } from '../js/partial-json.js'
import { partialObjects } from '../js/response-format.js'

const DOCUMENT = {
  'a/b~c': 'x "quoted" \\ back\n ünï 👋',
  list: [1, -2.5e3, true, null, 'end', [], {}, [{ deep: false }]],
  '': { empty: '' },
}

function read(text: string): PartialJson {
  const partial = new PartialJson()
  partial.write(text)
  return partial
}

describe('partial JSON', () => {
  it.each([JSON.stringify(DOCUMENT), JSON.stringify(DOCUMENT, undefined, 2)])(
    'has a value at every place of %s',
    (text) => {
      const growing = new PartialJson()
      const before: [unknown, string][] = []
      for (let end = 1; end <= text.length; end++) {
        const last = growing.value
        const changed = growing.write(text.charAt(end - 1))
        const { value, at, missing } = read(text.slice(0, end))
        if (value === undefined) throw new Error(text.slice(0, end))
        expect(isPartOf(value.value, DOCUMENT), JSON.stringify(value)).toBe(true)
        expect(growing.value).toEqual(value)
        expect(changed).toBe(JSON.stringify(value) !== JSON.stringify(last))
        before.push([value.value, JSON.stringify(value.value)])
        if (end === text.length) expect({ at, missing }).toEqual({ missing: '', at: '' })
      }
      expect(growing.value).toEqual({ value: DOCUMENT })
      // What was given once stays as it was.
      for (const [value, json] of before) expect(JSON.stringify(value)).toBe(json)
    },
  )

  it.each([
    ['{"people":[{"name":"An', { people: [{ name: 'An' }] }, '/people/0/name', '"}]}'],
    ['{"a":1,"b', { a: 1 }, '', '}'],
    ['{"a":12', {}, '/a', '}'],
    ['{"a/b":{"c~d":[1,', { 'a/b': { 'c~d': [1] } }, '/a~1b/c~0d/1', ']}}'],
    ['"half \\u00e', 'half ', '', '"'],
    ['"half \\', 'half ', '', '"'],
    ['"\\u00e9\\n\\"\\\\', 'é\n"\\', '', '"'],
    ['[tru', [], '/0', ']'],
    ['{"a":1,"a":2,', { a: 2 }, '', '}'],
  ])('of %s keeps what is certain', (text, value, at, missing) => {
    const partial = read(text)
    expect(partial.value).toEqual({ value })
    expect(partial).toMatchObject({ at, missing })
  })

  it.each(['', '  ', '12', 'tru', '-'])('of %j knows nothing yet', (text) => {
    expect(read(text).value).toBeUndefined()
  })

  it('takes a property of any name for one', () => {
    const partial = read('{"__proto__":{"a":"x"},"constructor":[')
    expect(JSON.stringify(partial.value)).toBe('{"value":{"__proto__":{"a":"x"},"constructor":[]}}')
  })

  it.each([']', '}', ',', '"a"}', '{1:2}', '[}', '{"a"}', ':', '{"a":nope}', '"\\x"', '1 2'])(
    'that is none is no error: %s',
    (text) => {
      expect(() => read(text).value).not.toThrow()
    },
  )

  it('looks at each character once, however long the text is', () => {
    const text = JSON.stringify({ story: 'A fox. '.repeat(60_000), items: Array(2000).fill('x') })
    const next = partialObjects()
    let last: { object: unknown } | undefined
    for (let at = 0; at < text.length; at += 4) last = next(text.slice(at, at + 4)) ?? last
    expect(last?.object).toEqual(JSON.parse(text))
  }, 10_000)
})

/** Whether a value is another one of which parts are missing. */
function isPartOf(part: unknown, whole: unknown): boolean {
  if (typeof part === 'string') return typeof whole === 'string' && whole.startsWith(part)
  if (Array.isArray(part)) {
    return Array.isArray(whole) && part.every((item, index) => isPartOf(item, whole[index]))
  }
  if (typeof part === 'object' && part !== null) {
    const other = whole as Record<string, unknown>
    return Object.entries(part).every(([key, item]) => isPartOf(item, other[key]))
  }
  return part === whole
}
