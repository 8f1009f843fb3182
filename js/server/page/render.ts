import { element } from './elements.js'
import { parseBlocks, type Block, type Inline } from './markdown.js'

/**
 * Shows a text that grows as Markdown: blocks that have not changed keep their elements, so that a
 * selection in them, and their scrolling, stays.
 */
export class MarkdownView {
  readonly element = element('div', { class: 'markdown' })
  #sources: string[] = []

  show(text: string): void {
    const blocks = parseBlocks(text)
    const same = blocks.findIndex(({ source }, index) => source !== this.#sources[index])
    const from = same === -1 ? blocks.length : same
    while (this.element.children.length > from) this.element.lastElementChild?.remove()
    for (const { block } of blocks.slice(from)) this.element.append(blockElement(block))
    this.#sources = blocks.map(({ source }) => source)
  }
}

function blockElement(block: Block): HTMLElement {
  switch (block.type) {
    case 'paragraph':
      return element('p', {}, ...inline(block.children))
    case 'heading': {
      // The page has headings of its own above.
      const level = Math.min(block.level + 2, 6) as 3 | 4 | 5 | 6
      return element(`h${level}`, {}, ...inline(block.children))
    }
    case 'code':
      return codeElement(block.language, block.text)
    case 'quote':
      return element('blockquote', {}, ...block.children.map(blockElement))
    case 'list':
      return listElement(block)
    case 'table':
      return tableElement(block)
    case 'rule':
      return element('hr')
  }
}

function listElement({ start, items }: Extract<Block, { type: 'list' }>): HTMLElement {
  const entries = items.map(({ checked, children }) => {
    const [first, ...rest] = children
    // A single paragraph needs no distance of its own.
    const tight =
      first?.type === 'paragraph'
        ? [...inline(first.children), ...rest.map(blockElement)]
        : children.map(blockElement)
    if (checked === undefined) return element('li', {}, ...tight)
    const box = element('input', { type: 'checkbox', disabled: true, checked })
    return element('li', { class: 'task' }, box, ' ', ...tight)
  })
  if (start === undefined) return element('ul', {}, ...entries)
  return element('ol', start === 1 ? {} : { start }, ...entries)
}

function tableElement({ align, head, rows }: Extract<Block, { type: 'table' }>): HTMLElement {
  const cell = (tag: 'th' | 'td', children: readonly Inline[], column: number): HTMLElement => {
    const side = align[column]
    return element(tag, side === undefined ? {} : { class: `align-${side}` }, ...inline(children))
  }
  const table = element(
    'table',
    {},
    element('thead', {}, element('tr', {}, ...head.map((c, i) => cell('th', c, i)))),
    element(
      'tbody',
      {},
      ...rows.map((row) => element('tr', {}, ...row.map((c, i) => cell('td', c, i)))),
    ),
  )
  // It can be wider than the page, and is scrolled by the keyboard, too.
  return element(
    'div',
    { class: 'table', tabindex: 0, role: 'region', 'aria-label': 'Table' },
    table,
  )
}

function codeElement(language: string, text: string): HTMLElement {
  const label = language === '' ? 'Code' : language
  const copy = copyButton(() => text, `Copy the ${label}`)
  return element(
    'div',
    { class: 'code' },
    element('div', { class: 'code-bar' }, element('span', {}, language), copy),
    element('pre', { tabindex: 0, 'aria-label': label }, element('code', {}, text)),
  )
}

/** The clipboard's own interface is there in secure contexts only: not over plain HTTP. */
async function copy(text: string): Promise<void> {
  const clipboard = navigator.clipboard as Clipboard | undefined
  if (clipboard !== undefined) {
    await clipboard.writeText(text)
    return
  }
  const before = document.activeElement
  const field = element('textarea', { class: 'copied', 'aria-hidden': 'true', readonly: '' })
  field.value = text
  // Inside of an open dialog nothing outside of it can be selected.
  const place = document.querySelector('dialog[open]') ?? document.body
  place.append(field)
  field.select()
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- there is no other way
  const isCopied = document.execCommand('copy')
  field.remove()
  if (before instanceof HTMLElement) before.focus()
  if (!isCopied) throw new Error('the browser does not copy')
}

/** A button that copies a text, and says so. */
export function copyButton(text: () => string, label: string): HTMLButtonElement {
  const button = element('button', { type: 'button', class: 'quiet', 'aria-label': label }, 'Copy')
  button.addEventListener('click', () => {
    const said = (word: string): void => {
      button.textContent = word
      setTimeout(() => (button.textContent = 'Copy'), 1500)
    }
    copy(text()).then(
      () => {
        said('Copied')
      },
      () => {
        said('Not allowed')
      },
    )
  })
  return button
}

function inline(pieces: readonly Inline[]): (Node | string)[] {
  return pieces.map((piece) => {
    switch (piece.type) {
      case 'text':
        return piece.text
      case 'code':
        return element('code', {}, piece.text)
      case 'break':
        return element('br')
      case 'strong':
        return element('strong', {}, ...inline(piece.children))
      case 'emphasis':
        return element('em', {}, ...inline(piece.children))
      case 'strike':
        return element('s', {}, ...inline(piece.children))
      case 'link': {
        const { href } = piece
        const properties = { href, target: '_blank', rel: 'noopener noreferrer', title: href }
        return element('a', properties, ...inline(piece.children))
      }
    }
  })
}
