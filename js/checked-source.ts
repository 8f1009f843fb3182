import {
  UserError,
  type Source,
  type SourceBatch,
  type SourceEnd,
  type SourcePiece,
} from './generation.js'
import { callId } from './pieces.js'
import { isStandardSchema } from './response-format.js'
import { schemaProblem } from './schema-check.js'
import { toolDefinition, toolName, toolParameters } from './tools.js'
import type { AnyTool, GeneratedToolCall, GenerateOptions, ModelInfo } from './types.js'
import { show } from './validate.js'

/**
 * Follows a generation. Calls that are no calls of the tools, by their names or their arguments, are
 * invalid, and an answer that fills the context says so.
 */
export class CheckedSource implements Source {
  readonly #source: Source
  readonly #tools: readonly AnyTool[]
  readonly #contextLength: number | undefined
  /** The calls that have begun and not ended, by their index. */
  readonly #open = new Map<number, { id: string; name: string; json: string }>()
  #interrupt: () => void = () => undefined
  readonly #aborted = new Promise<void>((resolve) => {
    this.#interrupt = resolve
  })

  constructor(source: Source, options: GenerateOptions, { contextLength }: ModelInfo) {
    this.#source = source
    this.#tools = options.validateToolCalls === false ? [] : (options.tools ?? [])
    this.#contextLength = contextLength
  }

  abort(): void {
    this.#interrupt()
    this.#source.abort()
  }

  async next(): Promise<SourceBatch> {
    const batch = await this.#source.next()
    const checked: SourceBatch = { ...batch }
    if (batch.done !== undefined) checked.done = this.#ended(batch.done)
    if (batch.pieces === undefined || this.#tools.length === 0) return checked
    const pieces: SourcePiece[] = []
    for (const piece of batch.pieces) pieces.push(await this.#checked({ ...piece }))
    return { ...checked, pieces }
  }

  async #checked(piece: SourcePiece): Promise<SourcePiece> {
    const { type, index, text } = piece
    const open = this.#open.get(index)
    if (type === 'tool-call-start') {
      const id = piece.id ?? callId()
      this.#open.set(index, { id, name: text, json: '' })
      return { ...piece, id }
    }
    if (type === 'tool-call-delta' && open !== undefined) open.json += text
    if (type === 'tool-call-invalid') this.#open.delete(index)
    if (type !== 'tool-call-end' || open === undefined) return piece
    this.#open.delete(index)
    const { id, name, json } = open
    const args = JSON.parse(json) as Record<string, unknown>
    // A tool's own schema may take as long as it likes.
    const error = await Promise.race([
      callProblem(this.#tools, name, args),
      this.#aborted.then((): undefined => undefined),
    ])
    if (error === undefined) return piece
    const raw = `{"name":${JSON.stringify(name)},"arguments":${json}}`
    const call: GeneratedToolCall = { id, name, arguments: args }
    return { ...piece, type: 'tool-call-invalid', text: raw, error, call }
  }

  #ended(done: SourceEnd): SourceEnd {
    const { finishReason, matched, usage } = done
    const limit = this.#contextLength
    const total = usage.promptTokens + usage.completionTokens
    if (limit === undefined || finishReason !== 'length' || matched !== undefined || total < limit)
      return done
    return { ...done, matched: { kind: 'context', number: limit } }
  }
}

/** What is wrong with a call of one of these tools; `undefined` is nothing. */
async function callProblem(
  tools: readonly AnyTool[],
  name: string,
  args: Record<string, unknown>,
): Promise<string | undefined> {
  const tool = tools.find((it) => toolName(it) === name)
  if (tool === undefined)
    return `there is no tool ${show(name)}; there are ${tools.map(toolName).join(', ')}`
  const problem = await argumentsProblem(tool, args)
  return problem === undefined ? undefined : `the arguments are invalid: ${problem}`
}

async function argumentsProblem(
  tool: AnyTool,
  args: Record<string, unknown>,
): Promise<string | undefined> {
  if (!isStandardSchema(toolParameters(tool)))
    return schemaProblem(toolDefinition(tool, 'tool').function.parameters, args)
  const outcome = await parsedArguments(tool, args)
  return 'problem' in outcome ? outcome.problem : undefined
}

/** The arguments as the tool's own schema gives them, where it is a library's. */
export async function parsedArguments(
  tool: AnyTool,
  args: Record<string, unknown>,
): Promise<{ value: unknown } | { problem: string }> {
  const schema = toolParameters(tool)
  if (!isStandardSchema(schema)) return { value: args }
  let outcome: {
    value?: unknown
    issues?: readonly { message: string; path?: readonly unknown[] }[] | undefined
  }
  try {
    outcome = await schema['~standard'].validate(structuredClone(args))
  } catch (error) {
    throw new UserError(error)
  }
  if (outcome.issues === undefined) return { value: outcome.value }
  const problems = outcome.issues.map(({ message, path = [] }) => {
    const keys = path.map((key) =>
      String(typeof key === 'object' && key !== null && 'key' in key ? key.key : key),
    )
    return keys.length === 0 ? message : `${keys.join('.')}: ${message}`
  })
  return { problem: problems.join('; ') }
}
