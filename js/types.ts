/// <reference lib="esnext.disposable" preserve="true" />

/**
 * Where a model's arithmetic runs. `'auto'` takes the GPU (Metal or CUDA) where there is one, else
 * the CPU.
 */
export type Device = 'auto' | 'gpu' | 'cpu'

/**
 * The type of activations and unquantized weights. `'auto'` keeps the checkpoint's own type where
 * the device is fast at it.
 */
export type Dtype = 'auto' | 'float32' | 'bfloat16' | 'float16'

/**
 * How precise the CPU is. `'fast'` rounds activations that are multiplied with quantized weights to
 * 16 bits in groups of at most 64, and keeps keys and values of checkpoints in bfloat16 or float16
 * as float16 (unless `dtype` is given); `'fastest'` rounds activations to 8 bits where many tokens
 * are read at once, as those of a prompt or of eight and more answers that are written together,
 * and is else as `'fast'`; `'exact'` keeps all in float32. What that changes stands in
 * docs/benchmarks.md.
 */
export type Precision = 'fastest' | 'fast' | 'exact'

/** How far a model has been downloaded and loaded. */
export interface LoadProgress {
  /**
   * What is being done now: `'download'`, then `'weights'`, `'tokenizer'` and on an NVIDIA card
   * `'kernels'`, which are compiled for the card the first time that a model needs them; or in a
   * conversion `'calibrate'` and `'convert'`.
   */
  stage: string
  /**
   * Bytes done so far: while downloading of all files, those included that were there before; then
   * of weights that were read, or in a conversion measured or written.
   */
  loadedBytes: number
  /** Bytes in all, of the same. */
  totalBytes: number
  /** While downloading: the file that the report is about. */
  file?: string
  /** Bytes of that file so far. */
  fileLoadedBytes?: number
  /** Bytes of that file in all. */
  fileTotalBytes?: number
  /** While downloading: bytes per second over the last seconds. */
  rate?: number
  /** While downloading: how long it will take at this rate. */
  remainingSeconds?: number
  /**
   * While nothing comes: what is waited for, such as another process that downloads the file, or a
   * hub that asks for patience.
   */
  waiting?: string
}

/** Where models that are named `owner/name` come from, and where they are kept. */
export interface HubOptions {
  /**
   * A branch, a tag, a commit or its beginning, or a reference such as `'refs/pr/1'`.
   *
   * @defaultValue that of the name, else `'main'`
   */
  revision?: string | undefined
  /**
   * Sent to the hub alone; `false` sends none.
   *
   * @defaultValue `HF_TOKEN`, or what `hf auth login` wrote
   */
  token?: string | false | undefined
  /** @defaultValue `HF_ENDPOINT`, or `'https://huggingface.co'` */
  endpoint?: string | undefined
  /**
   * The folder of the cache.
   *
   * @defaultValue `HF_HUB_CACHE`, or `hub` in `HF_HOME` or `~/.cache/huggingface`
   */
  cacheDir?: string | undefined
  /** Use what is in the cache, and no network. @defaultValue `HF_HUB_OFFLINE` */
  offline?: boolean | undefined
  /** Makes all requests, in place of the platform's own. */
  fetch?: typeof globalThis.fetch | undefined
}

/** Options of `downloadModel`. */
export interface DownloadModelOptions extends HubOptions {
  /**
   * Download the files of these patterns, and not those that a model needs: `*` also goes through
   * folders.
   */
  include?: readonly string[] | undefined
  /** Leave out the files of these patterns. */
  exclude?: readonly string[] | undefined
  /**
   * Read the files that are there, and download those again whose hash is another than the hub's.
   *
   * @defaultValue false
   */
  verify?: boolean | undefined
  /**
   * Called while files come, about ten times in a second. An exception thrown in it ends the
   * download, which then rejects with it.
   */
  onProgress?: ((progress: LoadProgress) => void) | undefined
  /**
   * Aborts the download, which then rejects with the code `ABORTED`. What has come is kept, and is
   * gone on from the next time.
   */
  signal?: AbortSignal | undefined
}

/** A model that was downloaded. */
export interface DownloadedModel {
  /** The folder of its files. */
  path: string
  /** The commit. */
  revision: string
  /** Bytes of all files in the folder. */
  bytes: number
  /** Those of them that came over the network this time. */
  downloadedBytes: number
}

/** A repository in the cache. */
export interface StoredModel {
  /** `owner/name` */
  id: string
  /** Bytes on the disk; revisions share the files in which they do not differ. */
  bytes: number
  lastUsed: Date
  revisions: StoredRevision[]
}

/** A commit in the cache. */
export interface StoredRevision {
  /** The commit. */
  revision: string
  /** Branches and tags that are at this commit. */
  references: string[]
  /** The folder of its files. */
  path: string
  /** Bytes of its files. */
  bytes: number
  /** Whether nothing is missing that loading needs. */
  complete: boolean
  /** `model_type` of its `config.json`. */
  modelType?: string
  /** Whether its architecture runs here. */
  runs: boolean
  lastUsed: Date
}

/** Options of `convertModel`. Without any of the first five nothing is quantized. */
export interface ConvertModelOptions extends HubOptions {
  /** Bits of a number. @defaultValue what is usual with the mode: 4, or with `'mxfp8'` 8 */
  bits?: 2 | 3 | 4 | 5 | 6 | 8 | undefined
  /** Numbers that share a scale. @defaultValue 64, 32 or 16: what is usual with the mode */
  groupSize?: 16 | 32 | 64 | 128 | undefined
  /** The kind of codes and scales. @defaultValue 'affine' */
  mode?: 'affine' | 'mxfp4' | 'mxfp8' | 'nvfp4' | undefined
  /**
   * Fewer bits for most layers, and more for values and down projections of some of them and for
   * the head.
   */
  recipe?: 'mixed_2_6' | 'mixed_3_4' | 'mixed_3_6' | 'mixed_4_6' | undefined
  /**
   * Bits of single modules by patterns of consecutive parts of their paths, such as `down_proj`,
   * `layers.0` or `layers.*.self_attn`; `null` leaves a module as it is. The last that fits wins.
   */
  layers?: Readonly<Record<string, number | null>> | undefined
  /**
   * Choose the bits of all layers that neither `layers` nor the architecture says, so that the
   * model has the size that is wanted and its predictions of a text change as little as possible.
   */
  calibrate?: CalibrateOptions | undefined
  /**
   * The type of what is not quantized, and of scales.
   *
   * @defaultValue what the configuration says
   */
  dtype?: 'float32' | 'bfloat16' | 'float16' | undefined
  /** An adapter, as `model.loadAdapter` takes it, that is added to the weights first. */
  adapter?: string | undefined
  /** Make numbers of what is quantized. @defaultValue false */
  dequantize?: boolean | undefined
  /** Replace a model that is at the target. @defaultValue false */
  overwrite?: boolean | undefined
  /**
   * Called while the model is downloaded and converted. An exception thrown in it ends the
   * conversion, which then rejects with it.
   */
  onProgress?: ((progress: LoadProgress) => void) | undefined
  /**
   * Aborts the conversion, which then rejects with the code `ABORTED` and leaves nothing behind.
   */
  signal?: AbortSignal | undefined
}

/** By what the bits of layers are chosen. */
export interface CalibrateOptions {
  /**
   * A text of the kind that the model is for. Of a long one the first 4096 tokens are read; a few
   * hundred are enough for most.
   */
  text: string
  /** Bits for each number of the model, scales and what is not quantized included. */
  bits?: number | undefined
  /** Bytes of the model's tensors, in place of `bits`. */
  bytes?: number | undefined
}

/** What a conversion wrote. */
export interface ConvertReport {
  /** The folder. */
  path: string
  /** Numbers of the model; codes count as what they stand for. */
  parameters: number
  /** Bytes of its tensors. */
  bytes: number
  /** Scales and biases included. */
  bitsPerWeight: number
  /** The modules that were quantized. */
  layers: ConvertedLayer[]
}

/** A module that was quantized. */
export interface ConvertedLayer {
  /** Such as `model.layers.0.mlp.down_proj`. */
  path: string
  /** Such as `'affine'`. */
  mode: string
  bits: number
  groupSize: number
  /** How many numbers it stands for. */
  parameters: number
  /** ‖w − ŵ‖ / ‖w‖ of its numbers w and what the codes ŵ stand for. */
  error: number
}

/** Options of `estimateModel`. */
export interface EstimateModelOptions extends HubOptions {
  /**
   * Tokens of a prompt and its answer together.
   *
   * @defaultValue 4096, or the model's own context where that is shorter
   */
  contextLength?: number | undefined
  /** Generations at the same time, each with a context of that length. @defaultValue 1 */
  sequences?: number | undefined
  /** As in `generate`. */
  kvBits?: 4 | 8 | undefined
  /** @defaultValue 'auto' */
  device?: Device | undefined
  signal?: AbortSignal | undefined
}

/** How much memory a model takes, estimated by its configuration and the headers of its weights. */
export interface MemoryEstimate {
  weightsBytes: number
  /** Bytes of the keys and values of one more token, as long as no window is full. */
  cacheBytesPerToken: number
  /** Bytes of the keys, values and states of all sequences. */
  cacheBytes: number
  /** Bytes at the most, working memory included. */
  peakBytes: number
  /** Bytes that models can have on this device. */
  availableBytes: number
  /** The context that this is for. */
  contextLength: number
  /** The largest context that fits, up to the model's own; 0 where not even the weights do. */
  maxContextLength: number
  fits: boolean
  /** Why it fits, or does not. */
  reason: string
}

/** How a generation speculates. */
export interface SpeculationOptions {
  /**
   * How many tokens are guessed each time (1 to 32), whether that pays or not.
   *
   * @defaultValue as many as pay
   */
  draftTokens?: number | undefined
  /** Guess what followed the last tokens where they came before. @defaultValue true */
  lookup?: boolean | undefined
}

/** Options of `loadModel`. */
export interface LoadModelOptions extends HubOptions {
  /** Load the model also where it seems not to fit the memory. @defaultValue false */
  force?: boolean | undefined
  /**
   * An adapter, as `model.loadAdapter` takes it, with which generations run that name no other.
   *
   * @defaultValue none
   */
  adapter?: string | undefined
  /**
   * A smaller model with the same tokenizer that drafts tokens, which this model then reads in one
   * step: see `speculation`. It is loaded beside the model, on the same device; of a loaded model,
   * the folder that it came from.
   *
   * @defaultValue none
   */
  draftModel?: Model | string | undefined
  /**
   * Load the head that predicts more tokens than the next (multi-token prediction), where the
   * checkpoint has one and there is no `draftModel`: with `speculation` it guesses tokens. It takes
   * the memory of about a layer.
   *
   * @defaultValue true
   */
  predictionHeads?: boolean | undefined
  /**
   * How many tokens a prompt and its answer have together at the most: a longer prompt is refused
   * with the code `CONTEXT_OVERFLOW`, and an answer ends there with the reason `'length'`. No more
   * than the model is made for. Models whose contexts were extended by LongRoPE (Phi 3.5, Phi 4
   * mini) are more exact with the length from before the extension
   * (`original_max_position_embeddings`) or less.
   *
   * @defaultValue what the model is made for
   */
  contextLength?: number | undefined
  /** @defaultValue 'auto' */
  device?: Device | undefined
  /** @defaultValue 'auto' */
  dtype?: Dtype | undefined
  /**
   * How many threads may compute at the same time, on the CPU; models that run together share them.
   * Refused on a GPU.
   *
   * @defaultValue the number of physical cores
   */
  threads?: number | undefined
  /** On the CPU; refused on a GPU. @defaultValue 'fast' */
  precision?: Precision | undefined
  /**
   * How many generations run at the same time, at most; the others wait (1 to 1024).
   *
   * @defaultValue 16 on a CPU, 32 on a GPU
   */
  maxSequences?: number | undefined
  /**
   * How long a generation may have to wait for its next token because the prompt of another is
   * read, in milliseconds; shorter waits make prompts slower (1 to 60000).
   *
   * @defaultValue 500 on a CPU, 100 on a GPU
   */
  maxStallMs?: number | undefined
  /**
   * How many bytes the keys, values and states of running generations may take, those of a draft
   * model or a prediction head included. Each is counted with its prompt and all of its
   * `maxTokens`; one that does not fit beside the others waits, one that never could is refused
   * with the code `INSUFFICIENT_MEMORY`.
   *
   * @defaultValue no limit
   */
  memoryBytes?: number | undefined
  /**
   * What generations keep of what they have read, so that a prompt which begins like an earlier one
   * is read from there on; `false` for nothing.
   *
   * @defaultValue a quarter of the memory that the weights leave, from 64 MiB to 8 GiB
   */
  prefixCache?: false | PrefixCacheOptions | undefined
  /**
   * Called while the model is downloaded, about ten times in a second, and loads, at most some
   * dozens of times. An exception thrown in it ends the loading, which then rejects with it.
   */
  onProgress?: ((progress: LoadProgress) => void) | undefined
  /**
   * Aborts the loading, which then rejects with the code `ABORTED` and the signal's reason as
   * `cause`.
   */
  signal?: AbortSignal | undefined
}

/** The option `prefixCache` of `loadModel`. */
export interface PrefixCacheOptions {
  /** The most bytes that are kept in memory; what was not used for longest goes first. */
  memoryBytes?: number | undefined
  /**
   * The most bytes of files, those of all models in {@link PrefixCacheOptions.directory} together.
   * What there is no room for in memory goes there, and what is left at the end of the model or of
   * the process. A later load of the same model, in this process or another one, goes on from it.
   *
   * @defaultValue 0: nothing is written
   */
  diskBytes?: number | undefined
  /**
   * Where the files are. Processes may share it.
   *
   * @defaultValue `nodemlx/prefixes` in `XDG_CACHE_HOME` or `~/.cache`
   */
  directory?: string | undefined
}

/** How a checkpoint's weights are quantized. */
export interface Quantization {
  /** Such as `'affine'`. */
  mode: string
  bits: number
  groupSize: number
  /** Some layers have settings of their own. */
  mixed: boolean
}

/**
 * The sampling settings that a checkpoint's `generation_config.json` recommends. They are used
 * wherever an option is left out.
 */
export interface GenerationDefaults {
  temperature?: number
  topP?: number
  topK?: number
  minP?: number
  repetitionPenalty?: number
  maxTokens?: number
}

/** What is known of a loaded model. */
export interface ModelInfo {
  /** The architecture's name here, such as `'llama'`. */
  readonly architecture: string
  /** `model_type` of the checkpoint's `config.json`. */
  readonly modelType: string
  /** The number of parameters, counted before quantization. */
  readonly parameters: number
  /** Bytes of the weights in memory. */
  readonly bytes: number
  /** `null` where the weights are not quantized. */
  readonly quantization: Readonly<Quantization> | null
  /**
   * How many tokens a prompt and its answer can have together: what the checkpoint says, or
   * `contextLength` of `loadModel`; missing where neither does.
   */
  readonly contextLength?: number
  /**
   * How many tokens of context fit the device's memory, as it was estimated when the model was
   * loaded; missing where that was not possible.
   */
  readonly maxContextLength?: number
  readonly vocabularySize: number
  readonly layers: number
  readonly device: 'gpu' | 'cpu'
  readonly dtype: 'float32' | 'bfloat16' | 'float16'
  /** How many generations run at the same time, at most. */
  readonly maxSequences: number
  /** Without a tokenizer only `{ tokens }` prompts work, and answers are tokens without text. */
  readonly hasTokenizer: boolean
  /** Without a chat template a string prompt is continued as it is, and messages are refused. */
  readonly hasChatTemplate: boolean
  /** The tokens that end an answer. */
  readonly eosTokens: readonly number[]
  /** What the model can do. */
  readonly capabilities: Readonly<Capabilities>
  /** How it makes embeddings; missing where it makes none. */
  readonly embedding?: Readonly<EmbeddingInfo>
  readonly generationDefaults: Readonly<GenerationDefaults>
  /** The folder that the model was loaded from: an absolute path. */
  readonly path: string
  /** What of the model's files could not be used, and is done without. */
  readonly warnings: readonly ModelWarning[]
}

/** What a model can do. */
export interface Capabilities {
  /** `generate`, `chat`, `score`, `decide` and what builds on them. */
  readonly generate: boolean
  /** `embed` */
  readonly embed: boolean
  /** `rerank` */
  readonly rerank: boolean
}

/**
 * How the hidden states of a text become one, by the names of sentence-transformers: that of the
 * first token (`'cls'`) or the last (`'lasttoken'`), the largest value of each feature (`'max'`),
 * the mean, the sum divided by the root of its number (`'mean_sqrt_len_tokens'`), or a mean in which
 * the n-th token counts n times (`'weightedmean'`).
 */
export type Pooling = 'cls' | 'lasttoken' | 'max' | 'mean' | 'mean_sqrt_len_tokens' | 'weightedmean'

/** How a model makes embeddings. */
export interface EmbeddingInfo {
  /**
   * Whether the checkpoint's files say so. Otherwise a model that continues texts gives the state
   * of the last token and any other the mean, as sentence-transformers does then.
   */
  readonly declared: boolean
  /** How many numbers they have, unless `dimensions` asks for fewer. */
  readonly dimensions: number
  /** How the hidden states of a text become one; several are put side by side. */
  readonly pooling: readonly Pooling[]
  /** Whether they have the length 1. */
  readonly normalize: boolean
  /** The tasks that texts can be for, such as `'query'` and `'document'`. */
  readonly tasks: readonly string[]
  /** That of texts for which none is named. */
  readonly defaultTask?: string
  /** The most tokens of a text, where the checkpoint limits them beyond its context. */
  readonly maxTokens?: number
}

/** A text to embed, or its tokens as they are. */
export type EmbedInput = string | { tokens: ArrayLike<number> }

/** Options of `model.embed`. What is left out is as the checkpoint's files say. */
export interface EmbedOptions {
  /** What the texts are for: the model puts a prompt of its own in front of them. */
  task?: string | undefined
  /** How the hidden states become one, in place of what the files say and the layers behind it. */
  pooling?: Pooling | undefined
  /** Whether embeddings have the length 1. */
  normalize?: boolean | undefined
  /**
   * How many of the first numbers are kept, for models that were trained for it (Matryoshka); the
   * length is made 1 afterwards.
   */
  dimensions?: number | undefined
  /** Cut texts that are too long, where they are an error otherwise. @defaultValue false */
  truncate?: boolean | undefined
  /** The adapter to run with; `null` for the model as it is. @defaultValue that of `loadModel` */
  adapter?: Adapter | null | undefined
  /** Ends the work, which then rejects with the code `ABORTED`. */
  signal?: AbortSignal | undefined
}

/** An embedding of each text. */
export type Embeddings = Float32Array[] & {
  /** How many tokens the texts have. */
  readonly tokens: number
}

/** Options of `model.rerank`. */
export interface RerankOptions {
  /** How many of the best come back. @defaultValue all */
  topN?: number | undefined
  /**
   * What makes a document a good one, for models that are asked for a yes or a no. @defaultValue
   * that it answers the query
   */
  instruction?: string | undefined
  /** Cut pairs that are too long, where they are an error otherwise. @defaultValue false */
  truncate?: boolean | undefined
  /** The adapter to run with; `null` for the model as it is. @defaultValue that of `loadModel` */
  adapter?: Adapter | null | undefined
  /** Ends the work, which then rejects with the code `ABORTED`. */
  signal?: AbortSignal | undefined
}

/** How well a document fits. */
export interface Ranking {
  /** The document's place among those that were given. */
  index: number
  /** The higher the better: from 0 to 1, unless the checkpoint says that its logits are scores. */
  score: number
}

/** Documents, the best first. */
export type Rankings = Ranking[] & {
  /** How many tokens were read. */
  readonly tokens: number
}

/** Something that does not keep a model from running, and that its user should know. */
export interface ModelWarning {
  /**
   * - `'UNUSABLE_FILE'`: a file that only gives hints (`generation_config.json`) cannot be read.
   * - `'UNUSABLE_FIELD'`: a field of such a file has a value that cannot be used.
   * - `'STALE_INDEX'`: `model.safetensors.index.json` does not describe the files beside it.
   * - `'UNUSED_HEAD'`: the checkpoint has an output head, and the model uses its embedding, or a
   *   prediction head with tensors that are missing or do not fit.
   * - `'DEQUANTIZED'`: matrices that another program has quantized are loaded as numbers, because
   *   MLX has no packed form for them.
   * - `'KERNELS_UNAVAILABLE'`: the kernels for NVIDIA cards do not run on the one that there is, for
   *   a reason that the message gives: MLX's operations do the work, more slowly.
   */
  readonly code:
    | 'UNUSABLE_FILE'
    | 'UNUSABLE_FIELD'
    | 'STALE_INDEX'
    | 'UNUSED_HEAD'
    | 'DEQUANTIZED'
    | 'KERNELS_UNAVAILABLE'
  /** What is wrong with which file, and what is done without it. */
  readonly message: string
  /** The file; the model's folder where it is about none. */
  readonly path: string
}

/** A part of a message's content. Models that take text only refuse every other kind of part. */
export interface TextPart {
  type: 'text'
  text: string
}

/** A part that only some templates read, such as `{ type: 'thinking', thinking: 'Hm.' }`. */
export interface OtherPart {
  type: string
  [field: string]: unknown
}

/** A call that the model made in an earlier turn, in the shape that chat templates know. */
export interface ToolCall {
  id?: string | undefined
  type?: 'function' | undefined
  /** The arguments as an object or as JSON text; the template gets what it reads. */
  function: { name: string; arguments: Record<string, unknown> | string }
}

/**
 * A turn of a conversation, in the shape that chat templates know (which is OpenAI's). Further
 * fields, such as `reasoning_content`, are handed to the template as they are.
 */
export interface Message {
  role: 'system' | 'developer' | 'user' | 'assistant' | 'tool' | (string & {})
  /**
   * Text, or parts: the template gets what it reads. May be left out of a tool's message, and where
   * `tool_calls`, `reasoning_content` or another field says something.
   */
  content?: string | readonly (TextPart | OtherPart)[] | Record<string, unknown> | null | undefined
  name?: string | undefined
  tool_calls?: readonly ToolCall[] | undefined
  tool_call_id?: string | undefined
  [field: string]: unknown
}

/** A tool as chat templates know it: OpenAI's shape, with a JSON schema for the parameters. */
export interface ToolDefinition {
  type: 'function'
  function: {
    name: string
    description?: string | undefined
    parameters?: Record<string, unknown> | undefined
    [field: string]: unknown
  }
}

/** How much a model reasons; see `ChatTemplateOptions`. */
export type ReasoningOption = 'off' | 'low' | 'medium' | 'high' | { budgetTokens: number }

/** What a tool's function is told beside the arguments: the call, and when to stop. */
export interface ToolContext extends GeneratedToolCall {
  /** Aborted when the answer is, or when its `maxTimeMs` are over: nobody waits then. */
  signal: AbortSignal
}

/** A tool with what it does: `execute` is for `model.chat`, which calls it. */
export interface Tool<Arguments = never> {
  type?: 'function' | undefined
  name: string
  description?: string | undefined
  /** The arguments: JSON Schema, or a schema of Zod, Valibot or ArkType. @defaultValue none */
  parameters?: Record<string, unknown> | StandardSchema | undefined
  /** Refuse what of the schema cannot be enforced, where calls are. @defaultValue false */
  strict?: boolean | undefined
  /** What the model is told of what comes back: a string as it is, everything else as JSON. */
  execute?: ((args: Arguments, context: ToolContext) => unknown) | undefined
}

/** A tool whose schema says which arguments its function gets. */
export interface SchemaTool<Schema extends StandardSchema> extends Omit<
  Tool<SchemaOutput<Schema>>,
  'parameters'
> {
  parameters: Schema
}

/** A tool in OpenAI's shape, whose parameters may be a library's schema, too. */
export interface FunctionTool<Arguments = never> {
  type?: 'function' | undefined
  function: {
    name: string
    description?: string | undefined
    parameters?: Record<string, unknown> | StandardSchema | undefined
    strict?: boolean | undefined
    /** What the chat template reads besides. */
    [field: string]: unknown
  }
  /** As that of {@link Tool}. */
  execute?: ((args: Arguments, context: ToolContext) => unknown) | undefined
}

/** A tool's function, which gets such arguments. */
export type ToolFunction<Arguments> = (args: Arguments, context: ToolContext) => unknown

/** A tool in either shape. */
export type AnyTool = FunctionTool | Tool

/**
 * The function of a tool: it gets what a library's schema gives. JSON Schema has no type, and a tool
 * that was made elsewhere says itself what its function gets.
 */
export type InlineFunction<Schema> = unknown extends Schema
  ? // eslint-disable-next-line @typescript-eslint/no-explicit-any -- nothing is known of it
    ToolFunction<any>
  : [StandardSchema] extends [Schema]
    ? ToolFunction<never>
    : Schema extends StandardSchema
      ? ToolFunction<SchemaOutput<Schema>>
      : // eslint-disable-next-line @typescript-eslint/no-explicit-any -- nothing is known of it
        ToolFunction<any>

/** A tool that is written down where it is used, whose schema says what its function gets. */
export type InlineTool<Schema> =
  | (Omit<Tool, 'parameters' | 'execute' | 'function'> & {
      function?: undefined
      parameters?: Schema | undefined
      execute?: InlineFunction<Schema> | undefined
    })
  | (Omit<FunctionTool, 'function' | 'execute'> & {
      function: {
        name: string
        description?: string | undefined
        parameters?: Schema | undefined
        strict?: boolean | undefined
        [field: string]: unknown
      }
      execute?: InlineFunction<Schema> | undefined
    })

/** Whether a model may, must not or must call tools; see `GenerateOptions`. */
export type ToolChoice = 'auto' | 'none' | 'required' | { name: string }

/** What goes into the chat template besides the messages. */
export interface ChatTemplateOptions {
  /** Tools that the template describes to the model. */
  tools?: readonly AnyTool[] | undefined
  /**
   * How much the model reasons before it answers, said in the variables that the template reads.
   * Where the template can only turn reasoning on and off, `'low'` is a budget of 1024 tokens and
   * `'medium'` one of 8192. A budget ends reasoning that is longer, and the model answers.
   *
   * @defaultValue what the template does by itself
   */
  reasoning?: ReasoningOption | undefined
  /** Documents for templates that know retrieval; others refuse them. */
  documents?: readonly Record<string, unknown>[] | undefined
  /**
   * Further variables of the template, such as `{ enable_thinking: false }`. Names that other
   * options give, such as `messages` or `tools`, are refused; for one that the template does not read
   * a result has `warnings`.
   */
  templateVariables?: Record<string, unknown> | undefined
  /** Another template than the model's: its name, where the model has several, or its source. */
  chatTemplate?: string | undefined
  /**
   * End the prompt with the opening of the assistant's turn.
   *
   * @defaultValue true, unless `continueFinalMessage`
   */
  addGenerationPrompt?: boolean | undefined
  /** Leave the last message open, so that the model goes on writing it. @defaultValue false */
  continueFinalMessage?: boolean | undefined
  /**
   * Which field of the last message is left open, such as `'reasoning_content'`.
   *
   * @defaultValue 'content'
   */
  continueField?: string | undefined
  /**
   * The time that templates print as today's date, as a date or in milliseconds: with it, the same
   * messages give the same prompt tomorrow. @defaultValue the present
   */
  now?: Date | number | undefined
}

/**
 * What the model is to continue:
 * - a string: a user's message where the model has a chat template, else text that is continued as
 *   it is;
 * - messages: a conversation, laid out by the model's chat template;
 * - `{ text }`: text that is continued as it is, special tokens spelled out in it included;
 * - `{ tokens }`: tokens, as `model.tokenize` gives them.
 */
export type Prompt = string | readonly Message[] | TextPrompt | { tokens: ArrayLike<number> }

/** Text that is continued as it is. */
export interface TextPrompt {
  text: string
  /**
   * Add what the tokenizer puts around a text, such as a token for its beginning.
   *
   * @defaultValue true, unless the text begins with that already
   */
  addSpecialTokens?: boolean | undefined
}

/** How a prompt becomes tokens. */
export interface PromptOptions extends ChatTemplateOptions {
  /**
   * Take special tokens and other markers of the chat template that are spelled out in messages (or
   * in a text) for plain text, so that what a stranger writes cannot end its message and begin
   * another. What the template itself writes stays. Not for `{ tokens }`.
   *
   * @defaultValue false
   */
  splitSpecialTokens?: boolean | undefined
}

/** How much of a prompt has been read. */
export interface PrefillProgress {
  /** Tokens read so far, with those that were cached. */
  processed: number
  /** Tokens of the prompt. */
  total: number
  /** Tokens of the prompt that were cached and need not be read: `usage.cachedTokens`. */
  cached: number
}

/**
 * Options of `model.generate`. What is left out comes from the model's `generation_config.json`,
 * else is what is said here. Those of the chat template are only for prompts that go through it.
 */
export interface GenerateOptions extends PromptOptions {
  /** The most tokens to generate. @defaultValue as many as the context holds */
  maxTokens?: number | undefined
  /**
   * The least tokens to generate: until then no token ends the answer, and nothing of `stop` does.
   * An answer that is complete by its `responseFormat` ends all the same.
   *
   * @defaultValue 0
   */
  minTokens?: number | undefined
  /**
   * End the answer after this many milliseconds, counted from the call, with what there is; its
   * `finishReason` is then `'length'`.
   *
   * @defaultValue no limit
   */
  maxTimeMs?: number | undefined
  /**
   * 0 always takes the likeliest token, so `mirostat`, `xtcProbability` and
   * `dynamicTemperatureRange` are refused beside it; higher is more varied (0 to 10).
   *
   * @defaultValue 0.7
   */
  temperature?: number | undefined
  /**
   * Take from the likeliest tokens that together have this probability (above 0, to 1).
   *
   * @defaultValue 1
   */
  topP?: number | undefined
  /** Take from this many likeliest tokens; 0 is no limit. @defaultValue 0 */
  topK?: number | undefined
  /**
   * Leave out tokens less probable than this part of the likeliest one's probability (0 to 1).
   *
   * @defaultValue 0
   */
  minP?: number | undefined
  /**
   * Take from the tokens whose surprise is nearest to the expected one, as many as have this
   * probability together (typical sampling; above 0, to 1).
   *
   * @defaultValue 1
   */
  typicalP?: number | undefined
  /**
   * Leave out tokens whose logits are more than this many standard deviations below the largest
   * (top-nσ; 0 to 100). 0 is no limit.
   *
   * @defaultValue 0
   */
  topNSigma?: number | undefined
  /**
   * Let the temperature go up and down by this much with the entropy of what the other options
   * leave: more where many tokens are likely (0 to 10).
   *
   * @defaultValue 0
   */
  dynamicTemperatureRange?: number | undefined
  /** The power of the entropy in that (above 0, to 10). @defaultValue 1 */
  dynamicTemperatureExponent?: number | undefined
  /**
   * `2` keeps the surprise of tokens near `mirostatTau` (Mirostat 2). It takes the place of `topP`,
   * `topK`, `minP` and the other options that leave tokens out.
   *
   * @defaultValue 0
   */
  mirostat?: 0 | 2 | undefined
  /** The surprise that Mirostat aims at, in bits (above 0, to 100). @defaultValue 5 */
  mirostatTau?: number | undefined
  /** How fast Mirostat approaches it (above 0, to 1). @defaultValue 0.1 */
  mirostatEta?: number | undefined
  /**
   * A whole number, which may be negative. The same seed, prompt and options give the same text on
   * the same machine with `deterministic`, or where nothing else runs on the model and it was
   * loaded with `prefixCache: false`.
   *
   * @defaultValue a new one each time
   */
  seed?: number | undefined
  /**
   * Compute each token by itself, so that what else runs on the model changes nothing, not even
   * the rounding. It costs what generations gain by sharing their steps.
   *
   * @defaultValue false
   */
  deterministic?: boolean | undefined
  /**
   * Whether several tokens are guessed and then read in one step. The text is the one without
   * guesses, up to the rounding of sums, and comes sooner where the guesses are right. `'auto'`
   * guesses with the draft model, or else the model's own prediction head, and with what followed
   * the last tokens before, for as long and as far as that is faster; an object says more.
   *
   * @defaultValue 'auto' where the model was loaded with a `draftModel`, else false
   */
  speculation?: false | 'auto' | SpeculationOptions | undefined
  /**
   * Where generations wait for others, those of a higher priority begin first and are read first
   * (-1000 to 1000). After 15 in a row that went before it, whoever has waited the longest is next.
   *
   * @defaultValue 0
   */
  priority?: number | undefined
  /**
   * Text, or one of several, that ends the answer as soon as it appears; it is not part of the
   * answer. Special tokens such as `<|im_end|>` count as text here. A regular expression ends it as
   * soon as it matches, within 1000 bytes, with its flags `i` and `s`; it looks at nothing around
   * the match.
   */
  stop?: string | RegExp | readonly (string | RegExp)[] | undefined
  /** Tokens that end the answer, beside those of the model; they are not part of it. */
  stopTokens?: readonly number[] | undefined
  /**
   * Texts that the answer does not have, exactly as they are written here: tokens that would
   * complete one are left out.
   */
  bannedStrings?: readonly string[] | undefined
  /**
   * Leave special tokens out of the text; `false` writes them as the vocabulary does. The token
   * that ends the answer is never part of it.
   *
   * @defaultValue true
   */
  skipSpecialTokens?: boolean | undefined
  /**
   * Makes tokens that the answer has already less likely (above 1) or likelier (below 1).
   *
   * @defaultValue 1
   */
  repetitionPenalty?: number | undefined
  /** Lowers the logits of tokens that the answer has already, once (-2 to 2). @defaultValue 0 */
  presencePenalty?: number | undefined
  /**
   * Lowers the logits of tokens that the answer has already, each time again (-2 to 2).
   *
   * @defaultValue 0
   */
  frequencyPenalty?: number | undefined
  /**
   * Let the penalties look at this many of the last tokens, the prompt's included, as mlx-lm does
   * (with 20).
   *
   * @defaultValue all tokens of the answer, and none of the prompt
   */
  penaltyContextSize?: number | undefined
  /**
   * How strongly going on as an earlier text did is penalized, prompt and answer (DRY; 0 to 100):
   * by `dryMultiplier · dryBase^(n − dryAllowedLength)` after the last n tokens came up before.
   *
   * @defaultValue 0
   */
  dryMultiplier?: number | undefined
  /** See `dryMultiplier` (1 to 100). @defaultValue 1.75 */
  dryBase?: number | undefined
  /** The tokens that may come up again without that penalty. @defaultValue 2 */
  dryAllowedLength?: number | undefined
  /** How many of the last tokens DRY looks at. @defaultValue all */
  dryContextSize?: number | undefined
  /**
   * Texts that DRY follows no repetition across, such as the names of a dialogue.
   *
   * @defaultValue `['\\n', ':', '"', '*']`
   */
  drySequenceBreakers?: readonly string[] | undefined
  /** Added to the logits of single tokens (-100 to 100 each), by token. */
  logitBias?: Readonly<Record<number, number>> | undefined
  /**
   * How often to leave out all likely tokens but the least likely of them, for variety (XTC; 0 to
   * 1).
   *
   * @defaultValue 0
   */
  xtcProbability?: number | undefined
  /** From which probability a token is likely for XTC (0 to 0.5). @defaultValue 0.1 */
  xtcThreshold?: number | undefined
  /**
   * Give the log-probability of every token, and of this many likeliest alternatives (0 to 20);
   * `true` is 0 of them.
   *
   * @defaultValue false
   */
  logprobs?: number | boolean | undefined
  /**
   * What the answer must be: JSON of a schema, text of a regular expression or a grammar, or one of
   * some choices. The log-probabilities are then those among the tokens that could come.
   *
   * @defaultValue any text
   */
  responseFormat?: ResponseFormat | undefined
  /**
   * The most tokens whose keys and values are kept (16 or more): the first four and the latest.
   * Older ones are forgotten.
   *
   * @defaultValue all of them
   */
  maxKvSize?: number | undefined
  /**
   * Pack keys and values in this many bits, which takes less memory for long contexts and is a
   * little less exact. Refused where a model's heads cannot be packed.
   *
   * @defaultValue not packed
   */
  kvBits?: 4 | 8 | undefined
  /**
   * How many features share a scale in packed keys and values.
   *
   * @defaultValue 64, or 32 where 64 does not divide a head
   */
  kvGroupSize?: 32 | 64 | 128 | undefined
  /**
   * Go on from what this cache holds of the prompt's beginning, and leave prompt and answer in it:
   * `usage.cachedTokens` counts what need not be read again. One generation at a time can use it.
   */
  promptCache?: PromptCache | undefined
  /**
   * Whether the model may call `tools`: as it likes, not at all (the tools are then left out of the
   * prompt), at least one, or the one of this name. @defaultValue 'auto'
   */
  toolChoice?: ToolChoice | undefined
  /** Whether the model may call several tools in one answer. @defaultValue true */
  parallelToolCalls?: boolean | undefined
  /**
   * Tell calls of tools from text; `false` leaves them in it as the model writes them.
   *
   * @defaultValue true where there are `tools` or a `toolFormat`
   */
  parseToolCalls?: boolean | undefined
  /**
   * Take only calls of the `tools` that their schemas allow; what else the model calls is in
   * `invalidToolCalls`. `false` leaves that to the caller, and needs `tools`.
   *
   * @defaultValue true
   */
  validateToolCalls?: boolean | undefined
  /**
   * How the model writes calls, such as `'hermes'`; docs/tools.md has the names.
   *
   * @defaultValue what the chat template tells
   */
  toolFormat?: string | undefined
  /**
   * How the model marks reasoning, such as `'think'`; docs/reasoning.md has the names. `'none'`
   * leaves it in the text.
   *
   * @defaultValue what the chat template tells
   */
  reasoningFormat?: string | undefined
  /**
   * An adapter of this model, from `model.loadAdapter`, or `null` for the model as it is.
   *
   * @defaultValue the one that `loadModel` was given
   */
  adapter?: Adapter | null | undefined
  /**
   * Called while the prompt is read, after each chunk of it. An exception thrown in it ends the
   * generation, which then rejects with it.
   */
  onPrefill?: ((progress: PrefillProgress) => void) | undefined
  /** Stops the generation, as `generation.abort()` does. */
  signal?: AbortSignal | undefined
}

/**
 * A schema of a library that follows Standard Schema, such as Zod 4, Valibot (through its
 * `toStandardJsonSchema`) or ArkType.
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    readonly validate: (
      value: unknown,
      // What libraries take here differs, and is left out.
      ...options: never[]
    ) => StandardOutcome<Output> | Promise<StandardOutcome<Output>>
    readonly types?: { readonly input: Input; readonly output: Output } | undefined
    /** JSON schemas of what it takes in; missing where another way leads to them. */
    readonly jsonSchema?:
      | { readonly input: (options: { target: 'draft-2020-12' }) => Record<string, unknown> }
      | undefined
  }
}

/** What a schema makes of a value. */
export type StandardOutcome<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly { readonly message: string }[] }

/** A JSON schema: draft 2020-12, or an earlier one. */
export type JsonSchema = boolean | Readonly<Record<string, unknown>>

/**
 * What an answer must be, from its beginning to its end. The model can write nothing else; where it
 * reasons first, that is left out. `maxTokens` may break it off: then the result has `incomplete`.
 */
export type ResponseFormat =
  /** Any text. */
  | { readonly type: 'text' }
  /**
   * JSON, such as a schema allows: the result's `object`. docs/structured-output.md has the
   * keywords.
   */
  | {
      readonly type: 'json'
      readonly schema?: StandardSchema | JsonSchema | undefined
      /** A name of the schema, for those who read the request. It changes nothing. */
      readonly name?: string | undefined
      /**
       * Refuse keywords that cannot be enforced; `false` leaves them out, and the result has
       * `warnings`.
       *
       * @defaultValue true
       */
      readonly strict?: boolean | undefined
    }
  /** Text that a regular expression matches as a whole. */
  | { readonly type: 'regex'; readonly pattern: string | RegExp }
  /** One of some texts. */
  | { readonly type: 'choice'; readonly options: readonly string[] }
  /** Text of a grammar, in llguidance's dialect of Lark. */
  | { readonly type: 'grammar'; readonly lark: string }

/** What a schema makes of what it takes in: the type of `result.object`. */
export type SchemaOutput<Schema extends StandardSchema> = NonNullable<
  Schema['~standard']['types']
>['output']

/** What a schema takes in: the type of a call's arguments. */
export type SchemaInput<Schema extends StandardSchema> = NonNullable<
  Schema['~standard']['types']
>['input']

/** Options whose tools say which calls there are. */
export type WithTools<Options, Tools extends readonly AnyTool[]> = Omit<Options, 'tools'> & {
  readonly tools?: Tools | undefined
}

/** Options whose response format is a schema's, which says which type the value has. */
export type WithSchema<Options, Schema extends StandardSchema> = Omit<Options, 'responseFormat'> & {
  responseFormat: SchemaFormat<Schema>
}

/** The type of the value that an answer in a format has, where that is a library's schema. */
export type FormatValue<Format> = Format extends { schema: infer Schema extends StandardSchema }
  ? SchemaOutput<Schema>
  : unknown

/** A response format of JSON, whose schema says which type the value has. */
export interface SchemaFormat<Schema extends StandardSchema> {
  readonly type: 'json'
  readonly schema: Schema
  readonly name?: string | undefined
  readonly strict?: boolean | undefined
}

/** A value that is not complete: every part of it may be missing. */
export type DeepPartial<Value> = Value extends readonly (infer Item)[]
  ? DeepPartial<Item>[]
  : Value extends object
    ? { [Key in keyof Value]?: DeepPartial<Value[Key]> }
    : Value

/** What an answer in JSON lacks that was broken off. */
export interface IncompleteAnswer {
  /** A JSON pointer to the innermost value that is open. */
  at: string
  /** The characters that would close everything that is open. */
  missing: string
}

/** Options of `model.createPromptCache`. */
export type PromptCacheOptions = Pick<GenerateOptions, 'maxKvSize' | 'kvBits' | 'kvGroupSize'>

/**
 * The keys and values, or states, of tokens that a model has read. A conversation whose turns share
 * one reads only what is new; a long beginning that many prompts share can be read once and kept in
 * a file.
 */
export interface PromptCache {
  /** How many tokens it holds, and how many bytes they take. */
  size(): Promise<{ tokens: number; bytes: number }>
  /** Writes it to a file that `model.loadPromptCache` reads, and mlx-lm too. */
  save(path: string): Promise<void>
  /** Gives its memory back. A cache that is no longer used is given back with the garbage, too. */
  dispose(): void
  [Symbol.dispose]: () => void
}

/** Options of `model.generateBatch`. */
export interface GenerateBatchOptions extends Omit<GenerateOptions, 'promptCache' | 'onPrefill'> {
  /** Give the results in the order of the prompts, not as they come. @defaultValue false */
  ordered?: boolean | undefined
  /**
   * How many prompts are under way at the same time.
   *
   * @defaultValue the model's `maxSequences`
   */
  concurrency?: number | undefined
  /**
   * How many answers each prompt gets. A long prompt is read once for all of them; with a `seed`
   * each answer has its own: `seed`, `seed + 1`, …
   *
   * @defaultValue 1
   */
  n?: number | undefined
}

/** What came of one prompt of a batch: its result, or the error that ended it alone. */
export type BatchItem<Value = unknown, Call = GeneratedToolCall> = {
  /** The prompt's number. */
  index: number
  /** Which of the prompt's answers it is, from 0. */
  answer: number
} & (
  | { result: GenerationResult<Value, Call>; error?: undefined }
  | { error: unknown; result?: undefined }
)

/** Options of `model.loadAdapter`. */
export interface LoadAdapterOptions extends HubOptions {
  /** Called while the adapter is downloaded. */
  onProgress?: ((progress: LoadProgress) => void) | undefined
  /** Aborts the download, which then rejects with the code `ABORTED`. */
  signal?: AbortSignal | undefined
}

/** What is known of an adapter. */
export interface AdapterInfo {
  /** How it was trained. */
  readonly kind: 'lora' | 'dora' | 'full'
  /** The largest rank of its products; 0 where there are none. */
  readonly rank: number
  /** The number of modules that it changes. */
  readonly modules: number
  readonly parameters: number
  /** Bytes that it takes. */
  readonly bytes: number
  /** Its folder. */
  readonly path: string
}

/**
 * An adapter of a loaded model. A generation names it; the model's own weights stay as they are.
 */
export interface Adapter {
  readonly info: AdapterInfo
  /**
   * Gives its memory back, once the generations are over that run with it. An adapter that is no
   * longer used is given back with the garbage, too.
   */
  dispose(): void
  [Symbol.dispose]: () => void
}

/** Options of the `generate` function, which loads a model, generates and disposes of the model. */
export interface GenerateOnceOptions
  extends Omit<LoadModelOptions, 'signal'>, Omit<GenerateOptions, 'promptCache' | 'adapter'> {}

/** A token and its natural log-probability, before temperature and truncation. */
export interface TokenLogprob {
  token: number
  /** The token's text on its own; missing without a tokenizer. */
  text?: string
  /** Its bytes, where they are no whole characters and the text does not tell them. */
  bytes?: number[]
  logprob: number
}

/** A generated token, with the likeliest alternatives at its place. */
export interface GeneratedLogprob extends TokenLogprob {
  /** The likeliest tokens, best first; as many as `logprobs` asked for. */
  top: TokenLogprob[]
}

/**
 * A piece of an answer, of the kind that `type` says. All that was generated since the last piece
 * and is of one kind comes together, usually a token. `generation.textStream` is the text alone.
 */
export type GenerationChunk<Value = unknown, Call = GeneratedToolCall> =
  AnswerPiece<Call> | ObjectChunk<Value>

/** A piece that the model wrote. */
export type AnswerPiece<Call = GeneratedToolCall> =
  TextChunk | ReasoningChunk | ToolCallStart | ToolCallDelta | ToolCallEnd<Call> | ToolCallInvalid

/** What every piece of an answer has. */
export interface ChunkTokens {
  /** The tokens that the piece was made of; those of a marker come with what it begins or ends. */
  tokens: number[]
  /** One for each of `tokens`, with the option `logprobs`. */
  logprobs?: GeneratedLogprob[]
}

/** A piece of the answer's text. */
export interface TextChunk extends ChunkTokens {
  type: 'text'
  /**
   * May be empty: a character can take several tokens, and text that might begin a stop string, a
   * call or reasoning is held back.
   */
  text: string
}

/** A piece of what the model thinks before it answers, without the markers around it. */
export interface ReasoningChunk extends ChunkTokens {
  type: 'reasoning'
  /** May be empty, as a text's. */
  text: string
}

/**
 * With a `responseFormat` of JSON: its value as far as it has come, behind each piece of text that
 * has changed it. Texts in it grow; numbers come when they are complete.
 */
export interface ObjectChunk<Value = unknown> extends ChunkTokens {
  type: 'object'
  object: DeepPartial<Value>
  /** None: those of the value are the text's. */
  tokens: []
}

/** The model begins to call a tool. */
export interface ToolCallStart extends ChunkTokens {
  type: 'tool-call-start'
  /** The call's place among all of this answer, from 0, those that turn out invalid included. */
  index: number
  /** The model's own, or one that is made up: nine letters and digits. */
  id: string
  name: string
}

/** A piece of a call's arguments. */
export interface ToolCallDelta extends ChunkTokens {
  type: 'tool-call-delta'
  index: number
  id: string
  /** All pieces together are the arguments as JSON, whatever the model's own format is. */
  argumentsText: string
}

/** A call is complete: its id, its name and its arguments. */
export type ToolCallEnd<Call = GeneratedToolCall> = ChunkTokens & {
  type: 'tool-call-end'
  index: number
} & Call

/**
 * A call that cannot be read, that the end of the answer cut off, or that is none of the tools'. It
 * may have been started.
 */
export interface ToolCallInvalid extends ChunkTokens, InvalidToolCall {
  type: 'tool-call-invalid'
  index: number
}

/** A tool call that the model made. */
export interface GeneratedToolCall<
  Name extends string = string,
  Arguments = Record<string, unknown>,
> {
  id: string
  name: Name
  arguments: Arguments
}

/**
 * The calls that such tools allow, told apart by their names, with the arguments that the schemas of
 * libraries take in. Calls that break these are no part of `toolCalls`, unless `validateToolCalls` is
 * false.
 */
export type ToolCallOf<Tools extends readonly AnyTool[]> = Tools[number] extends infer One
  ? One extends AnyTool
    ? GeneratedToolCall<ToolName<One>, ToolArguments<One>>
    : never
  : never

type ToolName<One> = One extends
  | { readonly name: infer Name extends string }
  | { readonly function: { readonly name: infer Name extends string } }
  ? Name
  : string

type ToolArguments<One> = One extends
  | { readonly parameters: infer Schema extends StandardSchema }
  | { readonly function: { readonly parameters: infer Schema extends StandardSchema } }
  ? SchemaInput<Schema>
  : One extends {
        execute?: ((args: infer Arguments, context: ToolContext) => unknown) | undefined
      }
    ? // True of `never` and `any`, which say nothing.
      0 extends (1 & Arguments) | ([Arguments] extends [never] ? 0 : never)
      ? Record<string, unknown>
      : Arguments
    : Record<string, unknown>

/** A call that cannot be read, or that names none of the tools or breaks its tool's schema. */
export interface InvalidToolCall {
  /** The call as the model wrote it; where it could be read, its name and arguments as JSON. */
  raw: string
  /** What is wrong with it. */
  error: string
  /** Where it could be read: its id. */
  id?: string
  /** Where it could be read: what it names. */
  name?: string
  /** Where it could be read: its arguments. */
  arguments?: Record<string, unknown>
}

/**
 * Why a generation ended: the model ended its answer or a stop string appeared, `maxTokens` or the
 * context was reached, the model ended its answer to have tools called, or it was aborted.
 */
export type FinishReason = 'stop' | 'length' | 'tool-calls' | 'abort'

/** What ended an answer. New kinds may be added in minor versions. */
export type MatchedStop =
  /** A stop string. */
  | { type: 'string'; value: string }
  /** The text that a regular expression matched. */
  | { type: 'pattern'; value: string }
  /** A stop token. */
  | { type: 'token'; value: number }
  /** The longest time, in milliseconds. */
  | { type: 'time'; value: number }
  /** The model's context was full: this is how many tokens it holds. */
  | { type: 'context'; value: number }

/** A finished generation. */
export interface GenerationResult<Value = unknown, Call = GeneratedToolCall> {
  /** The answer, without reasoning and calls of tools. */
  text: string
  /** What the model thought before it answered; empty where there is nothing. */
  reasoning: string
  /** The calls of tools, in the model's order. */
  toolCalls: Call[]
  /** Calls that could not be read, name none of the tools, or break a tool's schema. */
  invalidToolCalls: InvalidToolCall[]
  /** The text with reasoning and calls as the model wrote them. */
  rawText: string
  tokens: number[]
  /** With the option `logprobs`. */
  logprobs?: GeneratedLogprob[]
  finishReason: FinishReason
  /** The stop string that ended the answer. */
  stopString?: string
  /** What of the options `stop`, `stopTokens` and `maxTimeMs`, or which limit, ended the answer. */
  matched?: MatchedStop
  /**
   * With a `responseFormat` of JSON: the value of `text`, as the schema's own code gives it.
   * Missing where the answer was broken off, or calls tools.
   */
  object?: Value
  /** What the JSON lacks where it was broken off. */
  incomplete?: IncompleteAnswer
  /** What was asked for and is not enforced, or differently; missing where there is nothing. */
  warnings?: string[]
  /** What `abort(reason)` or the signal gave as the reason. */
  abortReason?: unknown
  usage: {
    promptTokens: number
    completionTokens: number
    /** Both together. */
    totalTokens: number
    /** The tokens of the prompt that did not have to be read again. */
    cachedTokens: number
    /** Those of `completionTokens` that are reasoning, its markers included. */
    reasoningTokens: number
  }
  timings: {
    /** Waiting for others. */
    queueMs: number
    /** Making tokens of the prompt: the chat template and the tokenizer. */
    prepareMs: number
    /** Reading the prompt's tokens. */
    prefillMs: number
    /** From the call to the first token. */
    timeToFirstTokenMs: number
    promptTokensPerSecond: number
    /** Generated tokens per second, after the first. */
    tokensPerSecond: number
    totalMs: number
  }
  /** What came of speculation; missing where there was none. */
  speculation?: SpeculationStatistics
  /** The most memory that MLX held at a time. */
  peakMemoryBytes: number
}

/** What came of speculation: `completionTokens / steps` is how many tokens a step has made. */
export interface SpeculationStatistics {
  /** The tokens that were guessed. */
  drafted: number
  /** Those of them that were right. */
  accepted: number
  /** The steps that made tokens. Without speculation, each makes one. */
  steps: number
}

/** A stream of the platform that can be read with `for await`, too. */
export type AsyncIterableStream<T> = ReadableStream<T> & AsyncIterable<T>

/**
 * An answer that is being generated. It starts at once, runs a little ahead of who reads it, and
 * can be taken in any of these ways, several at a time and as often as wanted; everyone sees all of
 * it, from its beginning:
 * - `await generation` or `await generation.result` for the whole result,
 * - `for await (const chunk of generation)` for its pieces,
 * - `generation.textStream` and `generation.stream` for streams of the platform.
 *
 * Leaving a `for await` early or cancelling a stream aborts the generation, unless someone else is
 * still reading or awaiting it. An aborted generation is no error: loops end, and the result has
 * what was generated until then, with the finish reason `'abort'`. Everything else that goes wrong
 * rejects with a `NodeMlxError` for whoever reads or awaits; when nobody does, nothing is thrown.
 *
 * It is awaitable itself, so an `async` function that returns one gives its caller the result. To
 * hand on the generation, put it into an object: `return { generation }`, whose `generation.result`
 * is then awaited when it is wanted.
 */
export interface Generation<Value = unknown, Call = GeneratedToolCall>
  extends AsyncIterable<GenerationChunk<Value, Call>>, PromiseLike<GenerationResult<Value, Call>> {
  /**
   * The whole result, the same promise each time. Asking for it counts as awaiting the generation.
   */
  readonly result: Promise<GenerationResult<Value, Call>>
  /** The text alone, without reasoning, calls and empty pieces. */
  readonly textStream: AsyncIterableStream<string>
  /**
   * With a `responseFormat` of JSON: its value as it grows, each time that it does. Texts grow,
   * too; numbers come when they are complete.
   */
  readonly partialObjectStream: AsyncIterableStream<DeepPartial<Value>>
  /** The pieces. */
  readonly stream: AsyncIterableStream<GenerationChunk<Value, Call>>
  /**
   * Stops within a token or a chunk of the prompt; does nothing where the generation has ended. The
   * first reason stays.
   */
  abort(reason?: unknown): void
  catch<T = never>(
    onRejected?: ((reason: unknown) => T | PromiseLike<T>) | null,
  ): Promise<GenerationResult<Value, Call> | T>
  finally(onFinally?: (() => void) | null): Promise<GenerationResult<Value, Call>>
}

/** The logits of some tokens. */
export interface Logits {
  /** Row after row. */
  data: Float32Array
  /** `[tokens, vocabulary]` */
  shape: [tokens: number, vocabulary: number]
}

/** Options of `model.tokenize`. */
export interface TokenizeOptions extends PromptOptions {
  /**
   * For a text: add what the tokenizer puts around one, such as a token for its beginning.
   *
   * @defaultValue true, unless the text begins with that already
   */
  addSpecialTokens?: boolean | undefined
}

/** Options of `model.detokenize`. */
export interface DetokenizeOptions {
  /** Leave special tokens out of the text. @defaultValue false */
  skipSpecialTokens?: boolean | undefined
}

/** What a hook of a chat may say of a call: nothing or `true` approves it. */
// eslint-disable-next-line @typescript-eslint/no-invalid-void-type -- a hook may return nothing
export type ToolVerdict = boolean | string | undefined | void

/**
 * Options of `model.chat`; those of `generate` hold for every answer, unless `send` says others.
 */
export interface ChatOptions extends Omit<
  GenerateOptions,
  'promptCache' | 'signal' | 'continueFinalMessage' | 'continueField'
> {
  /** What the model is told before the conversation. */
  system?: string | undefined
  /** The conversation so far. */
  messages?: readonly Message[] | undefined
  /** How many times tools are called before an answer; after that calls end it. @defaultValue 8 */
  maxToolRounds?: number | undefined
  /**
   * Called before each call of a tool: `false` refuses it, a string refuses it with this reason,
   * which the model is told. An exception thrown in it ends the answer, which then rejects with it.
   */
  onToolCall?:
    | ((
        call: GeneratedToolCall,
        context: { signal: AbortSignal },
      ) => ToolVerdict | Promise<ToolVerdict>)
    | undefined
  /**
   * What to do where the conversation and an answer do not fit the context: fail with the code
   * `CONTEXT_OVERFLOW`, drop the oldest turns (with their calls and results), or what a function
   * makes of the messages.
   *
   * @defaultValue 'error'
   */
  onContextFull?:
    | 'error'
    | 'drop-oldest'
    | ((
        messages: Message[],
        context: { tokens: number; limit: number },
      ) => readonly Message[] | Promise<readonly Message[]>)
    | undefined
}

/** Options of a chat whose tools are written down there, by their schemas and names. */
export type InlineChatOptions<
  Schemas extends readonly unknown[],
  Names extends readonly string[],
  Format extends ResponseFormat | undefined,
> = Omit<ChatOptions, 'responseFormat' | 'tools' | 'onToolCall'> & {
  responseFormat?: Format | undefined
  tools?:
    | { readonly [Index in keyof Schemas]: InlineTool<Schemas[Index]> }
    | { readonly [Index in keyof Names]: NamedTool<Names[Index]> }
    | undefined
  /** See {@link ChatOptions}. */
  onToolCall?:
    | ((
        call: InlineCall<Schemas, Names>,
        context: { signal: AbortSignal },
      ) => ToolVerdict | Promise<ToolVerdict>)
    | undefined
}

declare const inferred: unique symbol

/**
 * What the name of a tool is inferred from. No tool is one, so that it allows nothing that
 * {@link InlineTool} does not; beside that, functions would not get the types of their arguments.
 */
export type NamedTool<Name> = { readonly [inferred]: true } & (
  { readonly name: Name } | { readonly function: { readonly name: Name } }
)

/** The calls of tools with such schemas and names; any where there are none. */
export type InlineCall<
  Schemas extends readonly unknown[],
  Names extends readonly string[],
> = Schemas extends readonly []
  ? GeneratedToolCall
  : {
      [Index in keyof Schemas]: GeneratedToolCall<
        Index extends keyof Names ? Names[Index] : string,
        InlineArguments<Schemas[Index]>
      >
    }[number]

type InlineArguments<Schema> = unknown extends Schema
  ? Record<string, unknown>
  : [StandardSchema] extends [Schema]
    ? Record<string, unknown>
    : Schema extends StandardSchema
      ? SchemaInput<Schema>
      : Record<string, unknown>

/** Options of a chat's `retry` and `continue`. */
export interface ChatTurnOptions extends GenerateOptions {
  /**
   * The place of a message in `messages`, also from the end (-1): what is behind it goes, once there
   * is an answer.
   *
   * @defaultValue the last one
   */
  at?: number | undefined
}

/** A conversation as JSON; `model.chat` takes it as options. */
export interface ChatJson {
  system?: string
  messages: Message[]
}

/**
 * A conversation with a model, which reads of each turn only what is new. Tools with an `execute`
 * are called as the model wants them, all of a turn at the same time, and what comes back, errors
 * included, is given to the model until it answers. One answer at a time; several chats of a model
 * can answer at the same time.
 */
export interface Chat<Value = unknown, Call = GeneratedToolCall> {
  /** What the model is told before the conversation. */
  system: string | undefined
  /** The conversation, as a copy; assign to it to change it. */
  get messages(): Message[]
  set messages(messages: readonly Message[])
  /**
   * Says something, a message of the user or several of any role, and answers. The conversation has
   * both once the answer is complete. An answer that is aborted stays as far as it came, at once:
   * the next one can be asked for on the spot. Where an answer fails nothing was said, except that
   * calls stay that tools have answered, for these may have had effects: `continue` goes on there.
   */
  send<Schema extends StandardSchema, const Tools extends readonly AnyTool[]>(
    message: string | Message | readonly Message[],
    options: WithSchema<GenerateOptions, Schema> & { readonly tools: Tools },
  ): Generation<SchemaOutput<Schema>, ToolCallOf<Tools>>
  send<Schema extends StandardSchema>(
    message: string | Message | readonly Message[],
    options: WithSchema<GenerateOptions, Schema>,
  ): Generation<SchemaOutput<Schema>, Call>
  send<const Tools extends readonly AnyTool[]>(
    message: string | Message | readonly Message[],
    options: GenerateOptions & { readonly tools: Tools },
  ): Generation<Value, ToolCallOf<Tools>>
  send(
    message: string | Message | readonly Message[],
    options?: GenerateOptions,
  ): Generation<Value, Call>
  /** Answers the last message of the user again: the last one at the place `at` or before it. */
  retry(options?: ChatTurnOptions): Generation<Value, Call>
  /** Goes on with the last answer, or answers where there is none yet. */
  continue(options?: ChatTurnOptions): Generation<Value, Call>
  /** A conversation of its own that goes on from here, or from the message at the place `at`. */
  fork(options?: { at?: number }): Chat<Value, Call>
  /** The conversation, for `JSON.stringify`; `model.chat(json)` goes on with it. */
  toJSON(): ChatJson
}

/** Options of `model.decide`. */
export interface DecideOptions extends PromptOptions {
  /** The adapter to run with; `null` for the model as it is. @defaultValue that of `loadModel` */
  adapter?: Adapter | null | undefined
  /** Ends the work, which then rejects with the code `ABORTED`. */
  signal?: AbortSignal | undefined
}

/** Options of `model.score`. */
export interface ScoreOptions extends DecideOptions {
  /** How many of the likeliest tokens come with each token (0 to 20). @defaultValue 0 */
  top?: number | undefined
}

/** A token and how likely it is behind those before it. */
export interface ScoredToken {
  token: number
  /** Its text by itself; left out where the model has no tokenizer. */
  text?: string
  /** The natural logarithm of its probability. */
  logprob: number
  /** The likeliest tokens in its place, best first, where the option `top` asks for them. */
  top?: TokenLogprob[]
}

/** How likely a text is. */
export interface Score {
  /** The natural logarithm of its probability: the sum of those of its tokens. */
  logprob: number
  /** e to the power of the mean negative logarithm of a token. */
  perplexity: number
  /** What was scored, token by token. */
  tokens: ScoredToken[]
  /** How many tokens come before, and were not scored. */
  promptTokens: number
}

/** Which of several texts follows a prompt. */
export interface Decision<Choice extends string = string> {
  /** The likeliest. */
  choice: Choice
  /** Its place among the choices. */
  index: number
  /** How likely each choice is, given that one of them follows: they sum to 1. */
  probabilities: Record<Choice, number>
  /** The natural logarithm of the probability that the prompt is followed by each. */
  logprobs: Record<Choice, number>
}

/** A loaded model. Its methods may be called at the same time; generations then share each step. */
export interface Model extends AsyncDisposable {
  readonly info: ModelInfo
  /** Whether `dispose` was called. */
  readonly disposed: boolean
  /**
   * Starts to generate and returns at once.
   *
   * @throws NodeMlxError at once when an argument is invalid or the model has been disposed of.
   */
  generate<Schema extends StandardSchema, const Tools extends readonly AnyTool[] = AnyTool[]>(
    prompt: Prompt,
    options: WithTools<WithSchema<GenerateOptions, Schema>, Tools>,
  ): Generation<SchemaOutput<Schema>, ToolCallOf<Tools>>
  generate<const Tools extends readonly AnyTool[] = AnyTool[]>(
    prompt: Prompt,
    options?: WithTools<GenerateOptions, Tools>,
  ): Generation<unknown, ToolCallOf<Tools>>
  /** A conversation, whose turns are answered one after the other. */
  chat<
    const Schemas extends readonly unknown[] | [] = [],
    const Names extends readonly string[] = [],
    Format extends ResponseFormat | undefined = undefined,
  >(
    options?: InlineChatOptions<Schemas, Names, Format>,
  ): Chat<FormatValue<Format>, InlineCall<Schemas, Names>>
  /**
   * Generates for many prompts, some of them at a time, as they are wanted: the next ones begin
   * while there are not too many results that nobody took. An error of one prompt is its item's
   * alone. Leaving the loop aborts what is under way; the signal does, too, and the items of what
   * had begun come with the finish reason `'abort'`.
   *
   * @throws NodeMlxError at once when an option is invalid or the model has been disposed of.
   */
  generateBatch<Schema extends StandardSchema, const Tools extends readonly AnyTool[] = AnyTool[]>(
    prompts: Iterable<Prompt> | AsyncIterable<Prompt>,
    options: WithTools<WithSchema<GenerateBatchOptions, Schema>, Tools>,
  ): AsyncIterableIterator<BatchItem<SchemaOutput<Schema>, ToolCallOf<Tools>>>
  generateBatch<const Tools extends readonly AnyTool[] = AnyTool[]>(
    prompts: Iterable<Prompt> | AsyncIterable<Prompt>,
    options?: WithTools<GenerateBatchOptions, Tools>,
  ): AsyncIterableIterator<BatchItem<unknown, ToolCallOf<Tools>>>
  /**
   * The tokens of a text, or of a prompt as `generate` reads it: messages, `{ text }` or `{ tokens
   * }`. A string is a text here.
   */
  tokenize(prompt: Prompt, options?: TokenizeOptions): Promise<number[]>
  /**
   * How many tokens `generate` reads for a prompt: its `usage.promptTokens`. As there, a string is
   * a user's message where the model has a chat template.
   */
  countTokens(prompt: Prompt, options?: PromptOptions): Promise<number>
  /** The text of tokens. */
  detokenize(tokens: ArrayLike<number>, options?: DetokenizeOptions): Promise<string>
  /** The prompt that the model's chat template makes of a conversation. */
  applyChatTemplate(messages: readonly Message[], options?: ChatTemplateOptions): Promise<string>
  /**
   * Forgets what generations have kept for others that begin alike, frees its memory and removes
   * its files.
   */
  clearPrefixCache(): Promise<void>
  /** An empty prompt cache, for generations of this model. */
  createPromptCache(options?: PromptCacheOptions): PromptCache
  /**
   * A prompt cache from a file that this model's `promptCache.save` wrote, or mlx-lm; a prompt goes
   * on behind what mlx-lm wrote, since that file does not tell its tokens.
   */
  loadPromptCache(path: string): Promise<PromptCache>
  /**
   * Loads an adapter: LoRA, rsLoRA or DoRA as mlx-lm or PEFT writes it. A model can have several.
   *
   * @param adapter - A folder, or `'owner/name'` or `'owner/name@revision'` for one on the hub.
   */
  loadAdapter(adapter: string, options?: LoadAdapterOptions): Promise<Adapter>
  /**
   * The logits after each of some tokens, in a single pass without a cache, of the model as it is.
   */
  logits(tokens: ArrayLike<number>): Promise<Logits>
  /**
   * How likely a continuation is behind a prompt, which is what `generate` takes. Without a
   * continuation: how likely a text is, which is all of its tokens but the first; a string is a
   * text then. Nothing is sampled.
   */
  score(
    prompt: Prompt,
    continuation?: string | { tokens: ArrayLike<number> },
    options?: ScoreOptions,
  ): Promise<Score>
  /**
   * Which of some texts follows a prompt, which is what `generate` takes, and how likely each is.
   * Nothing is sampled; the prompt is read once.
   */
  decide<const Choice extends string>(
    prompt: Prompt,
    choices: readonly Choice[],
    options?: DecideOptions,
  ): Promise<Decision<Choice>>
  /**
   * An embedding of each text, as the checkpoint's sentence-transformers files say: prompt,
   * pooling, dense layers and normalization.
   */
  embed(texts: EmbedInput | readonly EmbedInput[], options?: EmbedOptions): Promise<Embeddings>
  /**
   * Documents in the order in which they fit a query, by a classifier (a cross-encoder), or by how
   * likely a model that writes says yes (Qwen3-Reranker and others with a chat template).
   */
  rerank(query: string, documents: readonly string[], options?: RerankOptions): Promise<Rankings>
  /**
   * Gives the model's memory back. Running generations reject with the code `DISPOSED`. May be
   * called again.
   */
  dispose(): Promise<void>
}
