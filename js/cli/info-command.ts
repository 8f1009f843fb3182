import { totalmem } from 'node:os'
import { getNative } from '../native.js'
import { platformName } from '../platform.js'
import { RECOMMENDED_MODELS } from '../recommended-models.js'
import type { ModelInfo } from '../types.js'
import { VERSION } from '../version.js'
import type { Arguments } from './arguments.js'
import { EXIT, UsageError } from './errors.js'
import { bytes, deviceFacts, parameters, table, weights, type Row } from './format.js'
import { interruptible, loadWithBar } from './loading.js'
import { write } from './output.js'
import { loadSettings } from './settings.js'
import { styleFor } from './style.js'

/** `nodemlx info [model]`. */
export async function info({ flags, positionals }: Arguments): Promise<number> {
  const name = positionals[0] ?? flags.get('model')
  if (positionals.length > 1 || (positionals.length > 0 && flags.has('model')))
    throw new UsageError('give one model', 'info')
  if (name === undefined) {
    await write(flags.has('json') ? `${JSON.stringify(systemFacts())}\n` : lines(systemRows()))
    return EXIT.ok
  }
  const load = loadSettings(flags)
  return interruptible(async (signal) => {
    const model = await loadWithBar(name, { ...load, signal })
    await model.dispose()
    await write(
      flags.has('json') ? `${JSON.stringify(model.info)}\n` : lines(modelRows(model.info)),
    )
    return EXIT.ok
  })
}

function systemFacts(): object {
  const native = getNative()
  return {
    version: VERSION,
    ...native.nativeVersion(),
    platform: platformName(),
    node: process.version,
    ...native.systemInfo(),
    models: RECOMMENDED_MODELS,
  }
}

function systemRows(): readonly Row[] {
  const native = getNative()
  const { mlx } = native.nativeVersion()
  const { devices, defaultDevice } = native.systemInfo()
  return [
    ['nodemlx', VERSION],
    ['MLX', mlx],
    ['Node.js', process.versions.node],
    ['platform', platformName()],
    ...devices.map(({ kind, name, memoryBytes }) => {
      const facts = deviceFacts(name, memoryBytes ?? totalmem(), kind === defaultDevice)
      return [kind.toUpperCase(), facts] as const
    }),
    ['models', ['demo', ...Object.keys(RECOMMENDED_MODELS)].join(', ')],
  ]
}

function modelRows(model: ModelInfo): readonly Row[] {
  const { quantization } = model
  const defaults = Object.entries(model.generationDefaults)
  return [
    ['architecture', model.architecture],
    ['parameters', parameters(model.parameters)],
    [
      'weights',
      `${quantization === null ? weights(model) : `${weights(model)} ${quantization.mode}, groups of ${quantization.groupSize}`}, ${bytes(model.bytes)}`,
    ],
    ['computes in', `${model.dtype} on the ${model.device.toUpperCase()}`],
    ['layers', String(model.layers)],
    ['context', context(model)],
    ['vocabulary', `${model.vocabularySize} tokens`],
    ['tokenizer', model.hasTokenizer ? 'yes' : 'no: takes and gives tokens only'],
    ['chat template', model.hasChatTemplate ? 'yes' : 'no: continues text'],
    ['end tokens', model.eosTokens.join(', ')],
    [
      'defaults',
      defaults.length === 0
        ? 'none of its own'
        : defaults.map(([key, value]) => `${key} ${value}`).join(', '),
    ],
    ['folder', model.path],
  ]
}

function context({ contextLength, maxContextLength }: ModelInfo): string {
  if (contextLength === undefined) return 'unknown'
  const fits = maxContextLength ?? contextLength
  return `${contextLength} tokens${fits < contextLength ? `, of which ${fits} fit the memory` : ''}`
}

function lines(rows: readonly Row[]): string {
  return table(rows, styleFor(process.stdout))
}
