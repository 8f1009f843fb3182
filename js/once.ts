import { NOTHING, PulledGeneration, type Source, type SourceBatch } from './generation.js'
import { Loading, type LoadedModel } from './model.js'
import { generateOnceOptions } from './options.js'
import { checkRanges } from './ranges.js'
import { checkPrompt, type CheckedPrompt } from './prompt.js'
import type {
  AnyTool,
  GenerateOnceOptions,
  GenerateOptions,
  Generation,
  Prompt,
  SchemaOutput,
  StandardSchema,
  ToolCallOf,
  WithSchema,
  WithTools,
} from './types.js'
import { nonEmptyString } from './validate.js'

/**
 * Loads a model, generates, and disposes of the model: for programs that ask once. It returns at
 * once, and gives the same kind of generation as `model.generate`; an abort ends the loading, too.
 *
 * @throws NodeMlxError at once when an argument is invalid.
 */
export function generate<
  Schema extends StandardSchema,
  const Tools extends readonly AnyTool[] = AnyTool[],
>(
  model: string,
  prompt: Prompt,
  options: WithTools<WithSchema<GenerateOnceOptions, Schema>, Tools>,
): Generation<SchemaOutput<Schema>, ToolCallOf<Tools>>
export function generate<const Tools extends readonly AnyTool[] = AnyTool[]>(
  model: string,
  prompt: Prompt,
  options?: WithTools<GenerateOnceOptions, Tools>,
): Generation<unknown, ToolCallOf<Tools>>
export function generate(model: string, prompt: Prompt, options?: GenerateOnceOptions): Generation {
  const { load, generate: settings } = generateOnceOptions(options)
  const name = nonEmptyString(model, 'model')
  const checked = checkPrompt(prompt, settings)
  checkRanges(load, settings)
  const { signal, onPrefill, responseFormat } = settings
  const source =
    signal?.aborted === true
      ? NOTHING
      : new LoadingSource(new Loading(name, load), checked, settings)
  return new PulledGeneration(source, { signal, onPrefill, responseFormat })
}

/** A model that is loaded first, and disposed of with the last event. */
class LoadingSource implements Source {
  readonly #loading: Loading
  readonly #started: Promise<{ model: LoadedModel; generation: Source }>
  #generation: Source | undefined
  #aborted = false

  constructor(loading: Loading, prompt: CheckedPrompt, options: GenerateOptions) {
    this.#loading = loading
    this.#started = this.#start(prompt, options)
    // Nobody may ever ask for events; then nobody wants to hear of errors, either.
    this.#started.catch(() => undefined)
  }

  async #start(
    prompt: CheckedPrompt,
    options: GenerateOptions,
  ): Promise<{ model: LoadedModel; generation: Source }> {
    const model = await this.#loading.model
    try {
      this.#generation = model.prepare(prompt, options)()
      if (this.#aborted) this.#generation.abort()
      return { model, generation: this.#generation }
    } catch (error) {
      await model.dispose()
      throw error
    }
  }

  async next(): Promise<SourceBatch> {
    let started
    try {
      started = await this.#started
    } catch (error) {
      if (this.#aborted) return NOTHING.next()
      throw error
    }
    const { model, generation } = started
    try {
      const batch = await generation.next()
      if (batch.done !== undefined) await model.dispose()
      return batch
    } catch (error) {
      await model.dispose()
      throw error
    }
  }

  abort(): void {
    this.#aborted = true
    this.#generation?.abort()
    this.#loading.abort()
  }
}
