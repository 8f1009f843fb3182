// Queries and keys of new positions, as attention takes them: their norm, and then their rotation.
// This text stands before those of the kernels.
//
// Settings, defined before this text:
//   DIM          features of a head: 64, 128 or 256
//   ROPE         0 none, 1 with a base, 2 with wavelengths in an array
//   TRADITIONAL  1: neighbouring features are rotated, not the two halves
//   ROPE_DIM     features that are rotated, the first ones
//   NORM         1: queries and keys are normed (root-mean-square); 2: with weights

/// How far a position turns: of the base its logarithm; what positions and results are times.
struct Turn {
  float log2_base, scale, gain;
};

/// The weight and the epsilon of the norm of keys or of queries.
struct Norm {
  const u16* weight;
  float eps;
};
#if NORM == 2
#define NORM_OF(is_key) (is_key ? Norm{key_norm, key_eps} : Norm{query_norm, query_eps})
#else
#define NORM_OF(is_key) Norm{nullptr, is_key ? key_eps : query_eps}
#endif

/// A warp prepares the vector `from` of position `at`. Weights and wavelengths are only looked at
/// where there are some.
__device__ __forceinline__ void prepare(
    const u16* from,
    float* to,
    int at,
    Norm norm,
    const float* wavelengths,
    Turn turn
) {
  const int lane = threadIdx.x & 31;
  float square = 0;
#pragma unroll
  for (int i = lane; i < DIM; i += 32) {
    to[i] = to_float(from[i]);
    square += to[i] * to[i];
  }
#if NORM
  for (int o = 16; o; o >>= 1) {
    square += __shfl_xor_sync(~0u, square, o);
  }
  const float factor = rsqrtf(square / DIM + norm.eps);
#pragma unroll
  for (int i = lane; i < DIM; i += 32) {
    to[i] *= factor;
#if NORM == 2
    to[i] *= to_float(norm.weight[i]);
#endif
    to[i] = to_float(from_float(to[i]));
  }
#endif
  __syncwarp();
#if ROPE
  constexpr int half = ROPE_DIM / 2;
  for (int i = lane; i < half; i += 32) {
#if ROPE == 2
    const float angle = at * turn.scale / wavelengths[i];
#else
    const float angle = at * turn.scale * exp2f(-turn.log2_base * (float)i / half);
#endif
    float sine, cosine;
    sincosf(angle, &sine, &cosine);
    const int a = TRADITIONAL ? 2 * i : i, b = TRADITIONAL ? 2 * i + 1 : i + half;
    const float x = to[a] * turn.gain, y = to[b] * turn.gain;
    to[a] = x * cosine - y * sine;
    to[b] = x * sine + y * cosine;
  }
  __syncwarp();
#endif
}
