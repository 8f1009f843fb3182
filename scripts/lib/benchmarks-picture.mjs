// A picture of what docs/benchmarks.md says of decoding, beside other programs.

import { Problem } from './run.mjs'
import { escaped, svg } from './svg.mjs'

const WIDTH = 720
const LABEL = 310
const BAR = 16
const NUMBER = 70

/** Makes the picture out of the page's text. */
export function benchmarksPicture(page) {
  const groups = [cpu(page), cuda(page)]
  const body = []
  let y = 8
  for (const { title, rows } of groups) {
    y += 24
    body.push(`<text class="title" x="0" y="${y}">${escaped(title)}</text>`)
    y += 14
    const most = Math.max(...rows.flatMap(({ bars }) => bars.map(({ value }) => value)))
    for (const { label, bars } of rows) {
      body.push(`<text x="0" y="${y + (bars.length * BAR) / 2 + 4}">${escaped(label)}</text>`)
      for (const { name, value, kind } of bars) {
        const width = Math.max(1, ((WIDTH - LABEL - NUMBER - 90) * value) / most)
        const size = `width="${width.toFixed(1)}" height="${BAR - 3}"`
        const end = (LABEL + width + 6).toFixed(1)
        const text = escaped(`${round(value)}  ${name}`)
        body.push(
          `<rect class="${kind}" x="${LABEL}" y="${y}" ${size} rx="2"/>`,
          `<text class="small" x="${end}" y="${y + 10}">${text}</text>`,
        )
        y += BAR
      }
      y += 10
    }
  }
  return svg({
    width: WIDTH,
    height: y + 6,
    title: 'Tokens per second while decoding, beside other programs',
    style: `text { font: 12px system-ui, sans-serif; fill: #333 }
.title { font-weight: 600; font-size: 14px }
.small { font-size: 11px }
.own { fill: #2f6fed }
.other { fill: #a9b1bf }
@media (prefers-color-scheme: dark) {
  text { fill: #ddd }
  .other { fill: #5d6675 }
}`,
    body,
  })
}

function cpu(page) {
  const part = between(page, '<!-- bench:peers -->', '<!-- /bench:peers -->')
  const [, where] = /On (.+?), \d+ rounds/.exec(part) ?? []
  const [head, ...rows] = table(part)
  const name = (column) => head[column].replace(/ \(.*/, '')
  return {
    title: `CPU, ${where}: 1B in 4 bits, tokens per second`,
    rows: rows
      .filter(([label]) => label.startsWith('decode'))
      .map(([label, own, llama, , ik]) => ({
        label,
        bars: [bar(name(1), own, 'own'), bar(name(2), llama, 'other'), bar(name(4), ik, 'other')],
      })),
  }
}

/** A cell there is `prefill, decode`, each from the slowest to the fastest round. */
function cuda(page) {
  const part = between(page, '## CUDA', '### Products')
  const [, ...rows] = table(part)
  const decode = (cell) => cell.split(', ')[1]
  return {
    title: 'NVIDIA H200: tokens per second, the middle of the rounds',
    rows: rows.map(([label, own, other]) => ({
      label: label.replace(/, (\d+) \+ \d+$/, ', after $1 tokens'),
      bars: [bar('nodemlx', decode(own), 'own'), bar('mlx-lm 0.32.2', decode(other), 'other')],
    })),
  }
}

function bar(name, cell, kind) {
  const numbers = cell.split('–').map(Number)
  const value = numbers.reduce((sum, number) => sum + number, 0) / numbers.length
  if (!(value > 0)) throw new Problem(`docs/benchmarks.md: "${cell}" is no figure.`)
  return { name, value, kind }
}

const round = (value) => (value >= 100 ? Math.round(value) : value.toFixed(1))

/** The rows of the first table of a text, without the line below its head. */
function table(text) {
  const rows = text.split('\n').filter((line) => line.startsWith('|'))
  return rows
    .filter((row) => !/^[|\s:-]+$/.test(row))
    .map((row) =>
      row
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )
}

function between(text, start, end) {
  const from = text.indexOf(start)
  const to = text.indexOf(end, from)
  if (from < 0 || to < 0)
    throw new Problem(`docs/benchmarks.md has no part from ${start} to ${end}.`)
  return text.slice(from, to)
}
