// Markdown as a terminal shows it.

import { describe, expect, it } from 'vitest'
import { MarkdownWriter } from '../js/cli/markdown.js'
import type { Style } from '../js/cli/style.js'

const mark =
  (name: string) =>
  (text: string): string =>
    text === '' ? '' : `<${name}>${text}</${name}>`
const STYLE: Style = {
  bold: mark('b'),
  dim: mark('d'),
  italic: mark('i'),
  red: mark('r'),
  cyan: mark('c'),
}

/** What is shown of a text that comes in pieces; neighbours of one style are one. */
function shown(...pieces: string[]): string {
  const writer = new MarkdownWriter(STYLE)
  const all = pieces.map((piece) => writer.write(piece)).join('') + writer.end()
  return all.replaceAll(/<\/([bdirc])><\1>/g, '')
}

describe('Markdown on a terminal', () => {
  it.each([
    ['plain text', 'plain text'],
    ['**bold** and *not* so', '<b>bold</b> and <i>not</i> so'],
    ['__bold__ and _not_ so', '<b>bold</b> and <i>not</i> so'],
    ['**bold with `code`**', '<b>bold with <c>code</c></b>'],
    ['`a*b*c` and ``a`b``', '<c>a*b*c</c> and <c>a`b</c>'],
    ['# A **big** `title`', '<b>A big <c>title</c></b>'],
    ['- one\n  * two\n1. three', '• one\n  • two\n1. three'],
    ['- **one**: 1', '• <b>one</b>: 1'],
    ['> said', '<d>│ </d>said'],
    ['***\n---', `<d>${'─'.repeat(40)}</d>\n<d>${'─'.repeat(40)}</d>`],
    ['```js\na **b** # c\n```\n**d**', '<d>```js</d>\n<c>a **b** # c</c>\n<d>```</d>\n<b>d</b>'],
    ['~~~\n```\n~~~\nx', '<d>~~~</d>\n<c>```</c>\n<d>~~~</d>\nx'],
    ['````\n```\n````', '<d>````</d>\n<c>```</c>\n<d>````</d>'],
    ['\\*no\\* \\(x\\) \\frac', '*no* \\(x\\) \\frac'],
  ])('%j', (text, expected) => {
    expect(shown(text)).toBe(expected)
  })

  it.each([
    '2 * 3 * 4',
    '2*3*4',
    'a ** b',
    'snake_case_name and __init',
    '*args, **kwargs',
    '`open',
    '**open\nnext** line',
    '#hashtag',
    '-1 or +1',
    '***both***',
    '$\\alpha_1 * \\beta$',
    'a $x_{1}$ b',
    `*${'long '.repeat(60)}*`,
    `a ${'`'.repeat(40)}`,
    '| a | b |\n|---|---|',
    '   ',
    '\n\n',
  ])('has nothing in %j', (text) => {
    expect(shown(text)).toBe(text)
  })

  it('is the same however the text is cut, and holds back little', () => {
    const text =
      '# Title with *stars*\n\nSome **bold** text, `code`, snake_case, 2 * 3 and **open.\n' +
      `- item _one_\n* * *\n\`\`\`js\nconst a = \`x\` // **no**\n\`\`\` not the end\n\`\`\`\n` +
      `> quote **b**\n\\*x\\* ${'`'.repeat(12)}a${'*'.repeat(12)}b** *${'y '.repeat(150)} end*\n***`
    const whole = shown(text)
    for (let size = 1; size < 40; size++) {
      const pieces = text.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? []
      expect(shown(...pieces), `in pieces of ${size}`).toBe(whole)
    }
    const writer = new MarkdownWriter(STYLE)
    expect(writer.write('Some words, my_var and ')).toBe('Some words, my_var and ')
    expect(writer.write('**bo')).toBe('')
    expect(writer.write('ld** ')).toBe('<b>bold</b> ')
  })
})
