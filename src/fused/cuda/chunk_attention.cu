// Attention of new positions of rows to what their caches hold, which has them already
// (chunk_place.cu). A block looks at a tile of neighbouring positions of one row for the query heads
// of one key/value head, which are rows of the same products, and at a share of the keys: scores and
// sums stay in registers, with the largest score so far (Dao 2023, "FlashAttention-2"). Where keys
// are split into shares, chunk_attention_join.cu puts together what these found.
//
// Settings, defined before this text, besides those of numbers.cuh and rows.cuh:
//   NAME    of the kernel
//   DIM     features of a head: 64, 128 or 256
//   HEADS   query heads of a key/value head
//   CAP     1: scores are bounded by cap · tanh(score / cap)
//   SHARED  1: keys are split
//   SINKS   1: each head has a score for looking at nothing, where they are not

constexpr int WARPS = 4, THREADS = 32 * WARPS;
// Operands of 16 rows that a warp has. Eight warps with one each are a third slower.
constexpr int OPERANDS = DIM == 256 ? 1 : 2;
constexpr int TILE = 16 * OPERANDS * WARPS;
// Keys that are looked at together.
constexpr int KEYS = DIM == 256 ? 32 : 64;
// 16-byte parts of a vector.
constexpr int PARTS = DIM / 8;
constexpr float LOG2E = 1.4426950408889634f;
#define INFINITE __int_as_float(0x7f800000)

/// Where a tile in shared memory keeps a part of a vector: eight vectors are read without conflicts.
__device__ __forceinline__ u32 place(int vector, int part) {
  return (vector * PARTS + (part ^ (vector & 7))) * 16;
}

__device__ __forceinline__ void load_matrices(u32 (&to)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}

__device__ __forceinline__ void load_transposed(u32 (&to)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from)
               : "memory");
}

__device__ __forceinline__ void multiply(float (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#if X == 1
#define TYPES "f32.f16.f16.f32"
#else
#define TYPES "f32.bf16.bf16.f32"
#endif
  asm volatile("mma.sync.aligned.m16n8k16.row.col." TYPES
               " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ u32 packed(float low, float high) {
  u32 both;
#if X == 1
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#else
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#endif
  return both;
}

__device__ __forceinline__ float power(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// What the four lanes of a row have.
template <typename F>
__device__ __forceinline__ float of_quad(float x, F combine) {
  x = combine(x, __shfl_xor_sync(~0u, x, 1));
  return combine(x, __shfl_xor_sync(~0u, x, 2));
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) NAME(
    // [positions, heads, features]
    const u16* __restrict__ queries,
    const Cache* __restrict__ caches,
    // Of each row: as in chunk_place.cu, and how many positions are new.
    const int4* __restrict__ rows,
    // Of each tile: its row, its first new position of that row, its first key, and where its keys
    // end. Shares of the same positions follow each other.
    const int4* __restrict__ tiles,
#if SINKS && !SHARED
    const u16* __restrict__ sinks,
#endif
#if SHARED
    // Of each share, head and row of the tile: the largest score, times log2(e), the sum of weights
    // and the weighted sum of values.
    float* __restrict__ found,
#else
    u16* __restrict__ out,
#endif
    int kv_heads,
    float scale,
    float cap
) {
  extern __shared__ __align__(128) unsigned char memory[];
  const int head = blockIdx.x % kv_heads;
  const int4 tile = tiles[blockIdx.x / kv_heads];
  const int4 row = rows[tile.x];
  const int before = row.y, length = row.w, first = tile.y, begin = tile.z, end = tile.w;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const size_t of_head = (size_t)head * row.z * DIM;
  const u16* const keys = caches[tile.x].keys + of_head;
  const u16* const values = caches[tile.x].values + of_head;
  const size_t stride = (size_t)kv_heads * HEADS * DIM;
  // Of the tile's first position and the first query head of this key/value head.
  const size_t origin = (row.x + first) * stride + (size_t)head * HEADS * DIM;
  const u32 query_tile = (u32)__cvta_generic_to_shared(memory);
  const u32 key_tiles = query_tile + TILE * DIM * 2;
  constexpr u32 KEY_BYTES = KEYS * DIM * 2;

  for (int i = threadIdx.x; i < TILE * PARTS; i += THREADS) {
    const int r = i / PARTS, part = i % PARTS;
    const bool inside = r < TILE / HEADS * HEADS && first + r / HEADS < length;
    const size_t from = inside ? origin + r / HEADS * stride + r % HEADS * DIM : origin;
    copy_async(query_tile + place(r, part), queries + from + part * 8, inside);
  }
  auto load = [&](int from, int stage) {
    const u32 to = key_tiles + stage * 2 * KEY_BYTES;
#pragma unroll 4
    for (int i = threadIdx.x; i < KEYS * PARTS; i += THREADS) {
      const int key = i / PARTS, part = i % PARTS;
      // What lies beyond may be anything, also no number.
      const bool inside = from + key < end;
      const size_t at = (size_t)(inside ? from + key : begin) * DIM + part * 8;
      copy_async(to + place(key, part), keys + at, inside);
      copy_async(to + KEY_BYTES + place(key, part), values + at, inside);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  load(begin, 0);

  float sum[OPERANDS][DIM / 8][4] = {}, most[OPERANDS][2], weight[OPERANDS][2] = {};
  // The last key that a row of the tile sees, and what is left of the tile after its positions.
  int last[OPERANDS][2];
#pragma unroll
  for (int o = 0; o < OPERANDS; ++o) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = (warp * OPERANDS + o) * 16 + half * 8 + (lane >> 2);
      last[o][half] = before + first + r / HEADS;
      most[o][half] = -INFINITE;
    }
  }
  const int warp_first = before + first + warp * OPERANDS * 16 / HEADS;
  const int warp_last = before + first + (warp * OPERANDS * 16 + OPERANDS * 16 - 1) / HEADS;
  // Scores are times this before they become powers of 2.
  const float factor = CAP ? cap * LOG2E : scale * LOG2E;
#if CAP
  const float into_cap = scale / cap;
#endif

#pragma unroll 1
  for (int from = begin, stage = 0; from < end; from += KEYS, stage ^= 1) {
    const bool more = from + KEYS < end;
    if (more) {
      load(from + KEYS, stage ^ 1);
      asm volatile("cp.async.wait_group 1;" ::: "memory");
    } else {
      asm volatile("cp.async.wait_group 0;" ::: "memory");
    }
    __syncthreads();
    if (from <= warp_last) {
      const u32 key_tile = key_tiles + stage * 2 * KEY_BYTES, value_tile = key_tile + KEY_BYTES;
      float score[OPERANDS][KEYS / 8][4] = {};
#pragma unroll
      for (int part = 0; part < PARTS; part += 2) {
        u32 query[OPERANDS][4];
#pragma unroll
        for (int o = 0; o < OPERANDS; ++o) {
          const int r = (warp * OPERANDS + o) * 16 + (lane & 15);
          load_matrices(query[o], query_tile + place(r, part + (lane >> 4)));
        }
#pragma unroll
        for (int n = 0; n < KEYS / 16; ++n) {
          u32 key[4];
          const int k = n * 16 + (lane >> 4) * 8 + (lane & 7);
          load_matrices(key, key_tile + place(k, part + (lane >> 3 & 1)));
#pragma unroll
          for (int o = 0; o < OPERANDS; ++o) {
            multiply(score[o][2 * n], query[o], key[0], key[1]);
            multiply(score[o][2 * n + 1], query[o], key[2], key[3]);
          }
        }
      }
      u32 weights[OPERANDS][KEYS / 16][4];
#pragma unroll
      for (int o = 0; o < OPERANDS; ++o) {
        float now[2] = {most[o][0], most[o][1]};
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float& s = score[o][n][i];
#if CAP
            s = tanhf(s * into_cap);
#endif
            if (from + KEYS - 1 > warp_first) {
              const int key = from + n * 8 + (lane & 3) * 2 + (i & 1);
              s = key <= last[o][i >> 1] ? s : -INFINITE;
            }
            now[i >> 1] = fmaxf(now[i >> 1], s);
          }
        }
        float base[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          now[half] = of_quad(now[half], [](float a, float b) { return fmaxf(a, b); });
          // A row that has seen nothing so far has nothing to lose.
          base[half] = now[half] == -INFINITE ? 0.f : now[half] * factor;
          const float shrink = power(most[o][half] * factor - base[half]);
          most[o][half] = now[half];
          weight[o][half] *= shrink;
#pragma unroll
          for (int d = 0; d < DIM / 8; ++d) {
            sum[o][d][2 * half] *= shrink;
            sum[o][d][2 * half + 1] *= shrink;
          }
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float& s = score[o][n][i];
            s = power(s * factor - base[i >> 1]);
            weight[o][i >> 1] += s;
          }
          weights[o][n / 2][n % 2 * 2] = packed(score[o][n][0], score[o][n][1]);
          weights[o][n / 2][n % 2 * 2 + 1] = packed(score[o][n][2], score[o][n][3]);
        }
      }
#pragma unroll
      for (int n = 0; n < KEYS / 16; ++n) {
#pragma unroll
        for (int part = 0; part < PARTS; part += 2) {
          u32 value[4];
          load_transposed(value, value_tile + place(n * 16 + (lane & 15), part + (lane >> 4)));
#pragma unroll
          for (int o = 0; o < OPERANDS; ++o) {
            multiply(sum[o][part], weights[o][n], value[0], value[1]);
            multiply(sum[o][part + 1], weights[o][n], value[2], value[3]);
          }
        }
      }
    }
    __syncthreads();
  }

#pragma unroll
  for (int o = 0; o < OPERANDS; ++o) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = (warp * OPERANDS + o) * 16 + half * 8 + (lane >> 2);
      float all = of_quad(weight[o][half], [](float a, float b) { return a + b; });
      if (r >= TILE / HEADS * HEADS || first + r / HEADS >= length) {
        continue;
      }
#if SHARED
      float* const to = found + ((size_t)blockIdx.x * TILE + r) * (DIM + 2);
      if ((lane & 3) == 0) {
        to[0] = most[o][half] * factor;
        to[1] = all;
      }
#pragma unroll
      for (int d = 0; d < DIM / 8; ++d) {
        const float2 both{sum[o][d][2 * half], sum[o][d][2 * half + 1]};
        *(float2*)(to + 2 + d * 8 + (lane & 3) * 2) = both;
      }
#else
      float shrink = 1;
#if SINKS
      const float sink = to_float(sinks[head * HEADS + r % HEADS]) * LOG2E;
      const float top = fmaxf(sink, most[o][half] * factor);
      shrink = power(most[o][half] * factor - top);
      all = all * shrink + power(sink - top);
#endif
      shrink /= all;
      u16* const to = out + origin + r / HEADS * stride + r % HEADS * DIM + (lane & 3) * 2;
#pragma unroll
      for (int d = 0; d < DIM / 8; ++d) {
        const float low = sum[o][d][2 * half], high = sum[o][d][2 * half + 1];
        *(u32*)(to + d * 8) = packed(low * shrink, high * shrink);
      }
#endif
    }
  }
}
