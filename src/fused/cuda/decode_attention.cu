// Attention of one new position of each row to the row's cache: its query and key are normed and
// rotated, its key and value are written into the cache, and each block looks at a share of a row's
// positions for the query heads of one key/value head. What the shares found is put together by
// decode_attention_join.cu.
//
// A quarter, half or whole warp reads the vectors of a position, 16 bytes a lane, several positions
// at a time, and keeps what it found itself (the largest score, the sum of weights, the weighted
// sum of values) until the end. A lane copies its own bytes of the next positions into shared memory
// meanwhile, which takes no registers and no barrier.
//
// Settings, defined before this text, besides those of numbers.cuh, rows.cuh and prepare.cuh:
//   NAME   of the kernel
//   HEADS  query heads of a key/value head
//   CAP    1: scores are bounded by cap · tanh(score / cap)

constexpr int THREADS = 256;
// Lanes that read a vector, and vectors that are read at a time.
constexpr int LANES = DIM / 8;
constexpr int READERS = THREADS / LANES;
// Positions that a reader looks at together.
constexpr int TOGETHER = 4;
// Lots of these in shared memory, all but one of them on their way.
constexpr int STAGES = 2;
// Between the pieces of a lane in shared memory, and of their keys and values.
constexpr int PIECE = THREADS * 16, VALUES = TOGETHER * PIECE, STAGE = 2 * VALUES;

__device__ __forceinline__ void unpack8(uint4 v, float* f) {
  const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    f[2 * i] = to_float(words[i] & 0xffffu);
    f[2 * i + 1] = to_float(words[i] >> 16);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS) NAME(
    const Cache* __restrict__ caches,
    // Columns of arrays that may be the same one.
    const u16* __restrict__ new_queries,
    const u16* __restrict__ new_keys,
    const u16* __restrict__ new_values,
    // Of each row: its first block, into how many shares its positions are split, the place of the
    // new one, and how many its cache has room for.
    const int4* __restrict__ rows,
#if ROPE == 2
    const float* __restrict__ wavelengths,
#endif
#if NORM == 2
    const u16* __restrict__ query_norm,
    const u16* __restrict__ key_norm,
#endif
    float* __restrict__ found,
    int kv_heads,
    int query_first,
    int query_stride,
    int key_first,
    int key_stride,
    int value_first,
    int value_stride,
    int row_count,
    int wavelength_stride,
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
  const int row = row_at(rows, row_count, blockIdx.x);
  const int4 own_row = rows[row];
  const int shares = own_row.y, at = own_row.z, seen = at + 1;
  // Which of the row's key/value heads, which of those of all rows, and which share.
  const int head_of_row = (blockIdx.x - own_row.x) / shares;
  const int head = row * heads + head_of_row, share = (blockIdx.x - own_row.x) % shares;
  const int per_share = (seen + shares - 1) / shares;
  const int first = share * per_share, last = min(first + per_share, seen);
  const bool writes = first <= at && at < last;
#if ROPE == 2
  wavelengths += row * wavelength_stride;
#else
  const float* const wavelengths = nullptr;
#endif
  const Cache cache = caches[row];
  u16* const key = cache.keys + (size_t)head_of_row * own_row.w * DIM;
  u16* const value = cache.values + (size_t)head_of_row * own_row.w * DIM;
  // Which new position, and which of its key/value heads.
  const int position = head / kv_heads, own_head = head % kv_heads;
  new_queries += (size_t)position * query_stride + query_first + own_head * HEADS * DIM;
  new_keys += (size_t)position * key_stride + key_first + own_head * DIM;
  new_values += (size_t)position * value_stride + value_first + own_head * DIM;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;

  // A warp prepares a vector: norm, then rotation.
  for (int vector = warp; vector < HEADS + (writes ? 1 : 0); vector += THREADS / 32) {
    const bool is_key = vector == HEADS;
    const u16* from = is_key ? new_keys : new_queries + vector * DIM;
    float* to = prepared[vector];
    prepare(from, to, at, NORM_OF(is_key), wavelengths, {log2_base, rope_scale, rope_gain});
    if (is_key) {
      for (int i = lane; i < DIM; i += 32) {
        key[(size_t)at * DIM + i] = from_float(to[i]);
        value[(size_t)at * DIM + i] = new_values[i];
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
  const char* const stages = (const char*)memory + threadIdx.x * 16;
  const u32 stages_at = (u32)__cvta_generic_to_shared(stages);
  constexpr int STEP = READERS * TOGETHER;
  auto fetch = [&](int from, int stage) {
    // What lies beyond may be anything, also no number.
#pragma unroll
    for (int j = 0; j < TOGETHER; ++j) {
      const int position = from + j * READERS;
      const bool inside = position < last;
      const size_t place = (size_t)(inside ? position : 0) * DIM + own;
      const u32 to = stages_at + stage * STAGE + j * PIECE;
      copy_async(to, key + place, inside);
      copy_async(to + VALUES, value + place, inside);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
#pragma unroll
  for (int stage = 0; stage < STAGES - 1; ++stage) {
    fetch(first + stage * STEP + reader, stage);
  }
#pragma unroll 1
  for (int from = first + reader, stage = 0; from - reader < last; from += STEP) {
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
    const int free = stage == 0 ? STAGES - 1 : stage - 1;
    fetch(from + (STAGES - 1) * STEP, free);
    const char* const keys = stages + stage * STAGE;
    stage = stage == STAGES - 1 ? 0 : stage + 1;
    float score[TOGETHER][HEADS];
#pragma unroll
    for (int j = 0; j < TOGETHER; ++j) {
      float f[8];
      unpack8(*(const uint4*)(keys + j * PIECE), f);
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
      for (int j = 0; j < TOGETHER; ++j) {
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
    for (int j = 0; j < TOGETHER; ++j) {
      float f[8];
      unpack8(*(const uint4*)(keys + VALUES + j * PIECE), f);
#pragma unroll
      for (int h = 0; h < HEADS; ++h) {
        // Of what lies beyond the last position, and of an infinite key: the largest score may be
        // that of no position yet.
        const bool weighs = score[j][h] != -__int_as_float(0x7f800000);
        const float p = weighs ? exp2f(score[j][h] - top[h]) : 0.f;
        weight[h] += p;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          sum[h][i] += p * f[i];
        }
      }
    }
  }

  // What the readers found is put together, where the stages were.
  asm volatile("cp.async.wait_group 0;" ::: "memory");
  __syncthreads();
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
