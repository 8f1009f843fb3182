// Attention of one new position of each row to the row's cache: its query and key are normed and
// rotated, its key and value are written into the cache, and each block looks at a share of a row's
// positions for the query heads of one key/value head. What the shares found is put together by
// decode_attention_join.cu.
//
// A quarter, half or whole warp reads the vectors of a position, 16 bytes a lane, several positions
// at a time, and keeps what it found itself (the largest score, the sum of weights, the weighted
// sum of values) until the end.
//
// Settings, defined before this text:
//   NAME         of the kernel
//   X            type of activations and of the cache: 0 bfloat16, 1 float16
//   DIM          features of a head: 64, 128 or 256
//   HEADS        query heads of a key/value head
//   ROPE         0 none, 1 with a base, 2 with wavelengths in an array
//   TRADITIONAL  1: neighbouring features are rotated, not the two halves
//   ROPE_DIM     features that are rotated, the first ones
//   NORM         1: queries and keys are normed (root-mean-square); 2: with weights
//   CAP          1: scores are bounded by cap · tanh(score / cap)
//   ROWS         sequences with a cache of their own, 1 to 32; those behind the last one have a
//                first block that there is not

// What ROW stands for, for each row.
#define ROWS_1 ROW(0)
#define ROWS_2 ROWS_1 ROW(1)
#define ROWS_3 ROWS_2 ROW(2)
#define ROWS_4 ROWS_3 ROW(3)
#define ROWS_5 ROWS_4 ROW(4)
#define ROWS_6 ROWS_5 ROW(5)
#define ROWS_7 ROWS_6 ROW(6)
#define ROWS_8 ROWS_7 ROW(7)
#define ROWS_9 ROWS_8 ROW(8)
#define ROWS_10 ROWS_9 ROW(9)
#define ROWS_11 ROWS_10 ROW(10)
#define ROWS_12 ROWS_11 ROW(11)
#define ROWS_13 ROWS_12 ROW(12)
#define ROWS_14 ROWS_13 ROW(13)
#define ROWS_15 ROWS_14 ROW(14)
#define ROWS_16 ROWS_15 ROW(15)
#define ROWS_17 ROWS_16 ROW(16)
#define ROWS_18 ROWS_17 ROW(17)
#define ROWS_19 ROWS_18 ROW(18)
#define ROWS_20 ROWS_19 ROW(19)
#define ROWS_21 ROWS_20 ROW(20)
#define ROWS_22 ROWS_21 ROW(21)
#define ROWS_23 ROWS_22 ROW(22)
#define ROWS_24 ROWS_23 ROW(23)
#define ROWS_25 ROWS_24 ROW(24)
#define ROWS_26 ROWS_25 ROW(25)
#define ROWS_27 ROWS_26 ROW(26)
#define ROWS_28 ROWS_27 ROW(27)
#define ROWS_29 ROWS_28 ROW(28)
#define ROWS_30 ROWS_29 ROW(29)
#define ROWS_31 ROWS_30 ROW(30)
#define ROWS_32 ROWS_31 ROW(31)
#define JOINED(a, b) a##b
#define OF_EACH_ROW(rows) JOINED(ROWS_, rows)

constexpr int THREADS = 256;
// Lanes that read a vector, and vectors that are read at a time.
constexpr int LANES = DIM / 8;
constexpr int READERS = THREADS / LANES;
// Positions that a reader has on their way.
constexpr int AHEAD = 4;

__device__ __forceinline__ void unpack8(uint4 v, float* f) {
  const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    f[2 * i] = to_float(words[i] & 0xffffu);
    f[2 * i + 1] = to_float(words[i] >> 16);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS) NAME(
#define ROW(n) u16 *keys##n, u16 *values##n,
    OF_EACH_ROW(ROWS)
#undef ROW
    const u16* __restrict__ new_queries,
    const u16* __restrict__ new_keys,
    const u16* __restrict__ new_values,
    // Of each row: its first block, into how many shares its positions are split, the place of the
    // new one, and how many its cache has room for.
    const int4* __restrict__ rows,
#if ROPE == 2
#define ROW(n) const float *wavelengths##n,
    OF_EACH_ROW(ROWS)
#undef ROW
#endif
#if NORM == 2
    const u16* __restrict__ query_norm,
    const u16* __restrict__ key_norm,
#endif
    float* __restrict__ found,
    int heads,
    float scale,
    float cap,
    float log2_base,
    float rope_scale,
    float rope_gain,
    float query_eps,
    float key_eps
) {
  extern __shared__ __align__(16) float memory[];
  // Queries and the new key, and later what each reader found.
  __shared__ float prepared[HEADS + 1][DIM];
  __shared__ float largest[READERS][HEADS], weights[READERS][HEADS];
  int row = 0;
#pragma unroll
  for (int r = 1; r < ROWS; ++r) {
    row += rows[r].x <= (int)blockIdx.x;
  }
  const int4 own_row = rows[row];
  const int shares = own_row.y, at = own_row.z, seen = at + 1;
  // Which of the row's key/value heads, which of those of all rows, and which share.
  const int head_of_row = (blockIdx.x - own_row.x) / shares;
  const int head = row * heads + head_of_row, share = (blockIdx.x - own_row.x) % shares;
  const int per_share = (seen + shares - 1) / shares;
  const int first = share * per_share, last = min(first + per_share, seen);
  const bool writes = first <= at && at < last;
#define ROW(n) keys##n, values##n,
  u16* const caches[2 * ROWS] = {OF_EACH_ROW(ROWS)};
#undef ROW
  u16 *key = caches[0], *value = caches[1];
#pragma unroll
  for (int r = 1; r < ROWS; ++r) {
    key = r == row ? caches[2 * r] : key;
    value = r == row ? caches[2 * r + 1] : value;
  }
#if ROPE == 2
#define ROW(n) wavelengths##n,
  const float* const all_wavelengths[ROWS] = {OF_EACH_ROW(ROWS)};
#undef ROW
  const float* wavelengths = all_wavelengths[0];
#pragma unroll
  for (int r = 1; r < ROWS; ++r) {
    wavelengths = r == row ? all_wavelengths[r] : wavelengths;
  }
#endif
  key += (size_t)head_of_row * own_row.w * DIM;
  value += (size_t)head_of_row * own_row.w * DIM;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;

  // A warp prepares a vector: norm, then rotation.
  for (int vector = warp; vector < HEADS + (writes ? 1 : 0); vector += THREADS / 32) {
    const bool is_key = vector == HEADS;
    const u16* from = is_key ? new_keys + (size_t)head * DIM
                             : new_queries + ((size_t)head * HEADS + vector) * DIM;
    float* to = prepared[vector];
    float square = 0;
    for (int i = lane; i < DIM; i += 32) {
      to[i] = to_float(from[i]);
      square += to[i] * to[i];
    }
#if NORM
    for (int o = 16; o; o >>= 1) {
      square += __shfl_xor_sync(~0u, square, o);
    }
    const float factor = rsqrtf(square / DIM + (is_key ? key_eps : query_eps));
    for (int i = lane; i < DIM; i += 32) {
      to[i] *= factor;
#if NORM == 2
      to[i] *= to_float((is_key ? key_norm : query_norm)[i]);
#endif
      to[i] = to_float(from_float(to[i]));
    }
#endif
    __syncwarp();
#if ROPE
    constexpr int half = ROPE_DIM / 2;
    for (int i = lane; i < half; i += 32) {
#if ROPE == 2
      const float angle = at * rope_scale / wavelengths[i];
#else
      const float angle = at * rope_scale * exp2f(-log2_base * (float)i / half);
#endif
      float sine, cosine;
      sincosf(angle, &sine, &cosine);
      const int a = TRADITIONAL ? 2 * i : i, b = TRADITIONAL ? 2 * i + 1 : i + half;
      const float x = to[a] * rope_gain, y = to[b] * rope_gain;
      to[a] = x * cosine - y * sine;
      to[b] = x * sine + y * cosine;
    }
    __syncwarp();
#endif
    if (is_key) {
      for (int i = lane; i < DIM; i += 32) {
        key[(size_t)at * DIM + i] = from_float(to[i]);
        value[(size_t)at * DIM + i] = new_values[(size_t)head * DIM + i];
      }
    }
  }
  __syncthreads();

  const int reader = threadIdx.x / LANES, own = threadIdx.x % LANES * 8;
  // Powers of 2 are faster; log2(e) goes into the scale unless scores are bounded in between.
  constexpr float LOG2E = 1.4426950408889634f;
  float query[HEADS][8], sum[HEADS][8] = {}, top[HEADS], weight[HEADS] = {};
#pragma unroll
  for (int h = 0; h < HEADS; ++h) {
    top[h] = -__int_as_float(0x7f800000);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      query[h][i] = prepared[h][own + i] * scale * (CAP ? 1.f : LOG2E);
    }
  }
#pragma unroll 1
  for (int from = first + reader; from - reader < last; from += READERS * AHEAD) {
    uint4 k[AHEAD], v[AHEAD];
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) {
      const size_t row = (size_t)min(from + j * READERS, last - 1) * DIM + own;
      k[j] = *(const uint4*)(key + row);
      v[j] = *(const uint4*)(value + row);
    }
    float score[AHEAD][HEADS];
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) {
      float f[8];
      unpack8(k[j], f);
#pragma unroll
      for (int h = 0; h < HEADS; ++h) {
        float s = 0;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          s += query[h][i] * f[i];
        }
#pragma unroll
        for (int o = 1; o < LANES; o *= 2) {
          s += __shfl_xor_sync(~0u, s, o);
        }
#if CAP
        s = cap * tanhf(s / cap) * LOG2E;
#endif
        score[j][h] = from + j * READERS < last ? s : -__int_as_float(0x7f800000);
      }
    }
#pragma unroll
    for (int h = 0; h < HEADS; ++h) {
      float now = top[h];
#pragma unroll
      for (int j = 0; j < AHEAD; ++j) {
        now = fmaxf(now, score[j][h]);
      }
      // A reader without positions has found nothing so far.
      const float shrink = now == top[h] ? 1.f : exp2f(top[h] - now);
      top[h] = now;
      weight[h] *= shrink;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        sum[h][i] *= shrink;
      }
    }
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) {
      float f[8];
      unpack8(v[j], f);
      const bool inside = from + j * READERS < last;
#pragma unroll
      for (int h = 0; h < HEADS; ++h) {
        const float p = inside ? exp2f(score[j][h] - top[h]) : 0.f;
        weight[h] += p;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          // What lies beyond the last position may be anything.
          sum[h][i] += inside ? p * f[i] : 0.f;
        }
      }
    }
  }

  // What the readers found is put together.
#pragma unroll
  for (int h = 0; h < HEADS; ++h) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      memory[(reader * HEADS + h) * DIM + own + i] = sum[h][i];
    }
    if (own == 0) {
      largest[reader][h] = top[h];
      weights[reader][h] = weight[h];
    }
  }
  __syncthreads();
  for (int index = threadIdx.x; index < HEADS * DIM; index += THREADS) {
    const int h = index / DIM, i = index % DIM;
    float most = -__int_as_float(0x7f800000);
    for (int r = 0; r < READERS; ++r) {
      most = fmaxf(most, largest[r][h]);
    }
    float value_sum = 0, weight_sum = 0;
    for (int r = 0; r < READERS; ++r) {
      // NaN scores reach the sums by their weights.
      const float factor = weights[r][h] == 0.f ? 0.f : exp2f(largest[r][h] - most);
      value_sum += memory[(r * HEADS + h) * DIM + i] * factor;
      weight_sum += weights[r][h] * factor;
    }
    float* to = found + ((size_t)blockIdx.x * HEADS + h) * (DIM + 2);
    to[2 + i] = value_sum;
    if (i == 0) {
      to[0] = most;
      to[1] = weight_sum;
    }
  }
}
