import { parseArgs } from 'node:util'
import { closest } from '../validate.js'
import { UsageError } from './errors.js'
import { commandNamed, COMMANDS, PROMPT_COMMAND, type Command, type Flag } from './flags.js'

/** A command line that was understood. */
export interface Arguments {
  command: Command
  positionals: string[]
  /** `-` was given, for standard input. */
  stdin: boolean
  flags: FlagValues
}

/** The values of flags by their long names. */
export class FlagValues {
  readonly #values: Map<string, string[]>

  constructor(values: Map<string, string[]>) {
    this.#values = values
  }

  has(name: string): boolean {
    return this.#values.has(name)
  }

  /** The last value, as in most programs: an alias can set one that the user overrides. */
  get(name: string): string | undefined {
    return this.#values.get(name)?.at(-1)
  }

  all(name: string): string[] | undefined {
    return this.#values.get(name)
  }

  /** A number as it was written; its range is checked where it is used. */
  number(name: string): number | undefined {
    const text = this.get(name)
    if (text === undefined) return undefined
    const value = Number(text)
    if (text.trim() === '' || Number.isNaN(value))
      throw new UsageError(`--${name}: expected a number, got "${text}"`)
    return value
  }

  /** A whole number in a range, or the fallback. */
  integer(name: string, fallback: number, min: number, max: number): number {
    const value = this.number(name) ?? fallback
    if (Number.isInteger(value) && value >= min && value <= max) return value
    throw new UsageError(`--${name}: expected a whole number from ${min} to ${max}, got ${value}`)
  }
}

/** By name: flags that several commands have are the same everywhere but for their help. */
const FLAGS: ReadonlyMap<string, Flag> = new Map(
  [PROMPT_COMMAND, ...COMMANDS].flatMap((command) =>
    command.flags.map((flag) => [flag.name, flag]),
  ),
)

/**
 * Takes a command line apart. `parseArgs` reads it, without its strict mode, whose messages know
 * nothing of commands and of what was probably meant.
 */
export function parseArguments(argv: readonly string[]): Arguments {
  const { tokens } = parseArgs({
    args: [...argv],
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: Object.fromEntries(
      [...FLAGS.values()].map((flag) => [flag.name, parseArgsOption(flag)]),
    ),
  })
  const terminator =
    tokens.find((token) => token.kind === 'option-terminator')?.index ?? argv.length
  const words = tokens.filter((token) => token.kind === 'positional')
  const isStdin = ({ value, index }: { value: string; index: number }): boolean =>
    value === '-' && index < terminator
  const positionals = words.filter((word) => !isStdin(word))
  const first = positionals[0]
  const named =
    first !== undefined && first.index < terminator ? commandNamed(first.value) : undefined
  const command = named ?? PROMPT_COMMAND

  const stdin = words.some(isStdin)
  if (stdin && command !== PROMPT_COMMAND)
    throw new UsageError(`- does not go with "nodemlx ${command.name}"`, command.name)

  const values = new Map<string, string[]>()
  for (const token of tokens) {
    if (token.kind !== 'option') continue
    const flag = knownFlag(token.name, token.rawName, command)
    const value = flagValue(flag, token.rawName, token.value, token.inlineValue ?? false)
    values.set(flag.name, [...(values.get(flag.name) ?? []), value])
  }
  return {
    command,
    positionals: positionals.slice(named === undefined ? 0 : 1).map((token) => token.value),
    stdin,
    flags: new FlagValues(values),
  }
}

function parseArgsOption({ short, value }: Flag): { type: 'string' | 'boolean'; short?: string } {
  const type = value === undefined ? 'boolean' : 'string'
  return short === undefined ? { type } : { type, short }
}

function knownFlag(name: string, typed: string, command: Command): Flag {
  const flag = command.flags.find((candidate) => candidate.name === name)
  if (flag !== undefined) return flag
  const owner = [PROMPT_COMMAND, ...COMMANDS].find(({ flags }) =>
    flags.some((candidate) => candidate.name === name),
  )
  if (owner !== undefined) {
    throw new UsageError(
      `${typed} does not go with "${`nodemlx ${command.name}`.trim()}"`,
      command.name,
    )
  }
  const near = typed.startsWith('--')
    ? closest(
        name,
        command.flags.map((candidate) => candidate.name),
      )
    : undefined
  throw new UsageError(
    `there is no option ${typed}${near === undefined ? '' : `; did you mean --${near}?`}`,
    command.name,
  )
}

function flagValue(flag: Flag, typed: string, value: string | undefined, inline: boolean): string {
  if (flag.value === undefined) {
    if (value !== undefined) throw new UsageError(`${typed} takes no value, got "${value}"`)
    return ''
  }
  // What looks like another option is one, unless it is a number.
  const isOption =
    !inline && value !== undefined && /^-./.test(value) && Number.isNaN(Number(value))
  if (value === undefined || isOption) {
    const hint = isOption ? `; write --${flag.name}=${value} if that is the value` : ''
    throw new UsageError(`${typed} needs a value: ${typed} ${flag.value}${hint}`)
  }
  return value
}
