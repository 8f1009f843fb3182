// What benchmarks in JavaScript have in common.

/** The middle one of some numbers; of an even count the upper one of both. */
export function median(values) {
  return [...values].sort((a, b) => a - b)[values.length >> 1]
}

/**
 * How a safetensors file begins that holds tensors, `[name, dtype, shape, bytes]` each, one behind
 * the other.
 */
export function safetensorsHeader(tensors, metadata) {
  const header = metadata === undefined ? {} : { __metadata__: metadata }
  let end = 0
  for (const [name, dtype, shape, bytes] of tensors) {
    header[name] = { dtype, shape, data_offsets: [end, end + bytes] }
    end += bytes
  }
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  return Buffer.concat([length, text])
}
