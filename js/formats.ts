import { isPlainObject } from './validate.js'

/** How many times the bytes of its file a tensor of some type takes in memory. */
export type Growth = (dtype: string) => number

/**
 * The growth of the tensors of other programs for which MLX has no packed form, so that they are
 * loaded as numbers of 16 bits: docs/formats.md.
 */
export function growthOf(config: Readonly<Record<string, unknown>>): Growth {
  const text = isPlainObject(config['text_config']) ? config['text_config'] : {}
  const said = text['quantization_config'] ?? config['quantization_config']
  if (!isPlainObject(said)) return () => 1
  // bitsandbytes packs two numbers into a byte.
  if (said['quant_method'] === 'bitsandbytes' && said['load_in_4bit'] === true)
    return (dtype) => (dtype === 'U8' ? 4 : 1)
  return hasBlocks(said) ? (dtype) => (dtype === 'F8_E4M3' ? 2 : 1) : () => 1
}

/** Whether blocks of 8-bit floats have scales that are not powers of two. */
function hasBlocks(said: Record<string, unknown>): boolean {
  switch (said['quant_method']) {
    case 'fp8':
      return Array.isArray(said['weight_block_size']) && said['scale_fmt'] !== 'ue8m0'
    case 'modelopt':
      return said['quant_algo'] === 'FP8_PB_WO'
    case 'compressed-tensors': {
      const groups = isPlainObject(said['config_groups']) ? said['config_groups'] : {}
      return Object.values(groups).some(
        (group) =>
          isPlainObject(group) &&
          isPlainObject(group['weights']) &&
          group['weights']['strategy'] === 'block',
      )
    }
    default:
      return false
  }
}
