import { fileURLToPath } from 'node:url'
import { NodeMlxError } from '../errors.js'
import { getNative } from '../native.js'
import { isSupported } from '../support.js'
import { VERSION } from '../version.js'
import { parseArguments, type Arguments } from './arguments.js'
import { bench } from './bench-command.js'
import { chat } from './chat-command.js'
import { convertCommand, fuseCommand } from './convert-command.js'
import { doctor } from './doctor-command.js'
import { EXIT, Interrupted, UsageError } from './errors.js'
import { helpText } from './help.js'
import { info } from './info-command.js'
import { downloadCommand, modelsCommand, removeCommand } from './models-command.js'
import { flush, OutputClosed, watchOutput, write } from './output.js'
import { answer } from './prompt-command.js'
import { serveCommand } from './serve-command.js'
import { setupCommand } from './setup-command.js'
import { styleFor } from './style.js'

const RUN: Record<string, (args: Arguments) => Promise<number>> = {
  '': answer,
  chat,
  serve: serveCommand,
  info,
  bench,
  convert: convertCommand,
  fuse: fuseCommand,
  download: downloadCommand,
  models: modelsCommand,
  rm: removeCommand,
  doctor,
  setup: setupCommand,
}

/** Runs a command line; gives the exit code. */
export async function run(argv: readonly string[]): Promise<number> {
  watchOutput()
  try {
    const code = await runCommand(parseArguments(argv))
    await flush()
    return code
  } catch (error) {
    return report(error, argv)
  }
}

async function runCommand(args: Arguments): Promise<number> {
  const { command, flags } = args
  if (flags.has('help')) {
    await write(helpText(command, styleFor(process.stdout), terminalWidth()))
    return EXIT.ok
  }
  if (flags.has('version')) {
    const mlx = isSupported() ? ` (MLX ${getNative().nativeVersion().mlx})` : ''
    await write(`nodemlx ${VERSION}${mlx}\n`)
    return EXIT.ok
  }
  return (RUN[command.name] ?? answer)(args)
}

/**
 * The columns of the terminal; Node.js has none where the output is no terminal, whatever the types
 * say.
 */
function terminalWidth(): number {
  return process.stdout.isTTY ? process.stdout.columns : 80
}

/** Says what went wrong in one line, and where more is said; gives the exit code. */
function report(error: unknown, argv: readonly string[]): number {
  if (error instanceof OutputClosed) return EXIT.ok
  if (
    error instanceof Interrupted ||
    (error instanceof Error && error.cause instanceof Interrupted)
  ) {
    return EXIT.interrupted
  }
  const style = styleFor(process.stderr)
  const verbose =
    argv.includes('--verbose') || /(^|[\s,])(nodemlx|\*)/.test(process.env['DEBUG'] ?? '')
  const message = error instanceof Error ? error.message : String(error)
  const shown =
    verbose && error instanceof Error && !(error instanceof UsageError)
      ? withCauses(error)
      : message
  process.stderr.write(`${style.red('nodemlx:')} ${shown}\n`)
  const place = seeAlso(error)
  if (place !== undefined) process.stderr.write(`${style.dim(`See ${place}`)}\n`)
  return error instanceof UsageError ? EXIT.usage : EXIT.failure
}

/** Where more is said about an error. */
function seeAlso(error: unknown): string | undefined {
  if (error instanceof UsageError)
    return `"nodemlx${error.command ? ` ${error.command}` : ''} --help".`
  if (!(error instanceof NodeMlxError) || error.url === undefined) return undefined
  return fileURLToPath(error.url)
}

function withCauses(error: Error): string {
  const own = error.stack ?? error.message
  return error.cause instanceof Error ? `${own}\ncaused by: ${withCauses(error.cause)}` : own
}
