import { NodeMlxError } from '../errors.js'
import { generateOptions, loadOptions } from '../options.js'
import { checkRanges } from '../ranges.js'
import type { GenerateOptions, LoadModelOptions } from '../types.js'
import type { FlagValues } from './arguments.js'
import { UsageError } from './errors.js'

/** The model that was asked for, or the demo model. */
export function modelName(flags: FlagValues): string {
  return flags.get('model') ?? process.env['NODEMLX_MODEL'] ?? 'demo'
}

/** How a model is to be loaded. */
export function loadSettings(flags: FlagValues): LoadModelOptions {
  return checked(() => {
    const options = loadOptions({
      device: flags.get('device'),
      dtype: flags.get('dtype'),
      threads: flags.number('threads'),
      precision: flags.get('precision'),
      contextLength: flags.number('context-length'),
      force: flags.has('force') || undefined,
      adapter: flags.get('adapter'),
      draftModel: flags.get('draft-model'),
    })
    checkRanges(options)
    return options
  })
}

/** How an answer is to be generated. */
export function generateSettings(flags: FlagValues): GenerateOptions {
  return checked(() =>
    generateSetting({
      maxTokens: flags.number('max-tokens'),
      temperature: flags.number('temperature'),
      topP: flags.number('top-p'),
      topK: flags.number('top-k'),
      minP: flags.number('min-p'),
      maxKvSize: flags.number('max-kv-size'),
      kvBits: flags.number('kv-bits'),
      repetitionPenalty: flags.number('repetition-penalty'),
      seed: flags.number('seed'),
      typicalP: flags.number('typical-p'),
      topNSigma: flags.number('top-n-sigma'),
      dynamicTemperatureRange: flags.number('dynamic-temperature-range'),
      mirostat: flags.number('mirostat'),
      dryMultiplier: flags.number('dry-multiplier'),
      minTokens: flags.number('min-tokens'),
      maxTimeMs: flags.number('max-time-ms'),
      speculation: flags.get('speculation') === 'off' ? false : flags.get('speculation'),
      stop: flags.all('stop'),
      bannedStrings: flags.all('ban'),
      skipSpecialTokens: flags.has('special-tokens') ? false : undefined,
    }),
  )
}

/** Options of a generation, their names, types and ranges checked. */
export function generateSetting(options: object): GenerateOptions {
  const checkedOptions = generateOptions(options)
  checkRanges(undefined, checkedOptions)
  return checkedOptions
}

/** Flags that are called otherwise than the option of the API. */
const OTHER_FLAGS: Readonly<Record<string, string>> = {
  bannedStrings: 'ban',
  layers: 'layer',
  target: 'out',
}

/** An option that the API refuses is a wrong flag here, and is called as it was typed. */
export function checked<T>(check: () => T): T {
  const refused = (error: unknown): never => {
    if (!(error instanceof NodeMlxError)) throw error
    const { option, problem = error.message } = error
    if (option === undefined) throw error
    // What a command works on has no flag.
    if (option === 'id') throw new UsageError(problem)
    const name = option.replace(/\[.*\]$/s, '')
    const flag =
      OTHER_FLAGS[name] ?? name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    throw new UsageError(`--${flag}: ${problem}`)
  }
  try {
    const value = check()
    return value instanceof Promise ? (value.catch(refused) as T) : value
  } catch (error) {
    return refused(error)
  }
}
