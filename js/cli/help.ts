import type { Style } from './style.js'
import { COMMANDS, PROMPT_COMMAND, type Command, type Flag } from './flags.js'

/** The help of a command, laid out for a terminal of some width. */
export function helpText(command: Command, style: Style, columns: number): string {
  const width = Math.max(40, Math.min(columns, 100))
  const name = `nodemlx ${command.name}`.trim()
  const sections = [`${command.summary}.`, section('Usage', usageLines(command, name), style)]
  if (command === PROMPT_COMMAND) {
    const rows = COMMANDS.map((other) => [`nodemlx ${other.name}`, other.summary] as const)
    sections.push(section('Commands', table(rows, width, style), style))
  }
  sections.push(
    section(
      'Options',
      table(
        command.flags.map((flag) => [flagLabel(flag), flag.help] as const),
        width,
        style,
      ),
      style,
    ),
  )
  sections.push(
    section(
      'Examples',
      command.examples.flatMap(([line, what]) => [`  ${style.dim(`# ${what}`)}`, `  ${line}`]),
      style,
    ),
  )
  if (command.details !== '') sections.push(wrap(command.details, width).join('\n'))
  if (command === PROMPT_COMMAND) sections.push('More about a command: nodemlx <command> --help')
  return `${sections.join('\n\n')}\n`
}

function usageLines(command: Command, name: string): string[] {
  return [`  ${name} ${command.usage}`]
}

function section(title: string, lines: readonly string[], style: Style): string {
  return [style.bold(title), ...lines].join('\n')
}

function flagLabel({ name, short, value }: Flag): string {
  return `${short === undefined ? '    ' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value}`}`
}

function table(
  rows: readonly (readonly [string, string])[],
  width: number,
  style: Style,
): string[] {
  const left = Math.max(...rows.map(([label]) => label.length))
  return rows.flatMap(([label, text]) =>
    wrap(text, width - left - 4).map(
      (line, index) => `  ${style.cyan((index === 0 ? label : '').padEnd(left))}  ${line}`,
    ),
  )
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = ''
    }
    line += line === '' ? word : ` ${word}`
  }
  lines.push(line)
  return lines
}
