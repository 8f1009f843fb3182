import type {
  LanguageModelV4CallOptions,
  LanguageModelV4FunctionTool,
  SharedV4Warning,
} from '@ai-sdk/provider'
import { invalidArgument, NodeMlxError, optionError } from '../errors.js'
import type { GenerateOptions, Message, ToolDefinition } from '../types.js'
import { boolean, isPlainObject, show } from '../validate.js'
import { nucleus } from '../nucleus.js'
import { headerWarnings } from './headers.js'
import { toMessages } from './prompt.js'

/**
 * Options for this provider alone: `providerOptions: { nodemlx: { … } }`. Those of `generate` that
 * the AI SDK has no name for, and what says how a schema is used.
 */
export interface NodeMlxLanguageModelOptions extends Omit<GenerateOptions, CalledOtherwise> {
  /**
   * Tell the model the schema of `responseFormat` in the system message. What it writes follows the
   * schema in any case; told, it also knows what is meant. @defaultValue true
   */
  schemaInPrompt?: boolean | undefined
  /**
   * Refuse a schema with a keyword that cannot be enforced; `false` warns and leaves it out.
   *
   * @defaultValue true
   */
  strictSchema?: boolean | undefined
}

/** What the AI SDK's own options say, and what is no JSON; each with what says it. */
const CALLED_OTHERWISE = {
  maxTokens: 'maxOutputTokens',
  temperature: 'temperature',
  topP: 'topP',
  topK: 'topK',
  presencePenalty: 'presencePenalty',
  frequencyPenalty: 'frequencyPenalty',
  seed: 'seed',
  stop: 'stopSequences',
  tools: 'tools',
  toolChoice: 'toolChoice',
  signal: 'abortSignal',
  onPrefill: undefined,
  promptCache: undefined,
  continueField: undefined,
  continueFinalMessage: undefined,
  addGenerationPrompt: undefined,
} as const

type CalledOtherwise = keyof typeof CALLED_OTHERWISE

/** An error about an option, by the name that the AI SDK has for it. */
export function byCalledName(error: unknown): unknown {
  if (!(error instanceof NodeMlxError)) return error
  const { code, option = '', problem } = error
  const [, name = '', rest = ''] = /^(\w+)(.*)$/s.exec(option) ?? []
  const called = Object.hasOwn(CALLED_OTHERWISE, name)
    ? CALLED_OTHERWISE[name as CalledOtherwise]
    : undefined
  if (called === undefined || called === name || problem === undefined) return error
  return optionError(code, `${called}${rest}`, problem)
}

/** What a call asks of a model. */
export interface Order {
  messages: Message[]
  options: GenerateOptions
  warnings: SharedV4Warning[]
}

/** The options of a call as those of `generate`; each is honoured, or there is a warning. */
export function toOrder(call: LanguageModelV4CallOptions, provider: string): Order {
  const warnings: SharedV4Warning[] = []
  const own = ownOptions(call, provider)
  const messages = toMessages(call.prompt, warnings)
  const { schemaInPrompt = true, strictSchema, ...more } = own
  const options: Record<string, unknown> = {
    ...more,
    maxTokens: call.maxOutputTokens,
    temperature: call.temperature,
    topP: nucleus(call.topP),
    topK: call.topK,
    presencePenalty: call.presencePenalty,
    frequencyPenalty: call.frequencyPenalty,
    seed: call.seed,
    signal: call.abortSignal,
    ...reasoningOption(call, warnings),
    ...toolOptions(call, warnings),
  }
  if (call.stopSequences !== undefined && call.stopSequences.length > 0)
    options['stop'] = call.stopSequences
  const format = call.responseFormat
  if (format?.type === 'json') {
    const { schema, name, description } = format
    options['responseFormat'] = {
      type: 'json',
      ...(schema === undefined ? {} : { schema }),
      ...(name === undefined || schema === undefined ? {} : { name }),
      ...(strictSchema === undefined || schema === undefined ? {} : { strict: strictSchema }),
    }
    const { tools = [], toolChoice } = options as GenerateOptions
    const calls = tools.length > 0 && toolChoice !== 'none'
    if (schemaInPrompt) addToSystem(messages, jsonInstruction(calls, schema, name, description))
  }
  warnings.push(...headerWarnings(call.headers))
  // What was left out is for the model to say.
  const given = Object.entries(options).filter(([, value]) => value !== undefined)
  return { messages, options: Object.fromEntries(given), warnings }
}

function ownOptions(
  { providerOptions }: LanguageModelV4CallOptions,
  provider: string,
): NodeMlxLanguageModelOptions {
  const where = `providerOptions.${provider}`
  const own: unknown = providerOptions?.[provider]
  if (own === undefined) return {}
  if (!isPlainObject(own)) throw invalidArgument(where, `expected an object, got ${show(own)}`)
  for (const [name, instead] of Object.entries(CALLED_OTHERWISE)) {
    if (own[name] === undefined) continue
    throw invalidArgument(
      `${where}.${name}`,
      instead === undefined ? 'cannot be given here' : `is the AI SDK's own option ${instead}`,
    )
  }
  for (const name of ['schemaInPrompt', 'strictSchema'])
    if (own[name] !== undefined) boolean(own[name], `${where}.${name}`)
  return own
}

/** What the AI SDK's efforts are here. */
const EFFORTS = {
  none: 'off',
  minimal: 'low',
  low: 'low',
  medium: 'medium',
  high: 'high',
  xhigh: 'high',
  max: 'high',
} as const

function reasoningOption(
  { reasoning }: LanguageModelV4CallOptions,
  warnings: SharedV4Warning[],
): object {
  if (reasoning === undefined || reasoning === 'provider-default') return {}
  // Programs without types may give anything.
  if (!Object.hasOwn(EFFORTS, reasoning)) {
    warnings.push({
      type: 'unsupported',
      feature: 'reasoning',
      details: `there is no effort '${reasoning}'; there are ${Object.keys(EFFORTS).join(', ')}`,
    })
    return {}
  }
  const effort = EFFORTS[reasoning]
  if (effort !== reasoning && reasoning !== 'none')
    warnings.push({
      type: 'compatibility',
      feature: 'reasoning',
      details: `'${reasoning}' is taken for '${effort}'`,
    })
  return { reasoning: effort }
}

function toolOptions(
  { tools = [], toolChoice }: LanguageModelV4CallOptions,
  warnings: SharedV4Warning[],
): object {
  const usable = tools.flatMap((tool) => {
    if (tool.type === 'function') return [toDefinition(tool)]
    warnings.push({ type: 'unsupported', feature: `provider-defined tool ${tool.id}` })
    return []
  })
  if (usable.length === 0) {
    if (toolChoice?.type === 'required' || toolChoice?.type === 'tool')
      warnings.push({
        type: 'unsupported',
        feature: 'toolChoice',
        details: `'${toolChoice.type}' needs a tool that can be called, and there is none`,
      })
    return {}
  }
  // The AI SDK checks calls itself, and may have them mended.
  const given = { tools: usable, validateToolCalls: false }
  if (toolChoice === undefined) return given
  const choice = toolChoice.type === 'tool' ? { name: toolChoice.toolName } : toolChoice.type
  return { ...given, toolChoice: choice }
}

function toDefinition(tool: LanguageModelV4FunctionTool): ToolDefinition {
  const { name, description, inputSchema, inputExamples = [], strict } = tool
  const examples = inputExamples.map(({ input }) => `Example: ${JSON.stringify(input)}`)
  const described = [...(description === undefined ? [] : [description]), ...examples].join('\n')
  return {
    type: 'function',
    function: {
      name,
      ...(described === '' ? {} : { description: described }),
      parameters: inputSchema as Record<string, unknown>,
      ...(strict === undefined ? {} : { strict }),
    },
  }
}

function jsonInstruction(
  calls: boolean,
  schema?: object,
  name?: string,
  description?: string,
): string {
  const answer = calls ? 'Where you do not call a tool, answer' : 'Answer'
  const what = [name, description].filter((part) => part !== undefined).join(': ')
  const of = what === '' ? '' : ` (${what})`
  if (schema === undefined) return `${answer} with JSON${of} and nothing else.`
  const rules = JSON.stringify(schema)
  return `${answer} with JSON${of} that follows this schema, and nothing else:\n${rules}`
}

function addToSystem(messages: Message[], text: string): void {
  const [first] = messages
  if (first?.role === 'system')
    messages[0] = { ...first, content: `${first.content as string}\n\n${text}` }
  else messages.unshift({ role: 'system', content: text })
}
