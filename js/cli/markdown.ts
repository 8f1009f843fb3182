import type { Style } from './style.js'

/**
 * The longest text between two marks, so that a mark which none follows holds back no more than
 * this of what comes; and how many marks make one.
 */
const LONGEST = { text: 200, marks: 9 }

/** Marks around a text: how it opens, what it holds, and how it closes. */
const SPANS = [
  span('code', '(?<!`)(`+)(?!`)', '.', '(?<!`)\\1(?!`)'),
  span('strong', '(?<!\\*)(\\*\\*)(?=[^\\s*])', '.', '(?<=\\S)\\*\\*(?!\\*)'),
  span('strong', '(?<!\\w)(__)(?=[^\\s_])', '.', '(?<=\\S)__(?!\\w)'),
  span('emphasis', '(?<![\\w*])(\\*)(?=[^\\s*])', '[^*]', '(?<=\\S)\\*(?![\\w*])'),
  span('emphasis', '(?<!\\w)(_)(?=[^\\s_])', '[^_]', '(?<=\\S)_(?!\\w)'),
] as const

function span(style: 'code' | 'strong' | 'emphasis', opening: string, held: string, end: string) {
  const whole = new RegExp(`${opening}(${held}{1,${LONGEST.text}}?)${end}`, 'y')
  return { style, opening: new RegExp(opening, 'y'), whole }
}

/** A character before which a backslash is dropped; others are left, as in formulas. */
const ESCAPED = /\\([`*_#])/y

/** What stands at the beginning of a line, and all that may still become it. */
const BLOCK = {
  fence: /^ {0,3}(`{3,}|~{3,})/,
  heading: /^ {0,3}#{1,6} +/,
  bullet: /^( *)[-*+] +/,
  quote: /^ {0,3}> ?/,
  rule: /^ {0,3}([-*_])( *\1){2,} *$/,
  undecided: /^ *(#{1,6} *|[-*_][-*_ ]*|\+ *|`+|~+|> ?)?$/,
}

/**
 * Markdown for a terminal, as it is written: bold, emphasis, code, headings, lists, quotes and
 * rules. Text is held back until it is clear what it is, and what turns out to be no mark is shown
 * as it is, so that nothing gets lost. What is shown does not depend on how the text is cut.
 */
export class MarkdownWriter {
  readonly #style: Style
  /** What was not shown yet of the line. */
  #rest = ''
  /** The last that was shown of the line: marks look back at it. */
  #before = ''
  #block: 'unknown' | 'text' | 'heading' | 'fence' | 'code' = 'unknown'
  /** The marks that end the block of code. */
  #fence: string | undefined

  constructor(style: Style) {
    this.#style = style
  }

  /** What can be shown once `text` has come. */
  write(text: string): string {
    const lines = text.split('\n')
    const last = lines.pop() ?? ''
    const shown = lines.map((line) => `${this.#take(line, true)}\n`)
    return shown.join('') + this.#take(last, false)
  }

  /** What was held back, at the end of the text. */
  end(): string {
    return this.#rest === '' ? '' : this.#take('', true)
  }

  #take(text: string, isComplete: boolean): string {
    this.#rest += text
    let shown = this.#block === 'unknown' ? this.#begin(isComplete) : ''
    if (this.#block === 'fence' || this.#block === 'code') {
      const { dim, cyan } = this.#style
      shown += (this.#block === 'fence' ? dim : cyan)(this.#rest)
      this.#rest = ''
    } else if (this.#block !== 'unknown') shown += this.#inline(isComplete)
    if (isComplete) {
      this.#block = 'unknown'
      this.#before = ''
    }
    return shown
  }

  /** Finds out what kind of line it is, as soon as that is certain; shows what stands for it. */
  #begin(isComplete: boolean): string {
    const line = this.#rest
    const { dim } = this.#style
    const [, marks] = BLOCK.fence.exec(line) ?? []
    if (this.#fence !== undefined) {
      const isEnd = marks?.startsWith(this.#fence) === true && line.trim() === marks
      if (!isComplete && (isEnd || /^ *(`*|~*)$/.test(line))) return ''
      this.#block = isEnd ? 'fence' : 'code'
      if (isEnd) this.#fence = undefined
      return ''
    }
    if (!isComplete && (BLOCK.undecided.test(line) || marks !== undefined)) return ''
    if (
      marks !== undefined &&
      !(marks.startsWith('`') && line.trim().slice(marks.length).includes('`'))
    ) {
      this.#fence = marks
      this.#block = 'fence'
      return ''
    }
    if (isComplete && BLOCK.rule.test(line)) {
      this.#rest = ''
      return dim('─'.repeat(40))
    }
    for (const [kind, shown] of [
      ['heading', () => ''],
      ['bullet', (indent = '') => `${indent}• `],
      ['quote', () => dim('│ ')],
    ] as const) {
      const match = BLOCK[kind].exec(line)
      if (match === null) continue
      this.#block = kind === 'heading' ? kind : 'text'
      this.#rest = line.slice(match[0].length)
      return shown(match[1])
    }
    this.#block = 'text'
    return ''
  }

  #inline(isComplete: boolean): string {
    const { bold, italic, cyan } = this.#style
    const plain = (text: string): string => text
    const [outer, strong] = this.#block === 'heading' ? [bold, plain] : [plain, bold]
    const line = this.#before + this.#rest
    const [shown, end] = inline(line, this.#before.length, isComplete, {
      code: cyan,
      strong,
      emphasis: italic,
    })
    this.#before = line.slice(0, end).slice(-1)
    this.#rest = line.slice(end)
    return outer(shown)
  }
}

type SpanStyles = Record<'code' | 'strong' | 'emphasis', (text: string) => string>

/**
 * The marks of a line from a place on; with the place up to which it is certain what is shown: the
 * end where the line is complete.
 */
function inline(
  line: string,
  start: number,
  isComplete: boolean,
  styles: SpanStyles,
): [string, number] {
  let shown = ''
  let at = start
  while (at < line.length) {
    const mark = line.slice(at).search(/[`*_\\]/)
    if (mark !== 0) {
      const end = mark === -1 ? line.length : at + mark
      shown += line.slice(at, end)
      at = end
      continue
    }
    const marks = line[at] === '\\' ? 1 : runAt(line, at)
    // The next character says what they are.
    if (!isComplete && at + marks === line.length && marks <= LONGEST.marks) break
    const escaped = matchAt(ESCAPED, line, at)
    const found = marks > LONGEST.marks ? undefined : spanAt(line, at)
    if (found?.match !== undefined) {
      const [all, , text = ''] = found.match
      // What follows the closing marks may say that they are others.
      if (!isComplete && at + all.length === line.length) break
      shown += styles[found.style](found.style === 'code' ? text : inline(text, 0, true, styles)[0])
      at += all.length
    } else {
      const isFar = line.length - at > LONGEST.text + 2 * marks
      if (found !== undefined && !isComplete && !isFar) break
      shown += escaped?.[1] ?? line.slice(at, at + marks)
      at += escaped?.[0].length ?? marks
    }
  }
  return [shown, at]
}

/** What opens at a place, and the whole of it where it is closed. */
function spanAt(line: string, at: number) {
  for (const { style, opening, whole } of SPANS) {
    if (matchAt(opening, line, at) !== undefined) return { style, match: matchAt(whole, line, at) }
  }
  return undefined
}

/** How many of the same marks stand at a place. */
function runAt(line: string, at: number): number {
  let count = 1
  while (line[at + count] === line[at]) count++
  return count
}

function matchAt(pattern: RegExp, text: string, at: number): RegExpExecArray | undefined {
  pattern.lastIndex = at
  return pattern.exec(text) ?? undefined
}
