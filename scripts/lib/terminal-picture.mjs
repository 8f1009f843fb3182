// A picture of a terminal: commands, and what they have printed.

import { escaped, svg } from './svg.mjs'

const COLUMNS = 88
const CHARACTER = 8.4
const LINE = 20
const EDGE = 20
const BAR = 36
const FONT = 'font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace'

/** The classes of what stands between an escape sequence that begins it and one that ends it. */
const STYLES = { 1: 'bold', 2: 'dim', 3: 'italic', 31: 'red', 36: 'cyan' }
const ENDS = { 22: ['bold', 'dim'], 23: ['italic'], 39: ['red', 'cyan'], 0: Object.values(STYLES) }

/** Makes the picture of `[{ typed, printed }]`. */
export function terminalPicture(runs) {
  const lines = runs.flatMap(({ typed, printed }, index) => [
    ...(index === 0 ? [] : [[]]),
    [
      { text: '$ ', styles: ['cyan'] },
      { text: typed, styles: ['bold'] },
    ],
    ...wrapped(printed.trimEnd()),
  ])
  const width = Math.ceil(COLUMNS * CHARACTER + 2 * EDGE)
  const height = BAR + lines.length * LINE + EDGE
  return svg({
    width,
    height,
    title: `A terminal: ${runs.map(({ typed }) => typed).join(', ')}`,
    style: `text { ${FONT}; fill: #d6dae2; white-space: pre }
.bold { font-weight: 700; fill: #fff }
.dim { fill: #8a92a3 }
.italic { font-style: italic }
.red { fill: #ff8080 }
.cyan { fill: #6fd3e3 }`,
    body: [
      `<rect width="${width}" height="${height}" rx="10" fill="#1b1f27"/>`,
      ...['#ff5f57', '#febc2e', '#28c840'].map(
        (color, index) => `<circle cx="${EDGE + 6 + index * 20}" cy="18" r="6" fill="${color}"/>`,
      ),
      ...lines.map(
        (line, index) =>
          `<text x="${EDGE}" y="${BAR + index * LINE + 14}" xml:space="preserve">` +
          `${line.map(span).join('')}</text>`,
      ),
    ],
  })
}

function span({ text, styles }) {
  const shown = escaped(text)
  return styles.length === 0 ? shown : `<tspan class="${styles.join(' ')}">${shown}</tspan>`
}

/** The lines of what a program has printed, as a terminal breaks them, in spans of one style. */
function wrapped(printed) {
  const lines = [[]]
  let styles = []
  let column = 0
  // eslint-disable-next-line no-control-regex -- they are what is looked for
  for (const piece of printed.split(/(\u001B\[\d+m|\n)/)) {
    // eslint-disable-next-line no-control-regex -- see above
    const code = /^\u001B\[(\d+)m$/.exec(piece)?.[1]
    if (code !== undefined) {
      styles =
        code in ENDS ? styles.filter((it) => !ENDS[code].includes(it)) : [...styles, STYLES[code]]
    } else if (piece === '\n') {
      lines.push([])
      column = 0
    } else {
      for (let rest = piece; rest !== '';) {
        if (column === COLUMNS) {
          lines.push([])
          column = 0
        }
        const text = rest.slice(0, COLUMNS - column)
        lines.at(-1).push({ text, styles })
        column += text.length
        rest = rest.slice(text.length)
      }
    }
  }
  return lines
}
