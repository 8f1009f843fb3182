// One new position of a recurrence whose heads remember a matrix S, with all that stands between
// the convolution before it and the projection behind it. A block works for one head, a warp for
// some rows of S at a time:
//
//     S = g · S + d kᵀ,  y = S q
//
// Settings, defined before this text:
//   NAME         of the kernel
//   X            type of activations: 0 bfloat16, 1 float16
//   RULE         0: the gated delta rule: queries and keys have length 1, d = β · (v - g · S k),
//                β = σ(rate), g = exp(a · softplus(raw + bias)); y is normed (root-mean-square) and
//                multiplied with silu(gate)
//                1: the selective scan: d = Δ · x, Δ = softplus(raw + bias) within limits,
//                g = exp(a · Δ); D · x is added to y; the queries are C, the keys B
//   ROWS         of S: features of a value
//   KEY_DIM      its columns: features of a key, a multiple of 32
//   KEY_HEADS    heads of queries and keys, each for some heads of values
//   VALUE_HEADS  heads

constexpr int WARPS = 16;
constexpr int THREADS = 32 * WARPS;
// Columns of a lane.
constexpr int OWN = KEY_DIM / 32;
constexpr int KEYS = KEY_HEADS * KEY_DIM;
constexpr int VALUES = VALUE_HEADS * ROWS;

__device__ __forceinline__ float sum_of_warp(float x) {
#pragma unroll
  for (int o = 16; o; o >>= 1) {
    x += __shfl_xor_sync(~0u, x, o);
  }
  return x;
}

// log(1 + exp(x)).
__device__ __forceinline__ float softplus(float x) {
  return fmaxf(x, 0.f) + log1pf(expf(-fabsf(x)));
}
__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

// A lane's columns of a row.
struct Columns {
  float at[OWN];
};

__device__ __forceinline__ Columns load(const float* row, int lane) {
  Columns columns;
  if constexpr (OWN % 4 == 0) {
#pragma unroll
    for (int i = 0; i < OWN; i += 4) {
      const float4 four = *(const float4*)(row + lane * OWN + i);
      columns.at[i] = four.x, columns.at[i + 1] = four.y;
      columns.at[i + 2] = four.z, columns.at[i + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
      columns.at[i] = row[lane * OWN + i];
    }
  }
  return columns;
}

__device__ __forceinline__ void store(float* row, int lane, const Columns& columns) {
  if constexpr (OWN % 4 == 0) {
#pragma unroll
    for (int i = 0; i < OWN; i += 4) {
      *(float4*)(row + lane * OWN + i) = make_float4(
          columns.at[i], columns.at[i + 1], columns.at[i + 2], columns.at[i + 3]
      );
    }
  } else {
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
      row[lane * OWN + i] = columns.at[i];
    }
  }
}

__device__ __forceinline__ Columns load_half(const u16* row, int lane) {
  Columns columns;
#pragma unroll
  for (int i = 0; i < OWN; ++i) {
    columns.at[i] = to_float(row[lane * OWN + i]);
  }
  return columns;
}

__device__ __forceinline__ float dot(const Columns& a, const Columns& b) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < OWN; ++i) {
    sum += a.at[i] * b.at[i];
  }
  return sum_of_warp(sum);
}

extern "C" __global__ void __launch_bounds__(THREADS) NAME(
    // Queries, keys and values; or x, B and C.
    const u16* __restrict__ mixed,
    const u16* __restrict__ raw_decay,
#if RULE == 0
    const u16* __restrict__ raw_rate,
    const u16* __restrict__ gate,
    const u16* __restrict__ norm,
#else
    const float* __restrict__ skip,
#endif
    const float* __restrict__ step_bias,
    const float* __restrict__ a,
    const float* __restrict__ before,
    u16* __restrict__ out,
    float* __restrict__ after,
#if RULE == 0
    float query_scale,
    float eps
#else
    float least,
    float largest
#endif
) {
  const int head = blockIdx.x, key_head = head / (VALUE_HEADS / KEY_HEADS);
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const float* from = before + (size_t)head * ROWS * KEY_DIM;
  float* to = after + (size_t)head * ROWS * KEY_DIM;
  const float steps = softplus(to_float(raw_decay[head]) + step_bias[head]);
#if RULE == 0
  const float decay = expf(a[head] * steps), rate = sigmoid(to_float(raw_rate[head]));
  Columns query = load_half(mixed + key_head * KEY_DIM, lane);
  Columns key = load_half(mixed + KEYS + key_head * KEY_DIM, lane);
  const float query_factor = rsqrtf(dot(query, query) + 1e-6f) * query_scale;
  const float key_factor = rsqrtf(dot(key, key) + 1e-6f);
#pragma unroll
  for (int i = 0; i < OWN; ++i) {
    query.at[i] *= query_factor;
    key.at[i] *= key_factor;
  }
  const float overlap = dot(key, query);
  const u16* values = mixed + 2 * KEYS + head * ROWS;
  __shared__ float results[ROWS], squares[WARPS];
  float square = 0;
#else
  // The limits would make the least step of one that is no number.
  const float step = steps != steps ? steps : fminf(fmaxf(steps, least), largest);
  const float decay = expf(a[head] * step);
  const Columns key = load_half(mixed + VALUES + key_head * KEY_DIM, lane);
  const Columns query = load_half(mixed + VALUES + KEYS + key_head * KEY_DIM, lane);
  const float overlap = dot(key, query);
  const u16* values = mixed + head * ROWS;
#endif
#pragma unroll 4
  for (int row = warp; row < ROWS; row += WARPS) {
    Columns state = load(from + row * KEY_DIM, lane);
    const float value = to_float(values[row]);
#if RULE == 0
    const float added = rate * (value - decay * dot(state, key));
#else
    const float added = step * value;
#endif
    // S is read once: S q = g · (S before) q + d (k · q).
    float y = decay * dot(state, query) + added * overlap;
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
      state.at[i] = decay * state.at[i] + added * key.at[i];
    }
    store(to + row * KEY_DIM, lane, state);
#if RULE == 0
    square += y * y;
    if (lane == 0) {
      results[row] = y;
    }
#else
    if (lane == 0) {
      out[head * ROWS + row] = from_float(y + skip[head] * value);
    }
#endif
  }
#if RULE == 0
  // All lanes of a warp have the same sum.
  if (lane == 0) {
    squares[warp] = square;
  }
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < WARPS; ++i) {
    sum += squares[i];
  }
  const float factor = rsqrtf(sum / ROWS + eps);
  for (int row = threadIdx.x; row < ROWS; row += THREADS) {
    const float z = to_float(gate[head * ROWS + row]);
    out[head * ROWS + row] =
        from_float(results[row] * factor * to_float(norm[row]) * z * sigmoid(z));
  }
#endif
}
