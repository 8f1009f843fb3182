// Puts new positions of rows to their places, a block for each position: its queries are normed and
// rotated, its keys, too, into the row's cache, and its values as they are.
//
// Settings, defined before this text, besides those of numbers.cuh, rows.cuh and prepare.cuh:
//   NAME   of the kernel
//   HEADS  query heads of a key/value head

constexpr int WARPS = 8;

extern "C" __global__ void __launch_bounds__(32 * WARPS) NAME(
    const Cache* __restrict__ caches,
    // Columns of arrays that may be the same one.
    const u16* __restrict__ new_queries,
    const u16* __restrict__ new_keys,
    const u16* __restrict__ new_values,
    // Of each row: its first new position among those of all rows, how many the cache had before,
    // and for how many it has room.
    const int4* __restrict__ rows,
#if ROPE == 2
    const float* __restrict__ wavelengths,
#endif
#if NORM == 2
    const u16* __restrict__ query_norm,
    const u16* __restrict__ key_norm,
#endif
    // [positions, heads, features]
    u16* __restrict__ queries,
    // Set when all is in its place.
    u32* __restrict__ placed,
    int kv_heads,
    int query_first,
    int query_stride,
    int key_first,
    int key_stride,
    int value_first,
    int value_stride,
    int row_count,
    int wavelength_stride,
    float log2_base,
    float rope_scale,
    float rope_gain,
    float query_eps,
    float key_eps
) {
  __shared__ float prepared[WARPS][DIM];
  const int position = blockIdx.x, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int row = row_at(rows, row_count, position);
  const int4 own_row = rows[row];
  const int at = own_row.y + position - own_row.x, capacity = own_row.z;
  const Cache cache = caches[row];
#if ROPE == 2
  wavelengths += row * wavelength_stride;
#else
  const float* const wavelengths = nullptr;
#endif
  if (position == 0 && threadIdx.x == 0) {
    *placed = 1;
  }
  new_queries += (size_t)position * query_stride + query_first;
  new_keys += (size_t)position * key_stride + key_first;
  new_values += (size_t)position * value_stride + value_first;
  queries += (size_t)position * kv_heads * HEADS * DIM;
  float* const own = prepared[warp];
  const Turn turn{log2_base, rope_scale, rope_gain};
  for (int head = warp; head < kv_heads * (HEADS + 1); head += WARPS) {
    const bool is_key = head >= kv_heads * HEADS;
    const int kv_head = head - kv_heads * HEADS;
    const u16* from = is_key ? new_keys + kv_head * DIM : new_queries + head * DIM;
    const size_t in_cache = ((size_t)kv_head * capacity + at) * DIM;
    u16* const to = is_key ? cache.keys + in_cache : queries + head * DIM;
    __syncwarp();
    prepare(from, own, at, NORM_OF(is_key), wavelengths, turn);
#pragma unroll
    for (int i = lane; i < DIM; i += 32) {
      to[i] = from_float(own[i]);
    }
    if (is_key) {
#pragma unroll
      for (int i = lane; i < DIM; i += 32) {
        cache.values[in_cache + i] = new_values[kv_head * DIM + i];
      }
    }
  }
}
