import { isPlainObject } from './validate.js'

/** What the caches of a sequence hold, counted in numbers. */
export interface CachePlan {
  /**
   * For each layer with keys and values: how many numbers a position takes, and how many positions
   * are kept.
   */
  layers: { perPosition: number; positions: number }[]
  /** Numbers of convolutions and recurrences, which do not grow. */
  state: number
}

/** Caches grow in steps of this many positions. */
export const STEP = 256

/**
 * A layer's caches: keys and values of all positions, of a window, a state, several of these, or
 * nothing.
 */
type Kind = 'full' | 'window' | 'chunk' | 'state' | 'both' | 'none'

const KINDS: Readonly<Record<string, Kind>> = {
  '*': 'full',
  attention: 'full',
  full_attention: 'full',
  global: 'full',
  G: 'full',
  sliding_attention: 'window',
  L: 'window',
  chunked_attention: 'chunk',
  linear_attention: 'state',
  mamba: 'state',
  conv: 'state',
  M: 'state',
  mlp: 'none',
  moe: 'none',
  '-': 'none',
  E: 'none',
}

/**
 * Windows where the configuration leaves them out: how many positions, and every how manieth layer
 * sees all.
 */
const WINDOWS: Readonly<Record<string, readonly [positions: number, pattern: number]>> = {
  cohere2: [4096, 4],
  exaone4: [4096, 4],
  gemma2: [4096, 2],
  gemma3: [512, 6],
  gemma3_text: [512, 6],
  gemma4: [512, 5],
  gemma4_text: [512, 5],
  gemma4_unified: [512, 5],
  gpt_oss: [128, 2],
  olmo3: [4096, 4],
}

/** Architectures in which a window, where there is one, is that of every layer. */
const WINDOW_FOR_ALL = ['mistral', 'ministral3', 'mixtral', 'phi3', 'starcoder2']

/** What configurations of these types leave out. */
const DEFAULTS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  gemma3: { num_hidden_layers: 26, num_attention_heads: 8, num_key_value_heads: 4, head_dim: 256 },
  gemma3_text: {
    num_hidden_layers: 26,
    num_attention_heads: 4,
    num_key_value_heads: 1,
    head_dim: 256,
  },
}

/**
 * Reads a configuration; fields of the language model stand in `text_config` where there are
 * several parts.
 */
class Fields {
  readonly modelType: string
  readonly #values: Record<string, unknown>

  constructor(config: Record<string, unknown>) {
    const text = config['text_config']
    this.modelType = String(config['model_type'])
    this.#values = {
      ...DEFAULTS[this.modelType],
      ...config,
      ...(isPlainObject(text) ? text : {}),
    }
  }

  get(name: string): unknown {
    return this.#values[name] ?? undefined
  }

  number(...names: string[]): number | undefined {
    const value = names.map((name) => this.get(name)).find((it) => typeof it === 'number')
    return typeof value === 'number' && value > 0 ? value : undefined
  }

  size(...names: string[]): number {
    return this.number(...names) ?? 0
  }
}

/** How much a model's caches hold, by its configuration; `undefined` where that does not say. */
export function cachePlan(config: Record<string, unknown>): CachePlan | undefined {
  const fields = new Fields(config)
  const kinds = layerKinds(fields)
  if (kinds === undefined) return undefined
  const plan: CachePlan = { layers: [], state: 0 }
  for (const kind of kinds) {
    if (kind === 'state' || kind === 'both') plan.state += stateOf(fields)
    if (kind === 'state' || kind === 'none') continue
    const positions =
      kind === 'window'
        ? windowOf(fields)
        : kind === 'chunk'
          ? Math.ceil(chunkOf(fields) / STEP) * STEP
          : Infinity
    plan.layers.push({ perPosition: perPosition(fields, kind), positions })
  }
  return plan
}

function layerKinds(fields: Fields): Kind[] | undefined {
  const listed = ['hybrid_override_pattern', 'layers_block_type', 'layer_types']
    .map((name) => fields.get(name))
    .find((it) => typeof it === 'string' || Array.isArray(it))
  const count = fields.number('num_hidden_layers') ?? (listed as unknown[] | undefined)?.length
  if (count === undefined || count > 10_000) return undefined
  const kinds =
    listed === undefined
      ? Array.from({ length: count }, (_, layer) => kindByRule(fields, layer))
      : Array.from(listed as Iterable<unknown>, (name) => KINDS[String(name)] ?? 'full')
  // The last layers of some models look at the keys and values of earlier ones.
  const shared = fields.size('num_kv_shared_layers')
  return kinds.map((kind, layer) => (layer >= kinds.length - shared ? 'none' : kind))
}

/** What a layer is where the configuration has no list of layers. */
function kindByRule(fields: Fields, layer: number): Kind {
  const { modelType } = fields
  const every = (pattern: number): boolean => (layer + 1) % pattern === 0
  const attending = fields.get('full_attn_idxs')
  if (Array.isArray(attending)) return attending.includes(layer) ? 'full' : 'state'
  if (modelType === 'mamba2') return 'state'
  if (modelType === 'falcon_h1') return 'both'
  if (/^qwen3_(5|next)/.test(modelType))
    return every(fields.number('full_attention_interval') ?? 4) ? 'full' : 'state'
  if (modelType.startsWith('llama4')) {
    const context = fields.number('max_position_embeddings')
    if (every(fields.number('no_rope_layer_interval') ?? 4)) return 'full'
    return context !== undefined && context <= chunkOf(fields) ? 'full' : 'chunk'
  }
  const hasWindow = fields.number('sliding_window') !== undefined
  if (WINDOW_FOR_ALL.includes(modelType)) return hasWindow ? 'window' : 'full'
  const known = WINDOWS[modelType]
  if (known === undefined || (modelType === 'exaone4' && !hasWindow)) return 'full'
  const pattern = fields.get('sliding_window_pattern') ?? known[1]
  if (typeof pattern === 'string') return KINDS[pattern[layer % pattern.length] ?? ''] ?? 'full'
  return every(typeof pattern === 'number' ? pattern : known[1]) ? 'full' : 'window'
}

function windowOf(fields: Fields): number {
  return fields.number('sliding_window') ?? WINDOWS[fields.modelType]?.[0] ?? Infinity
}

function chunkOf(fields: Fields): number {
  return fields.number('attention_chunk_size') ?? 8192
}

/** Keys and values of a position: of each head, or the latent vector of them all. */
function perPosition(fields: Fields, kind: Kind): number {
  const latent = fields.number('kv_lora_rank')
  if (latent !== undefined) return latent + fields.size('qk_rope_head_dim')
  const heads = fields.number('num_attention_heads') ?? 1
  const shared = fields.number('num_key_value_heads') ?? heads
  const width = fields.number('head_dim') ?? fields.size('hidden_size') / heads
  // Layers that see everything may have heads of their own.
  const isGlobal = kind === 'full' && fields.modelType.startsWith('gemma4')
  const globalWidth = isGlobal ? fields.number('global_head_dim') : undefined
  const globalHeads = isGlobal ? fields.number('num_global_key_value_heads') : undefined
  return 2 * (globalHeads ?? shared) * (globalWidth ?? width)
}

/** The inputs that a convolution still sees, and what a recurrence remembers. */
function stateOf(fields: Fields): number {
  const kernel = fields.number(
    'linear_conv_kernel_dim',
    'mamba_d_conv',
    'conv_kernel',
    'conv_L_cache',
  )
  const before = Math.max(0, (kernel ?? 4) - 1)
  if (fields.number('conv_L_cache') !== undefined) return before * fields.size('hidden_size')
  const valueHeads = fields.number('linear_num_value_heads')
  if (valueHeads !== undefined) {
    const [keyWidth, valueWidth] = [
      fields.size('linear_key_head_dim'),
      fields.size('linear_value_head_dim'),
    ]
    const keys = fields.size('linear_num_key_heads') * keyWidth
    return before * (2 * keys + valueHeads * valueWidth) + valueHeads * keyWidth * valueWidth
  }
  const heads = fields.size('mamba_num_heads', 'mamba_n_heads', 'num_heads')
  const width = fields.size('mamba_head_dim', 'mamba_d_head', 'head_dim')
  const state = fields.size('ssm_state_size', 'mamba_d_state', 'state_size')
  const groups = fields.number('mamba_n_groups', 'n_groups') ?? 1
  return before * (heads * width + 2 * groups * state) + heads * width * state
}
