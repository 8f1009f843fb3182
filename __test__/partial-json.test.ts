// JSON that breaks off anywhere.

import { describe, expect, it } from 'vitest'
import { partialJson } from '../js/partial-json.js'

const DOCUMENT = {
  'a/b~c': 'x "quoted" \\ back\n ünï 👋',
  list: [1, -2.5e3, true, null, 'end', [], {}, [{ deep: false }]],
  '': { empty: '' },
}

describe('partialJson', () => {
  it.each([JSON.stringify(DOCUMENT), JSON.stringify(DOCUMENT, undefined, 2)])(
    'closes every beginning of %s',
    (text) => {
      for (let end = 1; end <= text.length; end++) {
        const partial = partialJson(text.slice(0, end))
        if (partial === undefined) throw new Error(text.slice(0, end))
        const value: unknown = JSON.parse(partial.json)
        expect(isPartOf(value, DOCUMENT), partial.json).toBe(true)
        if (end === text.length) expect(partial).toMatchObject({ missing: '', at: '' })
      }
      expect(JSON.parse(partialJson(text)?.json ?? '')).toEqual(DOCUMENT)
    },
  )

  it.each([
    ['{"people":[{"name":"An', '{"people":[{"name":"An"}]}', '/people/0/name', '"}]}'],
    ['{"a":1,"b', '{"a":1}', '', '}'],
    ['{"a":12', '{}', '/a', '}'],
    ['{"a/b":{"c~d":[1,', '{"a/b":{"c~d":[1]}}', '/a~1b/c~0d/1', ']}}'],
    ['"half \\u00e', '"half "', '', '"'],
    ['"half \\', '"half "', '', '"'],
    ['[tru', '[]', '/0', ']'],
  ])('of %s keeps what is certain', (text, json, at, missing) => {
    expect(partialJson(text)).toEqual({ json, at, missing })
  })

  it.each(['', '  ', '12', 'tru', '-'])('of %j knows nothing yet', (text) => {
    expect(partialJson(text)).toBeUndefined()
  })
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
