// Puts together what decode_attention.cu found in the shares of the positions: a block for each
// query head of each row, a thread for each feature.
//
// Settings: NAME, X, DIM and HEADS as there, SHARES (at most so many, a multiple of 32), and SINKS
// (1: each head has a score for looking at nothing).

extern "C" __global__ void NAME(
    const float* __restrict__ found,
#if SINKS
    const u16* __restrict__ sinks,
#endif
    const int4* __restrict__ rows,
    u16* __restrict__ out,
    int heads,
    int query_heads
) {
  constexpr float LOG2E = 1.4426950408889634f;
  constexpr int STEP = HEADS * (DIM + 2);
  __shared__ float factors[SHARES];
  const int head = blockIdx.x / HEADS, h = blockIdx.x % HEADS, i = threadIdx.x,
            lane = threadIdx.x & 31;
  const int4 row = rows[head / heads];
  const int shares = row.y;
  const size_t first = row.x + head % heads * shares;
  const float* from = found + (first * HEADS + h) * (DIM + 2);
  // Every warp finds the largest score and the sum of weights by itself.
  float2 share[SHARES / 32];
  float most = -__int_as_float(0x7f800000);
#pragma unroll
  for (int j = 0; j < SHARES / 32; ++j) {
    const int s = lane + 32 * j;
    share[j] = s < shares ? *(const float2*)(from + (size_t)s * STEP) : make_float2(most, 0.f);
  }
#if SINKS
  const float sink = to_float(sinks[blockIdx.x % query_heads]) * LOG2E;
  most = sink;
#endif
#pragma unroll
  for (int j = 0; j < SHARES / 32; ++j) {
    most = fmaxf(most, share[j].x);
  }
  for (int o = 16; o; o >>= 1) {
    most = fmaxf(most, __shfl_xor_sync(~0u, most, o));
  }
  float weight = 0;
#pragma unroll
  for (int j = 0; j < SHARES / 32; ++j) {
    const float factor = share[j].y == 0.f ? 0.f : exp2f(share[j].x - most);
    weight += share[j].y * factor;
    if (threadIdx.x < 32) {
      factors[lane + 32 * j] = factor;
    }
  }
  for (int o = 16; o; o >>= 1) {
    weight += __shfl_xor_sync(~0u, weight, o);
  }
#if SINKS
  weight += exp2f(sink - most);
#endif
  __syncthreads();
  float sum = 0;
#pragma unroll 8
  for (int s = 0; s < shares; ++s) {
    sum += from[(size_t)s * STEP + 2 + i] * factors[s];
  }
  out[(size_t)blockIdx.x * DIM + i] = from_float(sum / weight);
}
