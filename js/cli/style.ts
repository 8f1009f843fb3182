/** Colours for a stream; plain text where the stream does not want any. */
export type Style = Readonly<
  Record<'bold' | 'dim' | 'italic' | 'red' | 'cyan', (text: string) => string>
>

interface Output {
  isTTY?: boolean | undefined
}

/**
 * Colours only on a terminal, unless FORCE_COLOR or NO_COLOR says otherwise (in this order, as
 * Node.js has it).
 */
export function styleFor(stream: Output, environment: NodeJS.ProcessEnv = process.env): Style {
  return wantsColor(stream, environment) ? COLORED : PLAIN
}

function wantsColor(stream: Output, environment: NodeJS.ProcessEnv): boolean {
  const { FORCE_COLOR: force, NO_COLOR: no, TERM: terminal } = environment
  if (force !== undefined) return force !== '0' && force !== 'false'
  if (no !== undefined && no !== '') return false
  return stream.isTTY === true && terminal !== 'dumb'
}

const code =
  (on: number, off: number) =>
  (text: string): string =>
    text === '' ? '' : `\u001B[${on}m${text}\u001B[${off}m`

const COLORED: Style = {
  bold: code(1, 22),
  dim: code(2, 22),
  italic: code(3, 23),
  red: code(31, 39),
  cyan: code(36, 39),
}

const plain = (text: string): string => text
const PLAIN: Style = { bold: plain, dim: plain, italic: plain, red: plain, cyan: plain }
