// Markdown as models write it, as a tree: the common part of CommonMark and GitHub's tables, task
// lists and strike-outs. HTML is text. What is not closed yet, because it is still being written,
// is taken for closed where that is likely (code), and for text otherwise.

/** A piece of a line. */
export type Inline =
  | { type: 'text'; text: string }
  | { type: 'code'; text: string }
  | { type: 'break' }
  | { type: 'strong' | 'emphasis' | 'strike'; children: Inline[] }
  | { type: 'link'; href: string; children: Inline[] }

export type Align = 'left' | 'center' | 'right' | undefined

/** A block of a text. */
export type Block =
  | { type: 'paragraph'; children: Inline[] }
  | { type: 'heading'; level: number; children: Inline[] }
  | { type: 'code'; language: string; text: string; closed: boolean }
  | { type: 'quote'; children: Block[] }
  | { type: 'list'; start: number | undefined; items: ListItem[] }
  | { type: 'table'; align: Align[]; head: Inline[][]; rows: Inline[][][] }
  | { type: 'rule' }

export interface ListItem {
  /** Of a task list: whether it is done. */
  checked: boolean | undefined
  children: Block[]
}

/** Lists and quotes in each other beyond this are text. */
const DEEPEST = 12

/** Rows are filled up to the width of a table's head; one that is wider than this is text. */
const MOST_COLUMNS = 100

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/
const HEADING = /^ {0,3}(#{1,6})(?:\s+(.*?))?(?:\s+#+)?\s*$/
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(\s+|$)(.*)$/
const QUOTE = /^ {0,3}> ?(.*)$/
const TABLE_RULE = /^ {0,3}\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/

/** The blocks of a text, each with the lines that it was made of. */
export function parseBlocks(text: string): { block: Block; source: string }[] {
  const lines = text.replaceAll('\r\n', '\n').split('\n')
  return new BlockReader(lines, 0).read()
}

class BlockReader {
  readonly #lines: readonly string[]
  readonly #depth: number
  /** For each line, the first from it on that is not empty: gaps may be as long as the text. */
  readonly #filled: number[]
  #at = 0

  constructor(lines: readonly string[], depth: number) {
    this.#lines = lines
    this.#depth = depth
    this.#filled = Array.from(lines, (_, index) => index)
    for (let at = lines.length - 2; at >= 0; at--)
      if (lines[at]?.trim() === '') this.#filled[at] = this.#filled[at + 1] ?? at
  }

  read(): { block: Block; source: string }[] {
    const blocks: { block: Block; source: string }[] = []
    while (this.#at < this.#lines.length) {
      const start = this.#at
      const block = this.#next()
      if (block !== undefined)
        blocks.push({ block, source: this.#lines.slice(start, this.#at).join('\n') })
    }
    return blocks
  }

  #line(offset = 0): string {
    return this.#lines[this.#at + offset] ?? ''
  }

  #next(): Block | undefined {
    const line = this.#line()
    if (line.trim() === '') {
      this.#at++
      return undefined
    }
    const fence = FENCE.exec(line)
    if (fence !== null) return this.#code(fence[1] ?? '', fence[2] ?? '')
    const heading = HEADING.exec(line)
    if (heading !== null) {
      this.#at++
      const [, marks = '', title = ''] = heading
      return { type: 'heading', level: marks.length, children: parseInline(title) }
    }
    if (RULE.test(line)) {
      this.#at++
      return { type: 'rule' }
    }
    if (this.#depth < DEEPEST) {
      if (QUOTE.test(line)) return this.#quote()
      if (ITEM.test(line)) return this.#list()
    }
    if (line.includes('|') && TABLE_RULE.test(this.#line(1))) {
      const table = this.#table()
      if (table !== undefined) return table
    }
    return this.#paragraph()
  }

  #code(fence: string, info: string): Block {
    const indent = /^ */.exec(this.#line())?.[0].length ?? 0
    const [language = ''] = info.trim().split(/\s+/)
    const end = new RegExp(`^ {0,3}${fence[0] ?? ''}{${fence.length},}\\s*$`)
    const text: string[] = []
    this.#at++
    for (; this.#at < this.#lines.length; this.#at++) {
      if (end.test(this.#line())) {
        this.#at++
        return { type: 'code', language, text: text.join('\n'), closed: true }
      }
      text.push(this.#line().replace(new RegExp(`^ {0,${indent}}`), ''))
    }
    return { type: 'code', language, text: text.join('\n'), closed: false }
  }

  #quote(): Block {
    const inner: string[] = []
    for (; this.#at < this.#lines.length; this.#at++) {
      const found = QUOTE.exec(this.#line())
      const isLazy = found === null && this.#line().trim() !== '' && !this.#interrupts()
      if (found === null && !isLazy) break
      inner.push(found?.[1] ?? this.#line())
    }
    return { type: 'quote', children: this.#inside(inner) }
  }

  #list(): Block {
    const [, , mark = ''] = ITEM.exec(this.#line()) ?? []
    const kind = mark.at(-1)
    const ordered = kind === '.' || kind === ')'
    const items: ListItem[] = []
    while (this.#at < this.#lines.length) {
      const found = ITEM.exec(this.#line())
      if (found === null || found[2]?.at(-1) !== kind || RULE.test(this.#line())) break
      items.push(this.#item(found))
    }
    return { type: 'list', start: ordered ? Number.parseInt(mark, 10) : undefined, items }
  }

  #item([, lead = '', mark = '', space = '', rest = '']: RegExpExecArray): ListItem {
    const wide = space.length === 0 || space.length > 4 ? 1 : space.length
    const indent = lead.length + mark.length + wide
    const inner = [rest]
    this.#at++
    for (; this.#at < this.#lines.length; this.#at++) {
      const line = this.#line()
      const own = /^ */.exec(line)?.[0].length ?? 0
      if (line.trim() === '') {
        // A gap belongs to the item where something of it follows.
        const next = this.#lines[this.#filled[this.#at] ?? this.#at] ?? ''
        if (next.trim() === '' || (/^ */.exec(next)?.[0].length ?? 0) < indent) break
        inner.push('')
      } else if (own >= indent) {
        inner.push(line.slice(indent))
      } else if (own >= 2 && ITEM.test(line.trimStart()) && own > lead.length) {
        // Models often indent by two where the marker takes three.
        inner.push(line.slice(own))
      } else if (inner.at(-1) !== '' && !this.#interrupts() && !ITEM.test(line)) {
        inner.push(line.trimStart())
      } else {
        break
      }
    }
    // Gaps between items make no paragraphs here.
    while (this.#at < this.#lines.length && this.#line().trim() === '') {
      const next = this.#line(1)
      this.#at++
      if (!ITEM.test(next)) break
    }
    const [, box, task] = /^\[([ xX])\]\s+(.*)$/s.exec(inner[0] ?? '') ?? []
    if (task !== undefined) inner[0] = task
    const checked = box === undefined ? undefined : box !== ' '
    return { checked, children: this.#inside(inner) }
  }

  #table(): Block | undefined {
    const head = cells(this.#line())
    const align = cells(this.#line(1)).map(alignOf)
    if (head.length !== align.length || head.length > MOST_COLUMNS) return undefined
    this.#at += 2
    const rows: Inline[][][] = []
    for (; this.#at < this.#lines.length; this.#at++) {
      const line = this.#line()
      if (line.trim() === '' || !line.includes('|')) break
      const own = cells(line)
      rows.push(head.map((_, column) => parseInline(own[column] ?? '')))
    }
    return { type: 'table', align, head: head.map(parseInline), rows }
  }

  #paragraph(): Block {
    const lines = [this.#line()]
    this.#at++
    for (; this.#at < this.#lines.length; this.#at++) {
      const line = this.#line()
      if (line.trim() === '' || this.#interrupts()) break
      if (line.includes('|') && TABLE_RULE.test(this.#line(1))) break
      lines.push(line)
    }
    // Two spaces at the end of a line break it.
    const text = lines.map((line) => line.trimStart()).join('\n')
    return { type: 'paragraph', children: parseInline(text.trimEnd()) }
  }

  /** Whether the line begins a block of its own, also right below a paragraph. */
  #interrupts(): boolean {
    const line = this.#line()
    return (
      FENCE.test(line) ||
      HEADING.test(line) ||
      RULE.test(line) ||
      QUOTE.test(line) ||
      /^ {0,3}(?:[-*+]|1[.)])\s+\S/.test(line)
    )
  }

  #inside(lines: readonly string[]): Block[] {
    return new BlockReader(lines, this.#depth + 1).read().map(({ block }) => block)
  }
}

function cells(line: string): string[] {
  const inner = line
    .trim()
    .replace(/^\|/, '')
    .replace(/(?<!\\)\|$/, '')
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll(String.raw`\|`, '|'))
}

function alignOf(rule: string): Align {
  const [left, right] = [rule.startsWith(':'), rule.endsWith(':')]
  if (left && right) return 'center'
  return right ? 'right' : left ? 'left' : undefined
}

/** Emphasis in emphasis beyond this is text. */
const DEEPEST_INLINE = 8

const SPECIAL = /[\\`*_~[!<\n]|https?:\/\//g

/** The pieces of a line. */
export function parseInline(text: string, depth = 0): Inline[] {
  return new InlineReader(text, depth).read()
}

interface Special {
  piece?: Inline
  text?: string
  end: number
}

/**
 * Reads a text once: what was looked for behind one mark and is not there is not looked for behind
 * the next one of its kind, so that many marks which are never closed take no longer than others.
 */
class InlineReader {
  readonly #text: string
  readonly #depth: number
  /** Marks of emphasis that nothing closes any more. */
  readonly #unclosed = new Set<string>()
  #codeEnds: Map<number, number> | undefined
  #brackets: Map<number, number> | undefined

  constructor(text: string, depth: number) {
    this.#text = text
    this.#depth = depth
  }

  read(): Inline[] {
    const text = this.#text
    const pieces: Inline[] = []
    let plain = ''
    const flush = (): void => {
      if (plain !== '') pieces.push({ type: 'text', text: plain })
      plain = ''
    }
    let at = 0
    while (at < text.length) {
      SPECIAL.lastIndex = at
      const found = SPECIAL.exec(text)
      if (found === null) break
      plain += text.slice(at, found.index)
      at = found.index
      const special = this.#special(at)
      if (special === undefined) {
        plain += text[at] ?? ''
        at++
        continue
      }
      if (special.piece === undefined) {
        plain += special.text ?? ''
      } else {
        if (special.piece.type === 'break') plain = plain.replace(/ +$/, '')
        flush()
        pieces.push(special.piece)
      }
      at = special.end
    }
    plain += text.slice(at)
    flush()
    return pieces
  }

  #special(at: number): Special | undefined {
    const text = this.#text
    switch (text[at] ?? '') {
      case '\\':
        return escaped(text, at)
      case '`':
        return this.#codeSpan(at)
      case '\n':
        // Models mean what they write; others join lines.
        return { piece: { type: 'break' }, end: at + 1 }
      case '<':
        return autolink(text, at)
      case 'h':
        return bareLink(text, at)
      case '!':
        return text[at + 1] === '[' ? this.#link(at + 1) : undefined
      case '[':
        return this.#link(at)
      default:
        return this.#depth < DEEPEST_INLINE ? this.#emphasis(at) : undefined
    }
  }

  #codeSpan(at: number): Special {
    const from = at + runLength(this.#text, at, '`')
    const end = this.#codeEnd(at)
    if (end === undefined) return { text: this.#text.slice(at, from), end: from }
    const inner = this.#text.slice(from, end - (from - at)).replaceAll('\n', ' ')
    const isPadded = inner.startsWith(' ') && inner.endsWith(' ') && inner.trim() !== ''
    const code = isPadded ? inner.slice(1, -1) : inner
    return { piece: { type: 'code', text: code }, end }
  }

  /** Where the code ends that backticks open: behind the next ones that are as many. */
  #codeEnd(at: number): number | undefined {
    this.#codeEnds ??= codeEnds(this.#text)
    return this.#codeEnds.get(at)
  }

  #link(at: number): Special | undefined {
    const text = this.#text
    this.#brackets ??= brackets(text)
    const close = this.#brackets.get(at)
    if (close === undefined || text[close + 1] !== '(') return undefined
    const target =
      /^\(\s*(?:<([^<>\n]*)>|([^\s()]*(?:\([^\s()]*\)[^\s()]*)*))(?:\s+"[^"\n]*")?\s*\)/
    const found = target.exec(text.slice(close + 1, close + 4000))
    if (found === null) return undefined
    const href = safeHref(found[1] ?? found[2] ?? '')
    const label = text.slice(at + 1, close)
    const end = close + 1 + found[0].length
    const children: Inline[] =
      this.#depth < DEEPEST_INLINE
        ? withoutLinks(parseInline(label, this.#depth + 1))
        : [{ type: 'text', text: label }]
    // A target that may not be followed leaves the text.
    if (href === undefined) return { piece: { type: 'emphasis', children }, end }
    if (children.length === 0) children.push({ type: 'text', text: href })
    return { piece: { type: 'link', href, children }, end }
  }

  #emphasis(at: number): Special | undefined {
    const text = this.#text
    const mark = text[at] ?? ''
    const run = runLength(text, at, mark)
    const skipped = { text: text.slice(at, at + run), end: at + run }
    if (mark === '~') return run === 2 ? this.#between(at, '~~', 'strike') : skipped
    if (run >= 3) {
      const inner = this.#between(at, mark.repeat(3), 'strong')
      if (inner?.piece?.type === 'strong') {
        const children: Inline[] = [{ type: 'emphasis', children: inner.piece.children }]
        return { piece: { type: 'strong', children }, end: inner.end }
      }
    }
    const strong = run >= 2 ? this.#between(at, mark.repeat(2), 'strong') : undefined
    return strong ?? this.#between(at, mark, 'emphasis') ?? skipped
  }

  /** What a pair of markers is around, by the rules of flanking, simplified. */
  #between(at: number, marks: string, type: 'strong' | 'emphasis' | 'strike'): Special | undefined {
    const text = this.#text
    const mark = marks[0] ?? ''
    const from = at + marks.length
    if (/\s/.test(text[from] ?? ' ') || this.#unclosed.has(marks)) return undefined
    // In the middle of a word _ is a letter.
    if (mark === '_' && /\w/.test(text[at - 1] ?? ' ')) return undefined
    for (let i = from; i < text.length; i++) {
      if (text[i] === '\\') i++
      else if (text[i] === '`') i = (this.#codeEnd(i) ?? i + runLength(text, i, '`')) - 1
      else if (text[i] === mark) {
        const run = runLength(text, i, mark)
        const fits = run === marks.length || (run > marks.length && run !== 2)
        const closes = !/\s/.test(text[i - 1] ?? ' ') && i > from
        const inWord = mark === '_' && /\w/.test(text[i + run] ?? ' ')
        if (fits && closes && !inWord) {
          const end = i + run
          const children = parseInline(text.slice(from, end - marks.length), this.#depth + 1)
          return { piece: { type, children }, end }
        }
        i += run - 1
      }
    }
    this.#unclosed.add(marks)
    return undefined
  }
}

/** For each run of backticks that opens code, where that ends. */
function codeEnds(text: string): Map<number, number> {
  const runs = [...text.matchAll(/`+/g)].map(({ 0: { length }, index }) => ({ length, index }))
  const ends = new Map<number, number>()
  const next = new Map<number, number>()
  for (const { length, index } of runs.reverse()) {
    // The first of them may be escaped.
    for (const from of [index, index + 1]) {
      const end = next.get(index + length - from)
      if (end !== undefined) ends.set(from, end)
    }
    next.set(length, index + length)
  }
  return ends
}

/** For each bracket that opens, the one that closes it. */
function brackets(text: string): Map<number, number> {
  const pairs = new Map<number, number>()
  const open: number[] = []
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '\\') at++
    else if (text[at] === '[') open.push(at)
    else if (text[at] === ']') {
      const start = open.pop()
      if (start !== undefined) pairs.set(start, at)
    }
  }
  return pairs
}

function escaped(text: string, at: number): Special | undefined {
  const next = text[at + 1]
  if (next === undefined || !/[!-/:-@[-`{-~]/.test(next)) return undefined
  return { text: next, end: at + 2 }
}

function autolink(text: string, at: number): Special | undefined {
  const found = /^<((?:https?:\/\/|mailto:)[^\s<>]+)>/.exec(text.slice(at, at + 2000))
  const href = found?.[1] === undefined ? undefined : safeHref(found[1])
  if (found === null || href === undefined) return undefined
  const children: Inline[] = [{ type: 'text', text: found[1] ?? '' }]
  return { piece: { type: 'link', href, children }, end: at + found[0].length }
}

function bareLink(text: string, at: number): Special | undefined {
  if (at > 0 && /\w/.test(text[at - 1] ?? '')) return undefined
  const [all = ''] = /^https?:\/\/[^\s<>"'`*]+/.exec(text.slice(at, at + 2000)) ?? []
  let url = all.replace(/[.,;:!?]+$/, '')
  // A bracket that was not opened in the address closes what is around it.
  if (url.endsWith(')') && !url.includes('(')) url = url.replace(/\)+$/, '')
  const href = safeHref(url)
  if (href === undefined) return undefined
  const children: Inline[] = [{ type: 'text', text: url }]
  return { piece: { type: 'link', href, children }, end: at + url.length }
}

function withoutLinks(pieces: readonly Inline[]): Inline[] {
  return pieces.flatMap((piece) => (piece.type === 'link' ? piece.children : [piece]))
}

/** An address that a click may lead to: a page's or a mail's, and nothing that runs. */
export function safeHref(href: string): string | undefined {
  try {
    const url = new URL(href)
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : undefined
  } catch {
    return undefined
  }
}

function runLength(text: string, at: number, mark: string): number {
  let end = at
  while (text[end] === mark) end++
  return end - at
}
