/**
 * A pattern that was asked for, with something around it. Its flags may be within, which not every
 * version of Node.js reads.
 */
export function patternWith(before: string, pattern: string, behind: string): RegExp {
  const [, flags = '', source = pattern] = /^\(\?([is]+):(.*)\)$/s.exec(pattern) ?? []
  return new RegExp(`${before}(?:${source})${behind}`, `u${flags}`)
}
