import { isPlainObject } from './validate.js'

/** How many times the bytes of its file a tensor takes in memory, by its name and type. */
export type Growth = (name: string, dtype: string) => number

/**
 * Files beside the configuration in which programs have written what `quantization_config` says
 * since, with their methods.
 */
export const QUANTIZATION_FILES: readonly (readonly [string, string])[] = [
  ['hf_quant_config.json', 'modelopt'],
  ['quantize_config.json', 'gptq'],
  ['quant_config.json', 'awq'],
]

/** The largest groups of MLX's affine formats, which larger ones are divided into. */
const LARGEST_GROUP = 128

/**
 * The growth of the tensors of other programs, as docs/formats.md describes what becomes of them:
 * what MLX has no packed form for is loaded as numbers of 16 bits, and scales stand beside biases,
 * or for fewer numbers than in the file.
 */
export function growthOf(config: Readonly<Record<string, unknown>>): Growth {
  const text = isPlainObject(config['text_config']) ? config['text_config'] : {}
  const said = text['quantization_config'] ?? config['quantization_config']
  if (!isPlainObject(said)) return () => 1
  switch (said['quant_method']) {
    case 'awq':
      return codes({ ...sizesOf(said, 'bits'), zeros: 'words' })
    case 'gptq':
      return codes({ ...sizesOf(said, 'bits'), zeros: said['sym'] === true ? 'middle' : 'words' })
    case 'bitnet':
      return codes({ bits: 2, group: undefined, zeros: 'middle', precise: true })
    case 'bitsandbytes':
      // Of 4 bits, two numbers to a byte.
      if (said['load_in_4bit'] === true) return ofPairs
      return codes({ bits: 8, group: undefined, zeros: 'middle', precise: true })
    case 'compressed-tensors':
      return compressed(said)
    case 'fp8':
    case 'fbgemm_fp8': {
      const blocks = Array.isArray(said['weight_block_size'])
      return float8(blocks && said['scale_fmt'] !== 'ue8m0')
    }
    case 'modelopt':
    case 'modelopt_fp4': {
      // In a file of its own it is within.
      const inner = isPlainObject(said['quantization']) ? said['quantization'] : said
      return float8(inner['quant_algo'] === 'FP8_PB_WO')
    }
    default:
      return () => 1
  }
}

/** Two numbers to a byte, and tables beside them, which nobody needs behind. */
function ofPairs(name: string, dtype: string): number {
  if (name.includes('.weight.')) return 0
  return dtype === 'U8' ? 4 : 1
}

/** What is said of codes of whole numbers. */
interface Codes {
  bits: number
  /** Numbers that share a scale; `undefined` for a row. */
  group: number | undefined
  /**
   * Where the codes are that stand for zero: in the middle, and not stored; in words like the other
   * codes; or in bytes.
   */
  zeros: 'middle' | 'words' | 'bytes'
  /** Whether scales have 32 bits. */
  precise?: boolean
}

function sizesOf(said: Record<string, unknown>, bits: string): Pick<Codes, 'bits' | 'group'> {
  const size = said['group_size']
  return {
    bits: typeof said[bits] === 'number' ? said[bits] : 4,
    group: typeof size === 'number' && size > 0 ? size : undefined,
  }
}

/**
 * Codes of whole numbers get scales and biases: of 16 bits each, or where zeros differ, of 32.
 * Those of a larger group than MLX has are counted with the codes.
 */
function codes({ bits, group, zeros, precise = zeros !== 'middle' }: Codes): Growth {
  const pair = precise ? 64 : 32
  const isLarge = group === undefined || group > LARGEST_GROUP
  const withPairs = isLarge ? 1 + pair / (LARGEST_GROUP * bits) : 1
  const scale = isLarge ? 1 : precise ? 2 : 1
  const bias = isLarge ? 1 : precise ? 32 : 16
  return (name, dtype) => {
    if (/\.(?:qweight|weight|weight_packed)$/.test(name)) return /^B?F/.test(dtype) ? 1 : withPairs
    if (/\.(?:qzeros|weight_zero_point)$/.test(name)) {
      if (zeros === 'middle') return 0
      return bias / (zeros === 'words' ? bits : 8)
    }
    // Where no zeros are stored, biases are as large as scales.
    if (/\.(?:scales|weight_scale)$/.test(name)) return zeros === 'middle' ? 2 * scale : scale
    return 1
  }
}

/** 8-bit floats, which are numbers of 16 bits, or have a scale for each 32 of a row. */
function float8(isDense: boolean): Growth {
  const growth = isDense ? 2 : 33 / 32
  return (name, dtype) => {
    // Those of outputs become numbers of 32 bits. Scales can be 8-bit floats, too.
    if (name.endsWith('scale')) return /^B?F16$/.test(dtype) ? 2 : 1
    return dtype === 'F8_E4M3' ? growth : 1
  }
}

function compressed(said: Record<string, unknown>): Growth {
  const groups = isPlainObject(said['config_groups']) ? said['config_groups'] : {}
  const weights = Object.values(groups)
    .map((group) => (isPlainObject(group) ? group['weights'] : undefined))
    .filter(isPlainObject)
  if (weights.some((it) => it['strategy'] === 'block')) return float8(true)
  const integers = weights.find((it) => it['type'] === 'int')
  if (integers === undefined) return float8(false)
  const inWords = said['format'] !== 'int-quantized'
  const zeros = integers['symmetric'] === false ? (inWords ? 'words' : 'bytes') : 'middle'
  return codes({ ...sizesOf(integers, 'num_bits'), zeros })
}
