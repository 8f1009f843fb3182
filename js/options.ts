import { invalidArgument } from './errors.js'
import type { NativeCacheLimits, NativeGenerateRequest } from './native.js'
import { promptCache } from './prompt-cache.js'
import type {
  ChatTemplateOptions,
  GenerateOptions,
  LoadModelOptions,
  LoadProgress,
  ModelInfo,
  PrefillProgress,
  PromptCacheOptions,
  PromptOptions,
  TokenizeOptions,
  ToolDefinition,
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

const MAX_TOKENS = 2 ** 31 - 1

/** What other libraries call our options. */
const SYNONYMS = {
  abortSignal: 'signal',
  chatTemplateKwargs: 'chatTemplateOptions',
  cpuThreads: 'threads',
  maxCompletionTokens: 'maxTokens',
  maxLength: 'maxTokens',
  maxNewTokens: 'maxTokens',
  maxOutputTokens: 'maxTokens',
  nThreads: 'threads',
  numPredict: 'maxTokens',
  numThread: 'threads',
  numThreads: 'threads',
  onLoadProgress: 'onProgress',
  progressCallback: 'onProgress',
  randomSeed: 'seed',
  repeatLastN: 'repetitionContextSize',
  repeatPenalty: 'repetitionPenalty',
  stopSequences: 'stop',
  stopStrings: 'stop',
  temp: 'temperature',
  topLogprobs: 'logprobs',
}

/** A check for every option that a type knows, so that neither list can grow without the other. */
type FieldsOf<Options> = { [K in keyof Required<Options>]: Check<NonNullable<Options[K]>> }

const LOAD_FIELDS = {
  device: oneOf('auto', 'gpu', 'cpu'),
  dtype: oneOf('auto', 'float32', 'bfloat16', 'float16'),
  threads: integer(1, 1024),
  precision: oneOf('fast', 'exact'),
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
  const at = value instanceof Date || typeof value === 'number' ? new Date(value) : undefined
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
  chat_template: 'the option template',
}

const TEMPLATE_FIELDS = {
  tools: arrayOf(record<ToolDefinition>(), 'an array of tools'),
  documents: arrayOf(record<Record<string, unknown>>(), 'an array of documents'),
  addGenerationPrompt: boolean,
  continueFinalMessage: boolean,
  continueField: nonEmptyString,
  now: time,
  template: nonEmptyString,
  variables: record<Record<string, unknown>>(),
} satisfies FieldsOf<ChatTemplateOptions>

const TEMPLATE_SYNONYMS = {
  chatTemplate: 'template',
  functions: 'tools',
  kwargs: 'variables',
  chatTemplateKwargs: 'variables',
}

function templateOptions(value: unknown, option: string): ChatTemplateOptions {
  const checked = fields(value, option, TEMPLATE_FIELDS, TEMPLATE_SYNONYMS)
  const within = option === '' ? '' : `${option}.`
  for (const name of Object.keys(checked.variables ?? {})) {
    const instead = Object.hasOwn(RESERVED_VARIABLES, name) ? RESERVED_VARIABLES[name] : undefined
    if (instead !== undefined)
      throw invalidArgument(
        `${within}variables.${name}`,
        `is no free name; what templates read there is ${instead}`,
      )
  }
  if (checked.continueField !== undefined && checked.continueFinalMessage !== true)
    throw invalidArgument(
      `${within}continueField`,
      'has no effect without continueFinalMessage: true',
    )
  if (checked.addGenerationPrompt === true && checked.continueFinalMessage === true) {
    throw invalidArgument(
      `${within}continueFinalMessage`,
      'cannot go together with addGenerationPrompt: the one leaves the last message open, the other begins a new one',
    )
  }
  return checked
}

const bias = number({ min: -100, max: 100 })

/** Numbers by token; a token beyond the vocabulary is for the model to find. */
function logitBias(value: unknown, option: string): Record<number, number> {
  if (!isPlainObject(value)) {
    throw invalidArgument(option, `expected an object of numbers by token, got ${show(value)}`)
  }
  for (const [token, item] of Object.entries(value)) {
    if (!/^\d{1,10}$/.test(token)) {
      throw invalidArgument(`${option}[${show(token)}]`, 'is not a token, a whole number from 0')
    }
    bias(item, `${option}[${token}]`)
  }
  return value as Record<number, number>
}

const CACHE_FIELDS = {
  maxKvSize: integer(16, MAX_TOKENS),
  kvBits: oneOf(4, 8),
  kvGroupSize: oneOf(32, 64, 128),
} satisfies FieldsOf<PromptCacheOptions>

const PROMPT_FIELDS = {
  chatTemplateOptions: templateOptions,
  splitSpecialTokens: boolean,
} satisfies FieldsOf<PromptOptions>

const ONCE_FIELDS = {
  maxTokens: integer(1, MAX_TOKENS),
  temperature: number({ min: 0, max: 10 }),
  topP: number({ above: 0, max: 1 }),
  topK: integer(0, MAX_TOKENS),
  minP: number({ min: 0, max: 1 }),
  seed: integer(0, Number.MAX_SAFE_INTEGER),
  stop: arrayOf(nonEmptyString, "an array of strings, such as ['\\n\\n']"),
  skipSpecialTokens: boolean,
  repetitionPenalty: number({ above: 0, max: 10 }),
  repetitionContextSize: integer(1, MAX_TOKENS),
  presencePenalty: number({ min: -2, max: 2 }),
  frequencyPenalty: number({ min: -2, max: 2 }),
  logitBias,
  xtcProbability: number({ min: 0, max: 1 }),
  xtcThreshold: number({ min: 0, max: 0.5 }),
  logprobs: integer(0, 20),
  ...CACHE_FIELDS,
  ...PROMPT_FIELDS,
  onPrefill: callback<(progress: PrefillProgress) => void>(),
  signal: abortSignal,
} satisfies FieldsOf<Omit<GenerateOptions, 'promptCache'>>

const GENERATE_FIELDS = { ...ONCE_FIELDS, promptCache } satisfies FieldsOf<GenerateOptions>

/** The options of `loadModel`, checked. */
export function loadOptions(options: unknown): LoadModelOptions {
  return fields(options, '', LOAD_FIELDS, SYNONYMS)
}

/** The options of `model.generate`, checked. */
export function generateOptions(options: unknown): GenerateOptions {
  return fields(options, '', GENERATE_FIELDS, SYNONYMS)
}

/** The options of the `generate` function, checked and taken apart. */
export function generateOnceOptions(options: unknown): {
  load: LoadModelOptions
  generate: GenerateOptions
} {
  const { device, dtype, threads, precision, onProgress, ...generate } = fields(
    options,
    '',
    { ...ONCE_FIELDS, ...LOAD_FIELDS },
    SYNONYMS,
  )
  return { load: { device, dtype, threads, precision, onProgress }, generate }
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

/** The options of `model.applyChatTemplate`, checked. */
export function chatTemplateOptions(options: unknown): ChatTemplateOptions {
  return templateOptions(options, '')
}

/** The options of `model.countTokens`, checked. */
export function promptOptions(options: unknown): PromptOptions {
  return fields(options, '', PROMPT_FIELDS, SYNONYMS)
}

/** The options of `model.tokenize`, checked. */
export function tokenizeOptions(options: unknown): TokenizeOptions {
  return fields(options, '', { ...PROMPT_FIELDS, addSpecialTokens: boolean }, SYNONYMS)
}

/** The boolean option `name` of a method that has no other. */
export function booleanOption(options: unknown, name: string, fallback: boolean): boolean {
  return fields(options, '', { [name]: boolean })[name] ?? fallback
}

/** Refuses options that each are right, but name no token of this model, or would do nothing with the others: nothing is silently ignored. */
export function checkForModel(options: GenerateOptions, info: ModelInfo): void {
  const { repetitionPenalty, presencePenalty, frequencyPenalty, xtcProbability } = options
  const penalty =
    repetitionPenalty ??
    info.generationDefaults.repetitionPenalty ??
    presencePenalty ??
    frequencyPenalty
  if (options.repetitionContextSize !== undefined && penalty === undefined) {
    throw invalidArgument('repetitionContextSize', 'has no effect without repetitionPenalty')
  }
  checkCacheOptions(options)
  if (options.promptCache !== undefined) {
    const limit = (['maxKvSize', 'kvBits'] as const).find((name) => options[name] !== undefined)
    if (limit !== undefined) {
      throw invalidArgument(limit, 'cannot change a promptCache: give it to createPromptCache')
    }
  }
  if (options.xtcThreshold !== undefined && xtcProbability === undefined) {
    throw invalidArgument('xtcThreshold', 'has no effect without xtcProbability')
  }
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

/** The options that the addon takes as they are. */
const NATIVE_OPTIONS = [
  'maxTokens',
  'temperature',
  'topP',
  'topK',
  'minP',
  'seed',
  'skipSpecialTokens',
  'repetitionPenalty',
  'repetitionContextSize',
  'presencePenalty',
  'frequencyPenalty',
  'xtcProbability',
  'xtcThreshold',
  'logprobs',
  'maxKvSize',
  'kvBits',
  'kvGroupSize',
] as const

/** The addon's form of the options that go with a prompt; what was left out is not there. */
export function nativeSettings(options: GenerateOptions): Omit<NativeGenerateRequest, 'prompt'> {
  const settings: Omit<NativeGenerateRequest, 'prompt'> = {}
  for (const name of NATIVE_OPTIONS) {
    const value = options[name]
    if (value !== undefined) Object.assign(settings, { [name]: value })
  }
  if (options.stop !== undefined) settings.stop = [...options.stop]
  if (options.promptCache !== undefined) {
    settings.promptCache = promptCache(options.promptCache, 'promptCache').id
  }
  if (options.logitBias !== undefined) settings.logitBias = { ...options.logitBias }
  return settings
}
