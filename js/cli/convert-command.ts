import { readFile } from 'node:fs/promises'
import { convertModel } from '../convert.js'
import { messageOf } from '../errors.js'
import type { CalibrateOptions, ConvertModelOptions, ConvertReport } from '../types.js'
import type { Arguments, FlagValues } from './arguments.js'
import { EXIT, UsageError } from './errors.js'
import { bytes } from './format.js'
import { interruptible, withBar } from './loading.js'
import { write } from './output.js'
import { checked, modelName } from './settings.js'
import { styleFor } from './style.js'

/** Layers that lost most, in the report. */
const SHOWN_LAYERS = 5

/** `nodemlx convert`: writes a checkpoint anew. */
export async function convertCommand({ flags, positionals }: Arguments): Promise<number> {
  const [source, ...rest] = positionals
  if (source === undefined) throw new UsageError('name a model to convert', 'convert')
  if (rest.length > 0) throw new UsageError('takes one model', 'convert')
  return runConversion(source, flags, 'convert', await convertSettings(flags))
}

/** `nodemlx fuse`: writes a checkpoint with an adapter in its weights. */
export async function fuseCommand({ flags, positionals }: Arguments): Promise<number> {
  const [source = modelName(flags), ...rest] = positionals
  const adapter = flags.get('adapter')
  if (adapter === undefined) throw new UsageError('name an adapter: --adapter ADAPTER', 'fuse')
  if (rest.length > 0 || (positionals.length > 0 && flags.has('model')))
    throw new UsageError('takes one model', 'fuse')
  return runConversion(source, flags, 'fuse', {
    adapter,
    dequantize: flags.has('dequantize') || undefined,
    overwrite: flags.has('overwrite') || undefined,
  })
}

/** Converts a model, with a bar, and tells what came of it. */
async function runConversion(
  source: string,
  flags: FlagValues,
  command: string,
  options: ConvertModelOptions,
): Promise<number> {
  const target = flags.get('out')
  if (target === undefined) throw new UsageError('name the folder to write: --out DIR', command)
  return interruptible(async (signal) => {
    const report = await checked(() =>
      withBar(source, (onProgress) =>
        convertModel(source, target, { ...options, onProgress, signal }),
      ),
    )
    if (flags.has('json')) await write(`${JSON.stringify(report)}\n`)
    else {
      process.stderr.write(summary(report))
      await write(`${report.path}\n`)
    }
    return EXIT.ok
  })
}

async function convertSettings(flags: FlagValues): Promise<ConvertModelOptions> {
  return {
    bits: flags.number('bits') as ConvertModelOptions['bits'],
    groupSize: flags.number('group-size') as ConvertModelOptions['groupSize'],
    mode: flags.get('mode') as ConvertModelOptions['mode'],
    recipe: flags.get('recipe') as ConvertModelOptions['recipe'],
    layers: layers(flags.all('layer')),
    calibrate: await calibration(flags),
    dtype: flags.get('dtype') as ConvertModelOptions['dtype'],
    dequantize: flags.has('dequantize') || undefined,
    overwrite: flags.has('overwrite') || undefined,
    revision: flags.get('revision'),
  }
}

async function calibration(flags: FlagValues): Promise<CalibrateOptions | undefined> {
  const file = flags.get('calibrate')
  const [bits, bytes] = [flags.number('calibrate-bits'), flags.number('calibrate-bytes')]
  if (file === undefined) {
    if (bits === undefined && bytes === undefined) return undefined
    throw new UsageError('--calibrate-bits and --calibrate-bytes go with --calibrate', 'convert')
  }
  if ((bits === undefined) === (bytes === undefined))
    throw new UsageError('--calibrate needs --calibrate-bits or --calibrate-bytes', 'convert')
  try {
    return { text: await readFile(file, 'utf8'), bits, bytes }
  } catch (error) {
    throw new UsageError(`--calibrate: ${messageOf(error)}`, 'convert')
  }
}

/** `PATTERN=BITS`, or `PATTERN=none`. */
function layers(given: string[] | undefined): Record<string, number | null> | undefined {
  if (given === undefined) return undefined
  return Object.fromEntries(
    given.map((text) => {
      const [, pattern, bits] = /^([^=]+)=(none|\d+)$/.exec(text) ?? []
      if (pattern === undefined || bits === undefined) {
        throw new UsageError(`--layer: expected PATTERN=BITS or PATTERN=none, got "${text}"`)
      }
      return [pattern, bits === 'none' ? null : Number(bits)]
    }),
  )
}

function summary(report: ConvertReport): string {
  const style = styleFor(process.stderr)
  const size = `${bytes(report.bytes)}, ${report.bitsPerWeight.toFixed(2)} bits per weight`
  const lines = [`${style.bold('Written:')} ${size}`]
  const worst = report.layers.toSorted((a, b) => b.error - a.error).slice(0, SHOWN_LAYERS)
  if (worst.length > 0) {
    lines.push(`The largest errors of ${report.layers.length} quantized layers:`)
    for (const { path, bits, error } of worst) {
      lines.push(`  ${(error * 100).toFixed(2).padStart(6)} %  ${path} (${bits} bits)`)
    }
  }
  return `${lines.join('\n')}\n`
}
