import { invalidArgument } from './errors.js'
import type { NativeCacheLimits, NativeGenerateRequest } from './native.js'
import { adapter, adapterPart } from './adapter.js'
import { checkedPrefixCache } from './prefix-cache.js'
import { promptCache } from './prompt-cache.js'
import { checkedFormat, isRegExp, patternSource, responseFormat } from './response-format.js'
import { seed } from './seed.js'
import { draftModel, nativeSpeculation, speculation } from './speculation.js'
import { checkToolOptions, nativeToolOptions, reasoningOption, toolChoice, tools } from './tools.js'
import type {
  CalibrateOptions,
  ChatOptions,
  ChatTemplateOptions,
  ConvertModelOptions,
  DownloadModelOptions,
  EmbedOptions,
  EstimateModelOptions,
  GenerateBatchOptions,
  GenerateOptions,
  HubOptions,
  LoadAdapterOptions,
  LoadModelOptions,
  LoadProgress,
  Message,
  ModelInfo,
  PrefillProgress,
  PrefixCacheOptions,
  PromptCacheOptions,
  PromptOptions,
  RerankOptions,
  DecideOptions,
  ScoreOptions,
  TokenizeOptions,
} from './types.js'
import {
  abortSignal,
  arrayOf,
  boolean,
  callback,
  fields,
  integer,
  isPlainObject,
  nonEmptyString,
  number,
  oneOf,
  show,
  type Check,
} from './validate.js'

/** What other libraries call our options. */
const SYNONYMS = {
  abortSignal: 'signal',
  accessToken: 'token',
  allowPatterns: 'include',
  baseUrl: 'endpoint',
  cacheDirectory: 'cacheDir',
  chatTemplateKwargs: 'templateVariables',
  chatTemplateOptions: 'templateVariables',
  contextSize: 'contextLength',
  continueLastMessage: 'continueFinalMessage',
  cpuThreads: 'threads',
  functions: 'tools',
  hubUrl: 'endpoint',
  ignorePatterns: 'exclude',
  localFilesOnly: 'offline',
  maxCompletionTokens: 'maxTokens',
  maxConcurrency: 'concurrency',
  maxLength: 'maxTokens',
  maxModelLen: 'contextLength',
  maxNewTokens: 'maxTokens',
  maxNumSeqs: 'maxSequences',
  maxOutputTokens: 'maxTokens',
  nCtx: 'contextLength',
  nThreads: 'threads',
  numCtx: 'contextLength',
  numParallel: 'maxSequences',
  numPredict: 'maxTokens',
  numThread: 'threads',
  numThreads: 'threads',
  onLoadProgress: 'onProgress',
  progressCallback: 'onProgress',
  randomSeed: 'seed',
  repeatLastN: 'penaltyContextSize',
  repetitionContextSize: 'penaltyContextSize',
  repeatPenalty: 'repetitionPenalty',
  badWords: 'bannedStrings',
  bannedTokens: 'logitBias',
  customTokenBans: 'logitBias',
  dryPenaltyLastN: 'dryContextSize',
  dynatempExponent: 'dynamicTemperatureExponent',
  dynatempRange: 'dynamicTemperatureRange',
  maxTime: 'maxTimeMs',
  minNewTokens: 'minTokens',
  stopSequences: 'stop',
  stopTokenIds: 'stopTokens',
  timeLimit: 'maxTimeMs',
  typical: 'typicalP',
  stopStrings: 'stop',
  temp: 'temperature',
  template: 'chatTemplate',
  templateKwargs: 'templateVariables',
  topLogprobs: 'logprobs',
  variables: 'templateVariables',
}

/** A check for every option that a type knows, so that neither list can grow without the other. */
type FieldsOf<Options> = {
  [K in keyof Required<Options>]: Check<Exclude<Options[K], undefined>>
}

/** A token, or `false` for none. */
const token: Check<string | false> = (value, option) =>
  value === false ? value : nonEmptyString(value, option)

const HUB_FIELDS = {
  revision: nonEmptyString,
  token,
  endpoint: nonEmptyString,
  cacheDir: nonEmptyString,
  offline: boolean,
  fetch: callback<typeof globalThis.fetch>(),
} satisfies FieldsOf<HubOptions>

const patterns = arrayOf(nonEmptyString, "an array of patterns, such as ['*.json']")

const DOWNLOAD_FIELDS = {
  ...HUB_FIELDS,
  include: patterns,
  exclude: patterns,
  verify: boolean,
  onProgress: callback<(progress: LoadProgress) => void>(),
  signal: abortSignal,
} satisfies FieldsOf<DownloadModelOptions>

/** Bits by pattern, or null. */
function calibrate(value: unknown, option: string): CalibrateOptions {
  const { text, ...size } = fields(value, option, CALIBRATE_FIELDS, SYNONYMS)
  if (text === undefined) throw invalidArgument(`${option}.text`, 'is missing')
  return { text, ...size }
}

function positive(value: unknown, option: string): number {
  const checked = number(value, option)
  if (checked > 0) return checked
  throw invalidArgument(option, `must be larger than 0, got ${show(value)}`)
}

function layerBits(value: unknown, option: string): Record<string, number | null> {
  if (!isPlainObject(value)) {
    throw invalidArgument(option, `expected an object of bits by pattern, got ${show(value)}`)
  }
  for (const [pattern, bits] of Object.entries(value)) {
    if (bits !== null) number(bits, `${option}[${show(pattern)}]`)
  }
  return value as Record<string, number | null>
}

const CALIBRATE_FIELDS = {
  text: nonEmptyString,
  bits: positive,
  bytes: positive,
} satisfies FieldsOf<CalibrateOptions>

const CONVERT_FIELDS = {
  ...HUB_FIELDS,
  bits: number as Check<2 | 3 | 4 | 5 | 6 | 8>,
  groupSize: number as Check<16 | 32 | 64 | 128>,
  mode: oneOf('affine', 'mxfp4', 'mxfp8', 'nvfp4'),
  recipe: oneOf('mixed_2_6', 'mixed_3_4', 'mixed_3_6', 'mixed_4_6'),
  layers: layerBits,
  calibrate,
  dtype: oneOf('float32', 'bfloat16', 'float16'),
  adapter: nonEmptyString,
  dequantize: boolean,
  overwrite: boolean,
  onProgress: callback<(progress: LoadProgress) => void>(),
  signal: abortSignal,
} satisfies FieldsOf<ConvertModelOptions>

const STORED_FIELDS = { revision: nonEmptyString, cacheDir: nonEmptyString }

const ESTIMATE_FIELDS = {
  ...HUB_FIELDS,
  contextLength: integer(1, 2 ** 31 - 1),
  sequences: integer(1, 10_000),
  kvBits: oneOf(4, 8),
  device: oneOf('auto', 'gpu', 'cpu'),
  signal: abortSignal,
} satisfies FieldsOf<EstimateModelOptions>

const ADAPTER_FIELDS = {
  ...HUB_FIELDS,
  onProgress: callback<(progress: LoadProgress) => void>(),
  signal: abortSignal,
} satisfies FieldsOf<LoadAdapterOptions>

const PREFIX_CACHE_FIELDS = {
  memoryBytes: number,
  diskBytes: number,
  directory: nonEmptyString,
} satisfies FieldsOf<PrefixCacheOptions>

function prefixCache(value: unknown, option: string): false | PrefixCacheOptions {
  if (value === false) return value
  if (isPlainObject(value)) return checkedPrefixCache(fields(value, option, PREFIX_CACHE_FIELDS))
  throw invalidArgument(option, `expected false or an object, got ${show(value)}`)
}

const LOAD_FIELDS = {
  ...HUB_FIELDS,
  force: boolean,
  adapter: nonEmptyString,
  draftModel,
  predictionHeads: boolean,
  contextLength: number,
  device: oneOf('auto', 'gpu', 'cpu'),
  dtype: oneOf('auto', 'float32', 'bfloat16', 'float16'),
  threads: number,
  precision: oneOf('fastest', 'fast', 'exact'),
  maxSequences: number,
  maxStallMs: number,
  memoryBytes: number,
  prefixCache,
  onProgress: callback<(progress: LoadProgress) => void>(),
  signal: abortSignal,
} satisfies FieldsOf<LoadModelOptions>

/** An object whose fields are for the template to judge. */
function record<T extends object>(): Check<T> {
  return (value, option) => {
    if (isPlainObject(value)) return value as T
    throw invalidArgument(option, `expected an object, got ${show(value)}`)
  }
}

/** A time, as a date or in milliseconds, in a year of four digits. */
function time(value: unknown, option: string): Date | number {
  // A date of another realm (vm, jest) is no instance of this one's Date.
  const isTime =
    typeof value === 'number' || Object.prototype.toString.call(value) === '[object Date]'
  const at = isTime ? new Date(value as Date | number) : undefined
  const year = at?.getFullYear() ?? Number.NaN
  // NaN, as that of an invalid date, fails every comparison.
  if (at !== undefined && year >= 1000 && year <= 9999) return at
  throw invalidArgument(
    option,
    `expected a Date or a time in milliseconds, in a year of four digits, got ${show(value)}`,
  )
}

/** What templates read besides the variables, and the option that gives it. */
const RESERVED_VARIABLES: Record<string, string> = {
  messages: 'the messages themselves',
  tools: 'the option tools',
  documents: 'the option documents',
  add_generation_prompt: 'the option addGenerationPrompt',
  continue_final_message: 'the option continueFinalMessage',
  chat_template: 'the option chatTemplate',
}

const TURN_FIELDS = {
  tools,
  reasoning: reasoningOption,
  documents: arrayOf(record<Record<string, unknown>>(), 'an array of documents'),
  templateVariables: record<Record<string, unknown>>(),
  chatTemplate: nonEmptyString,
  addGenerationPrompt: boolean,
  now: time,
}

const CONTINUE_FIELDS = {
  continueFinalMessage: boolean,
  continueField: nonEmptyString,
}

const TEMPLATE_FIELDS = {
  ...TURN_FIELDS,
  ...CONTINUE_FIELDS,
} satisfies FieldsOf<ChatTemplateOptions>

const TEMPLATE_NAMES = Object.keys(TEMPLATE_FIELDS) as (keyof ChatTemplateOptions)[]

/** Refuses options of the chat template that contradict each other. */
function checkTemplate<T extends ChatTemplateOptions>(options: T): T {
  for (const name of Object.keys(options.templateVariables ?? {})) {
    const instead = Object.hasOwn(RESERVED_VARIABLES, name) ? RESERVED_VARIABLES[name] : undefined
    if (instead !== undefined)
      throw invalidArgument(
        `templateVariables.${name}`,
        `is no free name; what templates read there is ${instead}`,
      )
  }
  if (options.continueField !== undefined && options.continueFinalMessage !== true)
    throw invalidArgument('continueField', 'has no effect without continueFinalMessage: true')
  if (options.addGenerationPrompt === true && options.continueFinalMessage === true) {
    throw invalidArgument(
      'continueFinalMessage',
      'cannot go together with addGenerationPrompt: the one leaves the last message open, the other begins a new one',
    )
  }
  return options
}

/**
 * The options of the chat template among those of a generation, and `undefined` where there are
 * none.
 */
export function templateOptions(options: ChatTemplateOptions): ChatTemplateOptions | undefined {
  const given = TEMPLATE_NAMES.filter((name) => options[name] !== undefined)
  if (given.length === 0) return undefined
  return Object.fromEntries(given.map((name) => [name, options[name]]))
}

/** Numbers by token; a token beyond the vocabulary is for the model to find. */
function logitBias(value: unknown, option: string): Record<number, number> {
  if (!isPlainObject(value)) {
    throw invalidArgument(option, `expected an object of numbers by token, got ${show(value)}`)
  }
  for (const [token, item] of Object.entries(value)) {
    if (!/^\d{1,10}$/.test(token)) {
      throw invalidArgument(`${option}[${show(token)}]`, 'is not a token, a whole number from 0')
    }
    number(item, `${option}[${token}]`)
  }
  return value as Record<number, number>
}

const CACHE_FIELDS = {
  maxKvSize: number,
  kvBits: number as Check<4 | 8>,
  kvGroupSize: number as Check<32 | 64 | 128>,
} satisfies FieldsOf<PromptCacheOptions>

const PROMPT_FIELDS = {
  ...TEMPLATE_FIELDS,
  splitSpecialTokens: boolean,
} satisfies FieldsOf<PromptOptions>

const DECIDE_FIELDS = {
  ...PROMPT_FIELDS,
  adapter,
  signal: abortSignal,
} satisfies FieldsOf<DecideOptions>

const SCORE_FIELDS = {
  ...DECIDE_FIELDS,
  top: integer(0, 20),
} satisfies FieldsOf<ScoreOptions>

const EMBED_FIELDS = {
  task: nonEmptyString,
  pooling: oneOf('cls', 'lasttoken', 'max', 'mean', 'mean_sqrt_len_tokens', 'weightedmean'),
  normalize: boolean,
  dimensions: integer(1, 2 ** 31 - 1),
  truncate: boolean,
  adapter,
  signal: abortSignal,
} satisfies FieldsOf<EmbedOptions>

const RERANK_FIELDS = {
  topN: integer(1, 2 ** 31 - 1),
  instruction: nonEmptyString,
  truncate: boolean,
  adapter,
  signal: abortSignal,
} satisfies FieldsOf<RerankOptions>

function logprobs(value: unknown, option: string): number | boolean {
  if (typeof value === 'number' || typeof value === 'boolean') return value
  throw invalidArgument(
    option,
    `expected a number of alternatives, true or false, got ${show(value)}`,
  )
}

const STOP = "a string, a regular expression or an array of them, such as ['\\n\\n']"

function stopText(value: unknown, option: string): string | RegExp {
  if (typeof value === 'string') return nonEmptyString(value, option)
  if (!isRegExp(value)) throw invalidArgument(option, `expected ${STOP}, got ${show(value)}`)
  patternSource(value, option)
  return value
}

/** What `generate`, `generateBatch` and `model.chat` have in common. */
const ANSWER_FIELDS = {
  maxTokens: number,
  temperature: number,
  topP: number,
  topK: number,
  minP: number,
  typicalP: number,
  topNSigma: number,
  dynamicTemperatureRange: number,
  dynamicTemperatureExponent: number,
  mirostat: number as Check<0 | 2>,
  mirostatTau: number,
  mirostatEta: number,
  seed,
  deterministic: boolean,
  speculation,
  priority: number,
  minTokens: number,
  maxTimeMs: number,
  stop: (value: unknown, option: string) =>
    Array.isArray(value) ? arrayOf(stopText, STOP)(value, option) : stopText(value, option),
  stopTokens: arrayOf(number, 'an array of tokens, such as [2]'),
  bannedStrings: arrayOf(nonEmptyString, 'an array of strings'),
  dryMultiplier: number,
  dryBase: number,
  dryAllowedLength: number,
  dryContextSize: number,
  drySequenceBreakers: arrayOf(nonEmptyString, 'an array of strings'),
  skipSpecialTokens: boolean,
  repetitionPenalty: number,
  penaltyContextSize: number,
  presencePenalty: number,
  frequencyPenalty: number,
  logitBias,
  xtcProbability: number,
  xtcThreshold: number,
  logprobs,
  toolChoice,
  parallelToolCalls: boolean,
  parseToolCalls: boolean,
  validateToolCalls: boolean,
  toolFormat: nonEmptyString,
  reasoningFormat: nonEmptyString,
  responseFormat,
  ...CACHE_FIELDS,
  ...TURN_FIELDS,
  splitSpecialTokens: boolean,
}

/** The options of each generation of several. */
const EACH_FIELDS = {
  ...ANSWER_FIELDS,
  ...CONTINUE_FIELDS,
  signal: abortSignal,
} satisfies FieldsOf<Omit<GenerateOptions, 'promptCache' | 'adapter' | 'onPrefill'>>

const ONCE_FIELDS = {
  ...EACH_FIELDS,
  onPrefill: callback<(progress: PrefillProgress) => void>(),
} satisfies FieldsOf<Omit<GenerateOptions, 'promptCache' | 'adapter'>>

const GENERATE_FIELDS = {
  ...ONCE_FIELDS,
  promptCache,
  adapter,
} satisfies FieldsOf<GenerateOptions>

const BATCH_FIELDS = {
  ...EACH_FIELDS,
  adapter,
  ordered: boolean,
  concurrency: integer(1, 1024),
  n: integer(1, 1024),
} satisfies FieldsOf<GenerateBatchOptions>

const CHAT_FIELDS = {
  ...ANSWER_FIELDS,
  adapter,
  onPrefill: callback<(progress: PrefillProgress) => void>(),
  system: nonEmptyString,
  messages: arrayOf(record<Message>(), 'an array of messages'),
  maxToolRounds: integer(0, 1000),
  onToolCall: callback<NonNullable<ChatOptions['onToolCall']>>(),
  onContextFull: (value, option) =>
    typeof value === 'function'
      ? (value as Exclude<ChatOptions['onContextFull'], string | undefined>)
      : oneOf('error', 'drop-oldest')(value, option),
} satisfies FieldsOf<ChatOptions>

/** The options of `model.chat`: their names and types. */
export function chatOptions(options: unknown): ChatOptions {
  const checked = fields(options, '', CHAT_FIELDS, SYNONYMS)
  checkToolOptions(checkTemplate(checked))
  return checked
}

/** The options of `loadModel`: their names and types. */
export function loadOptions(options: unknown): LoadModelOptions {
  return fields(options, '', LOAD_FIELDS, SYNONYMS)
}

/** The options of `downloadModel`, checked. */
export function downloadOptions(options: unknown): DownloadModelOptions {
  return fields(options, '', DOWNLOAD_FIELDS, SYNONYMS)
}

/** The options of `convertModel`: their names and types. */
export function convertOptions(options: unknown): ConvertModelOptions {
  return fields(options, '', CONVERT_FIELDS, SYNONYMS)
}

/** The options of `model.loadAdapter`, checked. */
export function adapterOptions(options: unknown): LoadAdapterOptions {
  return fields(options, '', ADAPTER_FIELDS, SYNONYMS)
}

/** The options of `estimateModel`, checked. */
export function estimateOptions(options: unknown): EstimateModelOptions {
  return fields(options, '', ESTIMATE_FIELDS, SYNONYMS)
}

/** The options of `listModels`, checked. */
export function listOptions(options: unknown): { cacheDir?: string } {
  return fields(options, '', { cacheDir: nonEmptyString }, SYNONYMS)
}

/** The options of `removeModel`, checked. */
export function removeOptions(options: unknown): { revision?: string; cacheDir?: string } {
  return fields(options, '', STORED_FIELDS, SYNONYMS)
}

/** The options of `model.generate`: their names and types. */
export function generateOptions(options: unknown): GenerateOptions {
  return checkToolOptions(checkTemplate(fields(options, '', GENERATE_FIELDS, SYNONYMS)))
}

/** The options of `model.generateBatch`, checked and taken apart. */
export function generateBatchOptions(options: unknown): {
  ordered: boolean
  concurrency: number | undefined
  n: number
  generate: GenerateOptions
} {
  const { ordered, concurrency, n = 1, ...generate } = fields(options, '', BATCH_FIELDS, SYNONYMS)
  return {
    ordered: ordered ?? false,
    concurrency,
    n,
    generate: checkToolOptions(checkTemplate(generate)),
  }
}

/** The options of the `generate` function, checked and taken apart. */
export function generateOnceOptions(options: unknown): {
  load: LoadModelOptions
  generate: GenerateOptions
} {
  const { signal, ...checked } = fields(options, '', { ...ONCE_FIELDS, ...LOAD_FIELDS }, SYNONYMS)
  // The signal is the generation's, which ends the loading itself.
  const [load, generate] = [true, false].map((wanted) =>
    Object.fromEntries(Object.entries(checked).filter(([name]) => name in LOAD_FIELDS === wanted)),
  )
  return {
    load: load ?? {},
    generate: checkToolOptions(
      checkTemplate<GenerateOptions>({
        ...generate,
        ...(signal === undefined ? {} : { signal }),
      }),
    ),
  }
}

/** The options of `model.createPromptCache`, checked. */
export function promptCacheOptions(options: unknown): NativeCacheLimits {
  const { maxKvSize, kvBits, kvGroupSize } = checkCacheOptions(fields(options, '', CACHE_FIELDS))
  return {
    ...(maxKvSize === undefined ? {} : { maxKvSize }),
    ...(kvBits === undefined ? {} : { kvBits }),
    ...(kvGroupSize === undefined ? {} : { kvGroupSize }),
  }
}

function checkCacheOptions<T extends PromptCacheOptions>(options: T): T {
  if (options.kvGroupSize !== undefined && options.kvBits === undefined) {
    throw invalidArgument('kvGroupSize', 'has no effect without kvBits')
  }
  return options
}

/** The options of `model.applyChatTemplate`: their names and types. */
export function chatTemplateOptions(options: unknown): ChatTemplateOptions {
  return checkTemplate(fields(options, '', TEMPLATE_FIELDS, SYNONYMS))
}

/** The options of `model.countTokens`, checked. */
export function promptOptions(options: unknown): PromptOptions {
  return checkTemplate(fields(options, '', PROMPT_FIELDS, SYNONYMS))
}

/** The options of `model.decide`: their names and types. */
export function decideOptions(options: unknown): DecideOptions {
  return checkTemplate(fields(options, '', DECIDE_FIELDS, SYNONYMS))
}

/** The options of `model.score`: their names and types. */
export function scoreOptions(options: unknown): ScoreOptions {
  return checkTemplate(fields(options, '', SCORE_FIELDS, SYNONYMS))
}

/** The options of `model.embed`: their names and types. */
export function embedOptions(options: unknown): EmbedOptions {
  return fields(options, '', EMBED_FIELDS, { ...SYNONYMS, promptName: 'task' })
}

/** The options of `model.rerank`: their names and types. */
export function rerankOptions(options: unknown): RerankOptions {
  return fields(options, '', RERANK_FIELDS, { ...SYNONYMS, topK: 'topN' })
}

/** The options of `model.tokenize`, checked. */
export function tokenizeOptions(options: unknown): TokenizeOptions {
  return checkTemplate(
    fields(options, '', { ...PROMPT_FIELDS, addSpecialTokens: boolean }, SYNONYMS),
  )
}

/** The boolean option `name` of a method that has no other. */
export function booleanOption(options: unknown, name: string, fallback: boolean): boolean {
  return fields(options, '', { [name]: boolean })[name] ?? fallback
}

/**
 * Refuses options that each are right, but name no token of this model, or would do nothing with
 * the others: nothing is silently ignored.
 */
export function checkForModel(options: GenerateOptions, info: ModelInfo): void {
  const { repetitionPenalty, presencePenalty, frequencyPenalty, xtcProbability } = options
  const penalty =
    repetitionPenalty ??
    info.generationDefaults.repetitionPenalty ??
    presencePenalty ??
    frequencyPenalty
  if (options.penaltyContextSize !== undefined && penalty === undefined) {
    throw invalidArgument('penaltyContextSize', 'has no effect without a penalty')
  }
  checkCacheOptions(options)
  if (options.promptCache !== undefined) {
    const limit = (['maxKvSize', 'kvBits'] as const).find((name) => options[name] !== undefined)
    if (limit !== undefined) {
      throw invalidArgument(limit, 'cannot change a promptCache: give it to createPromptCache')
    }
  }
  const { speculation = false, deterministic = false } = options
  if (speculation !== false && deterministic) {
    throw invalidArgument(
      'speculation',
      'cannot go together with deterministic: how much is guessed follows from how long steps take',
    )
  }
  if (options.xtcThreshold !== undefined && xtcProbability === undefined) {
    throw invalidArgument('xtcThreshold', 'has no effect without xtcProbability')
  }
  checkSampling(options)
  const unknown = Object.keys(options.logitBias ?? {}).find(
    (token) => Number(token) >= info.vocabularySize,
  )
  if (unknown !== undefined) {
    throw invalidArgument(
      `logitBias[${unknown}]`,
      `is not a token of this model, whose tokens are 0 to ${info.vocabularySize - 1}`,
    )
  }
}

/** What has no effect without another option, or beside it. */
function checkSampling(options: GenerateOptions): void {
  const needs = (names: readonly (keyof GenerateOptions)[], other: keyof GenerateOptions): void => {
    const name = names.find((name) => options[name] !== undefined)
    if (name !== undefined && !options[other])
      throw invalidArgument(name, `has no effect without ${other}`)
  }
  const random = RANDOM.find((name) => options[name])
  if (options.temperature === 0 && random !== undefined)
    throw invalidArgument(random, 'has no effect with temperature: 0')
  needs(['mirostatTau', 'mirostatEta'], 'mirostat')
  needs(['dynamicTemperatureExponent'], 'dynamicTemperatureRange')
  needs(['dryBase', 'dryAllowedLength', 'dryContextSize', 'drySequenceBreakers'], 'dryMultiplier')
  if (options.mirostat !== 2) return
  const filter = FILTERS.find((name) => options[name] !== undefined)
  if (filter !== undefined)
    throw invalidArgument(filter, 'has no effect beside mirostat, which takes its place')
}

/** What changes a choice among several tokens, other than the filters that keep the likeliest. */
const RANDOM = ['mirostat', 'xtcProbability', 'dynamicTemperatureRange'] as const

/** What mirostat takes the place of. */
const FILTERS = [
  'topP',
  'topK',
  'minP',
  'typicalP',
  'topNSigma',
  'xtcProbability',
  'dynamicTemperatureRange',
] as const

/** The options that the addon takes as they are. */
const NATIVE_OPTIONS = [
  'minTokens',
  'maxTimeMs',
  'typicalP',
  'topNSigma',
  'dynamicTemperatureRange',
  'dynamicTemperatureExponent',
  'mirostat',
  'mirostatTau',
  'mirostatEta',
  'dryMultiplier',
  'dryBase',
  'dryAllowedLength',
  'dryContextSize',
  'maxTokens',
  'temperature',
  'topP',
  'topK',
  'minP',
  'seed',
  'deterministic',
  'priority',
  'skipSpecialTokens',
  'repetitionPenalty',
  'penaltyContextSize',
  'presencePenalty',
  'frequencyPenalty',
  'xtcProbability',
  'xtcThreshold',
  'maxKvSize',
  'kvBits',
  'kvGroupSize',
  'parseToolCalls',
  'toolFormat',
  'reasoningFormat',
] as const

/** The addon's form of the options that go with a prompt; what was left out is not there. */
export function nativeSettings(options: GenerateOptions): Omit<NativeGenerateRequest, 'prompt'> {
  const settings: Omit<NativeGenerateRequest, 'prompt'> = nativeToolOptions(options)
  for (const name of NATIVE_OPTIONS) {
    const value = options[name]
    if (value !== undefined) Object.assign(settings, { [name]: value })
  }
  const { stop, logprobs, responseFormat, speculation } = options
  const format = responseFormat && checkedFormat(responseFormat).native
  if (format !== undefined) settings.responseFormat = format
  if (speculation !== undefined) settings.speculation = nativeSpeculation(speculation)
  const stops = stop === undefined ? [] : typeof stop === 'string' || isRegExp(stop) ? [stop] : stop
  const strings = stops.filter((it) => typeof it === 'string')
  const patterns = stops
    .filter((it) => typeof it !== 'string')
    .map((it) => patternSource(it, 'stop'))
  if (strings.length > 0) settings.stop = strings
  if (patterns.length > 0) settings.stopPatterns = patterns
  for (const name of ['stopTokens', 'bannedStrings', 'drySequenceBreakers'] as const) {
    const values = options[name]
    if (values !== undefined) Object.assign(settings, { [name]: [...values] })
  }
  if (logprobs === true) settings.logprobs = 0
  else if (typeof logprobs === 'number') settings.logprobs = logprobs
  if (options.promptCache !== undefined) {
    settings.promptCache = promptCache(options.promptCache, 'promptCache').id
  }
  Object.assign(settings, adapterPart(options))
  if (options.logitBias !== undefined) settings.logitBias = { ...options.logitBias }
  return settings
}
