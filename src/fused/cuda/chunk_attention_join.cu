// Puts together what chunk_attention.cu found in shares of the keys: a block for each row of a tile
// of each key/value head, a thread for each feature.
//
// Settings, defined before this text, besides that of numbers.cuh:
//   NAME       of the kernel
//   DIM, HEADS as there
//   TILE       rows of a tile
//   SINKS      1: each head has a score for looking at nothing

extern "C" __global__ void NAME(
    const float* __restrict__ found,
    // Of each row of the step: its first new position, and last how many are new.
    const int4* __restrict__ rows,
    // Of each tile: its row, its first new position of that row, its first share, and how many
    // there are.
    const int4* __restrict__ tiles,
#if SINKS
    const u16* __restrict__ sinks,
#endif
    // [positions, heads, features]
    u16* __restrict__ out,
    int kv_heads
) {
  constexpr float LOG2E = 1.4426950408889634f;
  const int r = blockIdx.x % TILE, head = blockIdx.x / TILE % kv_heads;
  const int4 tile = tiles[blockIdx.x / TILE / kv_heads];
  const int4 row = rows[tile.x];
  const int position = tile.y + r / HEADS, query_head = head * HEADS + r % HEADS;
  if (r >= TILE / HEADS * HEADS || position >= row.w) {
    return;
  }
  auto share = [&](int s) {
    return found + ((size_t)((tile.z + s) * kv_heads + head) * TILE + r) * (DIM + 2);
  };
  float most = -__int_as_float(0x7f800000);
#if SINKS
  const float sink = to_float(sinks[query_head]) * LOG2E;
  most = sink;
#endif
  for (int s = 0; s < tile.w; ++s) {
    most = fmaxf(most, share(s)[0]);
  }
  float weight = 0, sum = 0;
#pragma unroll 4
  for (int s = 0; s < tile.w; ++s) {
    const float* const from = share(s);
    // One that sees none of its keys has found nothing.
    const float factor = from[1] == 0.f ? 0.f : exp2f(from[0] - most);
    weight += from[1] * factor;
    sum += from[2 + threadIdx.x] * factor;
  }
#if SINKS
  weight += exp2f(sink - most);
#endif
  const size_t at = (size_t)(row.x + position) * kv_heads * HEADS + query_head;
  out[at * DIM + threadIdx.x] = from_float(sum / weight);
}
