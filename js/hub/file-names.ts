/** Names that Windows keeps for devices, with any extension. */
const RESERVED = /^(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|$)/i

/** The longest name of a file on the usual file systems, in bytes. */
const LONGEST = 255

/**
 * Why a file of this name must not be written, or `undefined` where it may: names come from a
 * server, become paths, and are to mean the same file inside the snapshot on every system.
 */
export function unsafeName(name: string): string | undefined {
  if (name === '') return 'is empty'
  // eslint-disable-next-line no-control-regex -- they are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(name)) return 'has a control character'
  if (/\p{Surrogate}/u.test(name)) return 'is not well-formed text'
  if (/[\\:*?"<>|]/.test(name)) return 'has a character that some systems give a meaning'
  if (name.startsWith('/')) return 'is an absolute path'
  for (const part of name.split('/')) {
    if (part === '' || part === '.' || part === '..') return 'leads to another folder'
    if (/[. ]$/.test(part)) return 'has a part that ends in a dot or a space'
    if (RESERVED.test(part)) return 'is the name of a device'
    if (Buffer.byteLength(part) > LONGEST) return 'is too long'
  }
  return undefined
}

/** Two of these names that are one file on systems which ignore case or compose characters. */
export function colliding(names: readonly string[]): [string, string] | undefined {
  const seen = new Map<string, string>()
  for (const name of names) {
    const key = name.normalize('NFC').toLowerCase()
    const other = seen.get(key)
    if (other !== undefined && other !== name) return [other, name]
    seen.set(key, name)
  }
  return undefined
}
