// y = x · wᵀ for few rows of x, with quantized or 16-bit weights: bound by the memory that holds w.
// Where there are more rows than the operand made of x has columns, blocks next to each other work
// for other rows with the same weights, which the second of them finds in the cache.
//
// A block owns tiles of 16 · TILES outputs, whose chunks of KC inputs its warps share out. Each
// warp copies its chunks into shared memory by itself, STAGES - 1 of them ahead of the one that it
// multiplies, also across tiles, so that loads never wait for anything but the memory. Codes become
// operands of tensor cores by or-ing them into the mantissa of a number (128 + q in bfloat16,
// 1024 + q in float16), so that
//
//     Σ (s · q + b) · x = s · Σ (OFFSET + q) · x + (b - OFFSET · s) · Σ x
//
// over a group is exact but for float32 sums. Which inputs a lane holds is free as long as both
// operands agree: a lane takes consecutive ones of a row.
//
// Settings, defined before this text:
//   NAME         of the kernel
//   X            type of activations: 0 bfloat16, 1 float16, 2 float32 (three bfloat16 columns)
//   FORMAT       0 plain 16 bits of type X, 1 affine, 2 mxfp4, 3 mxfp8, 4 nvfp4
//   BITS, GROUP  of a quantized format
//   COLS         columns of the operand made of x: 1, 2, 4, 8 or 16
//   TILES        tiles of 16 outputs that a block works on at a time
//   WARPS        of a block
//   STAGES       chunks of a warp in shared memory
//   BLOCKS       blocks that are to fit on a processor
//   SCALE_BYTES  that are copied at once: 4, 8 or 16
//   STREAM_X     1: x comes with the weights, chunk by chunk, because all of it does not fit
//   NORM         1: the root-mean-square norm of x is multiplied; 2: that of x + delta, and the
//                sum is written, too
//   NORM_WEIGHT  1: the norm has a weight
//   GATED        0, or the activation of a gated product (1 SiLU, 2 GELU, 3 GELU by tanh, 4 ReLU):
//                the first half of w's rows are gates, the others ups
//   EXPERTS      0; or w is a matrix for each of many experts, and a row is multiplied with those
//                that were chosen for it, ACTIVE of them: 1: their outputs follow each other, gates
//                and ups are matrices of their own, and what comes out is weighed; 2: their inputs
//                follow each other, that is, their outputs are added up
//   ACTIVE       experts of a row, if EXPERTS
//   ROUTED       0: they are known; or how many there are, of which logits choose, with the settings
//                of choose.cuh, which stands before this text. The choice is written, too

typedef unsigned short u16;
typedef unsigned int u32;

constexpr int THREADS = 32 * WARPS;
constexpr int WEIGHT_BITS = FORMAT == 0 ? 16 : BITS;
// Inputs of a chunk, which are of a whole number of 16 bytes and of groups.
constexpr int KC = FORMAT == 0 ? 128 : 256;
// Consecutive inputs of one scale that a quad of lanes multiplies together.
constexpr int UNIT = FORMAT == 0 ? 32 : GROUP < 64 ? GROUP : 64;
constexpr int UNITS = KC / UNIT;
// Of these a lane's: consecutive.
constexpr int OWN = UNIT / 4;
// 16-byte pieces of x that a lane holds of a unit.
constexpr int PIECES = OWN < 8 ? 1 : OWN / 8;
constexpr int ROW_BYTES = KC * WEIGHT_BITS / 8;
constexpr int ROW_PARTS = ROW_BYTES / 16;
constexpr bool SWIZZLED = ROW_BYTES % 128 == 0;
constexpr int UNIT_PARTS = !SWIZZLED || UNIT * WEIGHT_BITS < 128 ? 1 : UNIT * WEIGHT_BITS / 128;
constexpr int ROW_STRIDE = SWIZZLED ? ROW_BYTES : ROW_BYTES + 16;
constexpr int ROWS = 16 * TILES;
constexpr int ENTRIES = FORMAT == 0 ? 0 : KC / GROUP;
constexpr int ENTRY_BYTES = FORMAT == 1 ? (X == 2 ? 4 : 2) : 1;
constexpr int SCALES = ENTRIES * ENTRY_BYTES;
constexpr int SCALE_ARRAYS = FORMAT == 0 ? 0 : FORMAT == 1 ? 2 : 1;
constexpr int SCALES_AT = ROWS * ROW_STRIDE;
constexpr int X_AT = SCALES_AT + SCALE_ARRAYS * ROWS * SCALES;
constexpr int STAGE_BYTES = X_AT + (STREAM_X ? COLS * KC * 2 : 0);
constexpr int HALVES = COLS > 8 ? 2 : 1;
constexpr int COLS8 = COLS > 8 ? 8 : COLS;
constexpr bool OFFSET_CODES = FORMAT == 1;
constexpr float OFFSET = X == 1 ? 1024.f : BITS == 8 ? 2176.f : 128.f;
constexpr int OUT_ROWS = GATED ? ROWS / 2 : ROWS;
constexpr int PARTS = X == 2 ? 3 : 1;
// Tiles whose results are in shared memory at a time: with two, warps go on while those of the tile
// before are added up.
constexpr int TURNS = COLS < 8 ? 2 : 1;
constexpr bool SEVERAL_INPUTS = EXPERTS == 2;
static_assert(!EXPERTS || (!STREAM_X && (EXPERTS == 1) == (GATED != 0)), "of experts");
static_assert(EXPERTS == 1 || !ROUTED, "where several experts begin");
static_assert(!EXPERTS || NORM == 0 || (EXPERTS == 1 && NORM == 1), "of what all experts read");
static_assert(!STREAM_X || (X != 2 && OWN >= 8 && !NORM), "x can be streamed as it is only");

#if X == 2
typedef float XT;
#else
typedef u16 XT;
#endif

__device__ __forceinline__ u32 shared_address(const void* p) {
  return (u32)__cvta_generic_to_shared(p);
}

template <int BYTES>
__device__ __forceinline__ void copy_async(void* to, const void* from, bool inside) {
  const int size = inside ? BYTES : 0;
  if constexpr (BYTES == 16) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(from),
                 "r"(size)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)),
                 "l"(from),
                 "n"(BYTES),
                 "r"(size)
                 : "memory");
  }
}

__device__ __forceinline__ float half_to_float(u32 bits) {
  float f;
  asm("{.reg .b16 h; cvt.u16.u32 h, %1; cvt.f32.f16 %0, h;}" : "=f"(f) : "r"(bits));
  return f;
}

__device__ __forceinline__ u32 float_to_half(float f) {
  u16 h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}

__device__ __forceinline__ u32 float_to_bfloat(float f) {
  u16 h;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}

__device__ __forceinline__ float to_float(u32 bits) {
  return X == 1 ? half_to_float(bits) : __uint_as_float(bits << 16);
}
__device__ __forceinline__ u32 from_float(float f) {
  return X == 1 ? float_to_half(f) : float_to_bfloat(f);
}

#if X == 2
__device__ __forceinline__ float load(const XT* x, size_t i) { return x[i]; }
__device__ __forceinline__ void store(XT* x, size_t i, float f) { x[i] = f; }
__device__ __forceinline__ float rounded(float f) { return f; }
#else
__device__ __forceinline__ float load(const XT* x, size_t i) { return to_float(x[i]); }
__device__ __forceinline__ void store(XT* x, size_t i, float f) { x[i] = (u16)from_float(f); }
__device__ __forceinline__ float rounded(float f) { return to_float(from_float(f)); }
#endif

__device__ __forceinline__ void unpack8(uint4 v, float* f) {
  const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    f[2 * i] = to_float(words[i] & 0xffffu);
    f[2 * i + 1] = to_float(words[i] >> 16);
  }
}

__device__ __forceinline__ uint4 pack8(const float* f) {
  u32 words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = from_float(f[2 * i]) | from_float(f[2 * i + 1]) << 16;
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

/// Arrays may begin anywhere, as parts of others do.
__device__ __forceinline__ bool aligned(const XT* x) { return ((size_t)x & 15) == 0; }

/// Eight numbers from a multiple of 8.
__device__ __forceinline__ void load8(const XT* x, size_t i, float* f) {
  if (!aligned(x)) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      f[j] = load(x, i + j);
    }
    return;
  }
#if X == 2
  *(float4*)f = *(const float4*)(x + i);
  *(float4*)(f + 4) = *(const float4*)(x + i + 4);
#else
  unpack8(*(const uint4*)(x + i), f);
#endif
}

__device__ __forceinline__ void store8(XT* x, size_t i, const float* f) {
#if X == 2
  *(float4*)(x + i) = *(const float4*)f;
  *(float4*)(x + i + 4) = *(const float4*)(f + 4);
#else
  *(uint4*)(x + i) = pack8(f);
#endif
}

__device__ __forceinline__ void multiply(float* c, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
#if X == 1
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
#endif
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/// (q & mask) | magic.
template <u32 MASK, u32 MAGIC>
__device__ __forceinline__ u32 pick(u32 q) {
  u32 r;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(q), "n"(MASK), "n"(MAGIC));
  return r;
}

/// 128 + the lowest nibbles of both halves, or 1024 + in float16.
__device__ __forceinline__ u32 nibbles(u32 q) {
  return pick<0x000f000fu, X == 1 ? 0x64006400u : 0x43004300u>(q);
}

__device__ __forceinline__ u32 scaled(u32 pair, u32 factor) {
  u32 r;
#if X == 1
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(pair), "r"(factor));
#else
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(pair), "r"(factor), "r"(0x80008000u));
#endif
  return r;
}

/// The 4-bit floats in the lowest nibbles of both halves.
__device__ __forceinline__ u32 floats4(u32 q) {
#if X == 1
  return scaled(((q << 9) & 0x0e000e00u) | ((q << 12) & 0x80008000u), 0x74007400u);
#else
  return scaled(((q << 6) & 0x01c001c0u) | ((q << 12) & 0x80008000u), 0x7e807e80u);
#endif
}

/// The 8-bit floats in the lowest bytes of both halves.
__device__ __forceinline__ u32 floats8(u32 q) {
#if X == 1
  return scaled(((q << 7) & 0x3f803f80u) | ((q << 8) & 0x80008000u), 0x5c005c00u);
#else
  return scaled(((q << 4) & 0x07f007f0u) | ((q << 8) & 0x80008000u), 0x7b807b80u);
#endif
}

/// Where inputs of a unit stand in the operands: of 8 in a row the order in which a word's codes
/// come out.
__device__ __forceinline__ uint4 in_order(uint4 v) {
  if constexpr (FORMAT == 0 || (FORMAT == 1 && WEIGHT_BITS != 4 && WEIGHT_BITS != 8)) {
    return v;
  } else if constexpr (WEIGHT_BITS == 8) {
    return make_uint4(
        __byte_perm(v.x, v.y, 0x5410),
        __byte_perm(v.x, v.y, 0x7632),
        __byte_perm(v.z, v.w, 0x5410),
        __byte_perm(v.z, v.w, 0x7632)
    );
  } else if constexpr (OWN == 4) {
    return make_uint4(__byte_perm(v.x, v.y, 0x5410), __byte_perm(v.x, v.y, 0x7632), 0, 0);
  } else {
    return make_uint4(
        __byte_perm(v.x, v.z, 0x5410),
        __byte_perm(v.x, v.z, 0x7632),
        __byte_perm(v.y, v.w, 0x5410),
        __byte_perm(v.y, v.w, 0x7632)
    );
  }
}

__device__ __forceinline__ float activated(float x) {
  if constexpr (GATED == 1) {
    return x / (1.f + __expf(-x));
  } else if constexpr (GATED == 2) {
    return 0.5f * x * (1.f + erff(0.7071067811865476f * x));
  } else if constexpr (GATED == 3) {
    return 0.5f * x * (1.f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
  } else {
    return x < 0.f ? 0.f : x;
  }
}

struct Cursor {
  int tile, chunk;
};

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) NAME(
    const XT* __restrict__ x,
#if NORM == 2
    const XT* __restrict__ delta,
#endif
#if NORM_WEIGHT
    const XT* __restrict__ norm_weight,
#endif
#if ROUTED
    const XT* __restrict__ logits,
#if CORRECTED
    const float* __restrict__ correction,
#endif
#elif EXPERTS
    const u32* __restrict__ chosen,
#if EXPERTS == 1
    const float* __restrict__ weights,
#endif
#endif
    const char* __restrict__ w,
#if FORMAT != 0
    const char* __restrict__ scales,
#endif
#if FORMAT == 1
    const char* __restrict__ biases,
#endif
#if EXPERTS == 1
    const char* __restrict__ up_w,
#if FORMAT != 0
    const char* __restrict__ up_scales,
#endif
#if FORMAT == 1
    const char* __restrict__ up_biases,
#endif
#endif
    XT* __restrict__ out,
#if NORM == 2
    XT* __restrict__ sum_out,
#endif
#if ROUTED
    u32* __restrict__ chosen_out,
#endif
    int outputs,
    int inputs,
    int rows
#if NORM
    ,
    float eps
#endif
#if ROUTED
    ,
    float scale
#endif
) {
  extern __shared__ __align__(128) char memory[];
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  // Of one expert, and of all that a row goes through one after the other.
  const int own_chunks = (inputs + KC - 1) / KC;
  const int chunks = own_chunks * (SEVERAL_INPUTS ? ACTIVE : 1);
  const int padded = chunks * KC;
  const int width = GATED && !EXPERTS ? outputs / 2 : outputs;
  const int tiles = (width + OUT_ROWS - 1) / OUT_ROWS;
  const size_t row_bytes = (size_t)inputs * WEIGHT_BITS / 8;
#if FORMAT != 0
  const int scale_row = inputs / GROUP * ENTRY_BYTES;
#endif

#if EXPERTS
  // A block works for one row of x only.
  const int first_tile = blockIdx.x / rows, tile_step = gridDim.x / rows;
  const int own_row = blockIdx.x % rows;
  rows = 1;
  x += (size_t)own_row * inputs * (SEVERAL_INPUTS ? ACTIVE : 1);
  out += (size_t)own_row * outputs;
  __shared__ u32 experts[ACTIVE];
#if EXPERTS == 1
  __shared__ float weights_of[ACTIVE];
#endif
#if ROUTED
#if !CORRECTED
  const float* correction = nullptr;
#endif
  if (warp == 0) {
    const routing::Choice choice = routing::choose(
        [&](int expert) { return load(logits, (size_t)own_row * ROUTED + expert); },
        [&](int expert) { return correction[expert]; },
        scale
    );
    if (lane < ACTIVE) {
      experts[lane] = choice.expert;
      weights_of[lane] = choice.weight;
      if (first_tile == 0) {
        chosen_out[own_row * ACTIVE + lane] = choice.expert;
      }
    }
  }
#else
  if (threadIdx.x < ACTIVE) {
    experts[threadIdx.x] = chosen[own_row * ACTIVE + threadIdx.x];
#if EXPERTS == 1
    weights_of[threadIdx.x] = weights[own_row * ACTIVE + threadIdx.x];
#endif
  }
#endif
  __syncthreads();
#if EXPERTS == 1
  // Outputs of one expert are a whole number of tiles.
  const int own_tiles = tiles / ACTIVE;
#endif
#else
  // A block works for as many rows as the operand has columns.
  constexpr int MOST = COLS / PARTS;
  const int groups = (rows + MOST - 1) / MOST, first_row = blockIdx.x % groups * MOST;
  const int first_tile = blockIdx.x / groups, tile_step = gridDim.x / groups;
  rows = min(rows - first_row, MOST);
  x += (size_t)first_row * inputs;
  out += (size_t)first_row * width;
#if NORM == 2
  delta += (size_t)first_row * inputs;
  sum_out += (size_t)first_row * inputs;
#endif
#endif

  // x as operands, the sums of its units, two tiles of the warps' results, and the chunks on their
  // way.
  char* operand = memory;
  float* sums = (float*)(operand + (STREAM_X ? 0 : (size_t)padded * COLS * 2));
  float* results = sums + (STREAM_X || !OFFSET_CODES ? 0 : padded / UNIT * COLS);
  char* stages = (char*)(results + TURNS * WARPS * ROWS * COLS) + warp * (STAGES * STAGE_BYTES);

  // The row of w of a tile's row, for a chunk of the inputs.
  auto weight_row = [&](Cursor at, int r) -> size_t {
#if EXPERTS == 1
    const int n = at.tile % own_tiles * OUT_ROWS + (r >> 4) * 8 + (r & 7);
    return (size_t)experts[at.tile / own_tiles] * (outputs / ACTIVE) + n;
#elif EXPERTS == 2
    const int n = min(at.tile * ROWS + r, outputs - 1);
    return (size_t)experts[at.chunk / own_chunks] * outputs + n;
#else
    if (GATED) {
      int n = at.tile * OUT_ROWS + (r >> 4) * 8 + (r & 7);
      return min(n, outputs / 2 - 1) + ((r >> 3) & 1) * (outputs / 2);
    }
    return min(at.tile * ROWS + r, outputs - 1);
#endif
  };
#if EXPERTS == 1
#define OF_ROW(array, r) ((r) >> 3 & 1 ? up_##array : array)
#else
#define OF_ROW(array, r) array
#endif

  Cursor ahead = {warp < chunks ? first_tile : tiles, warp};
  auto fetch = [&](int slot) {
    if (ahead.tile < tiles) {
      char* stage = stages + slot * STAGE_BYTES;
      const int own_chunk = SEVERAL_INPUTS ? ahead.chunk % own_chunks : ahead.chunk;
      const int at = own_chunk * ROW_BYTES;
#pragma unroll
      for (int i = 0; i < (ROWS * ROW_PARTS + 31) / 32; ++i) {
        const int index = lane + 32 * i, r = index / ROW_PARTS, part = index % ROW_PARTS;
        if ((ROWS * ROW_PARTS) % 32 == 0 || index < ROWS * ROW_PARTS) {
          const int swizzle = SWIZZLED ? (r & (8 / UNIT_PARTS - 1)) * UNIT_PARTS : 0;
          const bool inside = at + part * 16 < row_bytes;
          copy_async<16>(
              stage + r * ROW_STRIDE + (part ^ swizzle) * 16,
              OF_ROW(w, r) + weight_row(ahead, r) * row_bytes + (inside ? at + part * 16 : 0),
              inside
          );
        }
      }
#if FORMAT != 0
      constexpr int per_row = SCALES / SCALE_BYTES, count = SCALE_ARRAYS * ROWS * per_row;
#pragma unroll
      for (int i = 0; i < (count + 31) / 32; ++i) {
        const int index = lane + 32 * i, r = index / per_row % ROWS, part = index % per_row;
        if (count % 32 == 0 || index < count) {
          const int from = own_chunk * SCALES + part * SCALE_BYTES;
          const bool inside = from < scale_row;
#if FORMAT == 1
          const char* array = index / per_row < ROWS ? OF_ROW(scales, r) : OF_ROW(biases, r);
#else
          const char* array = OF_ROW(scales, r);
#endif
          copy_async<SCALE_BYTES>(
              stage + SCALES_AT + index * SCALE_BYTES,
              array + weight_row(ahead, r) * scale_row + (inside ? from : 0),
              inside
          );
        }
      }
#endif
#if STREAM_X
#pragma unroll 4
      for (int index = lane; index < COLS * KC / 8; index += 32) {
        // Pieces of 8 inputs, in the order of the lanes that read them.
        const int col = index / (KC / 8), k8 = index % (KC / 8);
        const int unit = k8 / (UNIT / 8), own = k8 % (UNIT / 8) / PIECES, piece = k8 % PIECES;
        const int k = ahead.chunk * KC + k8 * 8;
        const bool inside = col < rows && k < inputs;
        char* to = stage + X_AT + (((unit * PIECES + piece) * COLS + col) * 4 + own) * 16;
        if (aligned(x)) {
          copy_async<16>(to, x + (inside ? (size_t)col * inputs + k : 0), inside);
        } else {
          for (int j = 0; j < 8; ++j) {
            ((XT*)to)[j] = inside ? x[(size_t)col * inputs + k + j] : (XT)0;
          }
        }
      }
#endif
      ahead.chunk += WARPS;
      if (ahead.chunk >= chunks) {
        ahead.chunk = warp;
        ahead.tile += tile_step;
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };

#pragma unroll 1
  for (int i = 0; i < STAGES - 1; ++i) {
    fetch(i);
  }

#if !STREAM_X
  // x as operands, with the sums of its units.
#if NORM
  // As many warps for a row as there are for each.
  constexpr int SHARE = WARPS > COLS ? WARPS / COLS : 1;
  __shared__ float squares[COLS][SHARE];
  __shared__ float factors[COLS];
#pragma unroll 1
  for (int row = warp / SHARE; row < rows; row += WARPS / SHARE) {
    float square = 0;
#pragma unroll 2
    for (int k = (warp % SHARE * 32 + lane) * 8; k < inputs; k += SHARE * 32 * 8) {
      const size_t at = (size_t)row * inputs + k;
      float f[8];
      load8(x, at, f);
#if NORM == 2
      float d[8];
      load8(delta, at, d);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        f[i] = rounded(f[i] + d[i]);
      }
      if (first_tile == 0) {
        store8(sum_out, at, f);
      }
#endif
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        square += f[i] * f[i];
      }
    }
    for (int o = 16; o; o >>= 1) {
      square += __shfl_xor_sync(~0u, square, o);
    }
    if (lane == 0) {
      squares[row][warp % SHARE] = square;
    }
  }
  __syncthreads();
  if (threadIdx.x < rows) {
    float square = 0;
    for (int i = 0; i < SHARE; ++i) {
      square += squares[threadIdx.x][i];
    }
    factors[threadIdx.x] = rsqrtf(square / inputs + eps);
  }
  __syncthreads();
#endif
  // Eight numbers as an operand holds them; of 32 bits this of three parts.
  auto operand_piece = [&](int row, int part, int k) {
    const size_t at = (size_t)row * inputs + k;
#if X != 2 && !NORM
    if (aligned(x)) {
      return __ldg((const uint4*)(x + at));
    }
    const u16* from = x + at;
    return make_uint4(
        from[0] | from[1] << 16,
        from[2] | from[3] << 16,
        from[4] | from[5] << 16,
        from[6] | from[7] << 16
    );
#else
    float f[8];
    load8(x, at, f);
#if NORM == 2
    float d[8];
    load8(delta, at, d);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      f[i] = rounded(f[i] + d[i]);
    }
#endif
#if NORM
#if NORM_WEIGHT
    float weight[8];
    load8(norm_weight, k, weight);
#endif
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      f[i] *= factors[row];
#if NORM_WEIGHT
      f[i] *= weight[i];
#endif
    }
#endif
#if X == 2
    for (int before = 0; before < part; ++before) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        f[i] -= __uint_as_float(float_to_bfloat(f[i]) << 16);
      }
    }
#endif
    return pack8(f);
#endif
  };
  const int pieces = COLS * (padded / 8);
  // Where an input of the chunks stands in x; -1 for those that only fill up the last chunk.
  auto position = [&](int k) {
    if (!SEVERAL_INPUTS) {
      return k < inputs ? k : -1;
    }
    const int expert = k / (own_chunks * KC), own = k - expert * (own_chunks * KC);
    return own < inputs ? expert * inputs + own : -1;
  };
  // Several loads at a time: this is all that the first product waits for besides its weights.
  constexpr int BATCH = 4;
#pragma unroll 1
  for (int from = threadIdx.x; from - (int)threadIdx.x < pieces; from += BATCH * THREADS) {
    uint4 batch[BATCH];
#pragma unroll
    for (int i = 0; i < BATCH; ++i) {
      const int index = from + i * THREADS, col = COLS == 1 ? 0 : index / (padded / 8),
                k = position((index - col * (padded / 8)) * 8);
      batch[i] = make_uint4(0, 0, 0, 0);
      if (index < pieces && col / PARTS < rows && k >= 0) {
        batch[i] = operand_piece(col / PARTS, col % PARTS, k);
      }
    }
#pragma unroll
    for (int i = 0; i < BATCH; ++i) {
      const int index = from + i * THREADS, col = COLS == 1 ? 0 : index / (padded / 8),
                k8 = index - col * (padded / 8);
      if constexpr (OFFSET_CODES) {
        float f[8], sum = 0;
        unpack8(batch[i], f);
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          sum += f[j];
        }
#pragma unroll
        for (int o = 1; o < UNIT / 8; o *= 2) {
          sum += __shfl_xor_sync(~0u, sum, o);
        }
        if (index < pieces && k8 % (UNIT / 8) == 0) {
          sums[k8 * 8 / UNIT * COLS + col] = sum;
        }
      }
      if (index < pieces) {
        if constexpr (OWN == 4) {
          // Two lanes share a piece.
          const int unit = k8 * 8 / UNIT, own = k8 % 2 * 2;
          const uint4 low = in_order(make_uint4(batch[i].x, batch[i].y, 0, 0)),
                      high = in_order(make_uint4(batch[i].z, batch[i].w, 0, 0));
          uint2* to = (uint2*)operand + (unit * COLS + col) * 4 + own;
          to[0] = make_uint2(low.x, low.y);
          to[1] = make_uint2(high.x, high.y);
        } else {
          const int unit = k8 / (UNIT / 8), own = k8 % (UNIT / 8) / PIECES, piece = k8 % PIECES;
          ((uint4*)operand)[((unit * PIECES + piece) * COLS + col) * 4 + own] = in_order(batch[i]);
        }
      }
    }
  }
  __syncthreads();
#endif

  int slot = 0, turn = 0;
#pragma unroll 1
  for (int tile = first_tile; tile < tiles; tile += tile_step, turn = (turn + 1) % TURNS) {
    float acc[TILES][HALVES][4] = {};
#pragma unroll 1
    for (int chunk = warp; chunk < chunks; chunk += WARPS) {
      asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
      __syncwarp();
      fetch(slot == 0 ? STAGES - 1 : slot - 1);
      const char* stage = stages + slot * STAGE_BYTES;
      slot = slot == STAGES - 1 ? 0 : slot + 1;

#pragma unroll
      for (int u = 0; u < UNITS; ++u) {
        // Operands of x and their sums.
        uint4 b[HALVES][PIECES];
        float2 sum[HALVES];
#pragma unroll
        for (int h = 0; h < HALVES; ++h) {
          const int col = 8 * h + g % COLS8;
#pragma unroll
          for (int p = 0; p < PIECES; ++p) {
#if STREAM_X
            b[h][p] = in_order(*(const uint4*)(stage + X_AT +
                                               (((u * PIECES + p) * COLS + col) * 4 + t) * 16));
#else
            if constexpr (OWN == 4) {
              const uint2 v = ((const uint2*)operand)[((chunk * UNITS + u) * COLS + col) * 4 + t];
              b[h][p] = make_uint4(v.x, v.y, 0, 0);
            } else {
              b[h][p] = ((const uint4*)
                             operand)[(((chunk * UNITS + u) * PIECES + p) * COLS + col) * 4 + t];
            }
#endif
          }
          sum[h] = make_float2(0, 0);
          if constexpr (OFFSET_CODES) {
#if STREAM_X
            constexpr u32 one = X == 1 ? 0x3c003c00u : 0x3f803f80u;
            float c[4] = {};
#pragma unroll
            for (int p = 0; p < PIECES; ++p) {
              multiply(c, one, one, one, one, b[h][p].x, b[h][p].y);
              multiply(c, one, one, one, one, b[h][p].z, b[h][p].w);
            }
            sum[h] = make_float2(c[0], c[1]);
#else
            const float* of_unit = sums + (chunk * UNITS + u) * COLS + 8 * h;
            if constexpr (COLS == 1) {
              sum[h].x = of_unit[0];
            } else {
              sum[h] = *(const float2*)(of_unit + 2 * t % COLS8);
            }
#endif
          }
        }
#pragma unroll
        for (int tile16 = 0; tile16 < TILES; ++tile16) {
          const int row = tile16 * 16 + g;
          const char* low = stage + row * ROW_STRIDE;
          const char* high = low + 8 * ROW_STRIDE;
          // A lane's codes of a unit: their place among the parts of a row.
          constexpr int own_bytes = OWN * WEIGHT_BITS / 8;
          const int at = u * UNIT * WEIGHT_BITS / 8 + t * own_bytes;
          const int swizzle = SWIZZLED ? (g & (8 / UNIT_PARTS - 1)) * UNIT_PARTS : 0;
          const int place = SWIZZLED ? ((at >> 4) ^ swizzle) * 16 + (at & 15) : at;
          float c[HALVES][4] = {};
          // One step of 16 inputs: the codes of both rows, and which quarter of which piece of x
          // they meet.
          auto step = [&](u32 a0, u32 a1, u32 a2, u32 a3, int piece, bool second) {
#pragma unroll
            for (int h = 0; h < HALVES; ++h) {
              const uint4 v = b[h][piece];
              float* to = FORMAT == 0 ? acc[tile16][h] : c[h];
              multiply(to, a0, a1, a2, a3, second ? v.z : v.x, second ? v.w : v.y);
            }
          };
          if constexpr (FORMAT == 0) {
            const uint4 l = *(const uint4*)(low + place), r = *(const uint4*)(high + place);
            step(l.x, r.x, l.y, r.y, 0, false);
            step(l.z, r.z, l.w, r.w, 0, true);
          } else if constexpr (OWN == 4) {
            const u32 l = *(const u16*)(low + place), r = *(const u16*)(high + place);
            // (0, 2) and (1, 3) of four codes.
            const u32 lw = (l & 0xff) | (l & 0xff00) << 8, rw = (r & 0xff) | (r & 0xff00) << 8;
            step(floats4(lw), floats4(rw), floats4(lw >> 4), floats4(rw >> 4), 0, false);
          } else if constexpr (WEIGHT_BITS == 4 || WEIGHT_BITS == 8) {
            constexpr int words = own_bytes < 4 ? 1 : own_bytes / 4;
            u32 l[words], r[words];
            if constexpr (words == 1) {
              l[0] = *(const u32*)(low + place);
              r[0] = *(const u32*)(high + place);
            } else if constexpr (words == 2) {
              *(uint2*)l = *(const uint2*)(low + place);
              *(uint2*)r = *(const uint2*)(high + place);
            } else {
              *(uint4*)l = *(const uint4*)(low + place);
              *(uint4*)r = *(const uint4*)(high + place);
            }
#pragma unroll
            for (int i = 0; i < words; ++i) {
              const u32 lw = l[i], rw = r[i];
              if constexpr (WEIGHT_BITS == 4) {
                if constexpr (FORMAT == 1) {
                  step(nibbles(lw), nibbles(rw), nibbles(lw >> 4), nibbles(rw >> 4), i, false);
                  step(
                      nibbles(lw >> 8),
                      nibbles(rw >> 8),
                      nibbles(lw >> 12),
                      nibbles(rw >> 12),
                      i,
                      true
                  );
                } else {
                  step(floats4(lw), floats4(rw), floats4(lw >> 4), floats4(rw >> 4), i, false);
                  step(
                      floats4(lw >> 8),
                      floats4(rw >> 8),
                      floats4(lw >> 12),
                      floats4(rw >> 12),
                      i,
                      true
                  );
                }
              } else if constexpr (FORMAT == 3) {
                step(floats8(lw), floats8(rw), floats8(lw >> 8), floats8(rw >> 8), i / 2, i % 2);
              } else if constexpr (X == 1) {
                constexpr u32 mask = 0x00ff00ffu, magic = 0x64006400u;
                step(
                    pick<mask, magic>(lw),
                    pick<mask, magic>(rw),
                    pick<mask, magic>(lw >> 8),
                    pick<mask, magic>(rw >> 8),
                    i / 2,
                    i % 2
                );
              } else {
                // bfloat16 holds 8 bits but not with an offset: 128 + the low nibble, and 2048 + 16
                // times the high one.
                constexpr u32 mask = 0x000f000fu, magic = 0x45004500u;
                step(nibbles(lw), nibbles(rw), nibbles(lw >> 8), nibbles(rw >> 8), i / 2, i % 2);
                step(
                    pick<mask, magic>(lw >> 4),
                    pick<mask, magic>(rw >> 4),
                    pick<mask, magic>(lw >> 12),
                    pick<mask, magic>(rw >> 12),
                    i / 2,
                    i % 2
                );
              }
            }
          } else {
            // Codes that cross words.
            constexpr int words = (OWN * WEIGHT_BITS + 31) / 32;
            u32 l[words + 1] = {}, r[words + 1] = {};
            if constexpr (own_bytes % 2 == 0) {
#pragma unroll
              for (int i = 0; i < own_bytes / 2; ++i) {
                l[i / 2] |= (u32) * (const u16*)(low + place + 2 * i) << 16 * (i % 2);
                r[i / 2] |= (u32) * (const u16*)(high + place + 2 * i) << 16 * (i % 2);
              }
            } else {
#pragma unroll
              for (int i = 0; i < own_bytes; ++i) {
                l[i / 4] |= (u32) * (const unsigned char*)(low + place + i) << 8 * (i % 4);
                r[i / 4] |= (u32) * (const unsigned char*)(high + place + i) << 8 * (i % 4);
              }
            }
            constexpr u32 magic = X == 1 ? 0x64006400u : 0x43004300u,
                          mask = (1u << WEIGHT_BITS) - 1;
            auto pair = [&](const u32* q, int i) {
              const int first = i * WEIGHT_BITS, second = first + WEIGHT_BITS;
              const u32 a = __funnelshift_r(q[first / 32], q[first / 32 + 1], first % 32) & mask;
              const u32 z =
                  __funnelshift_r(
                      q[second / 32], second / 32 < words ? q[second / 32 + 1] : 0, second % 32
                  ) &
                  mask;
              return a | z << 16 | magic;
            };
#pragma unroll
            for (int i = 0; i < OWN; i += 4) {
              step(pair(l, i), pair(r, i), pair(l, i + 2), pair(r, i + 2), i / 8, i % 8 != 0);
            }
          }
          if constexpr (FORMAT != 0) {
            const int entry = u * UNIT / GROUP;
            const char* of_low = stage + SCALES_AT + row * SCALES + entry * ENTRY_BYTES;
            const char* of_high = of_low + 8 * SCALES;
            auto scale = [&](const char* p) {
#if FORMAT == 1 && X == 2
              return *(const float*)p;
#elif FORMAT == 1
              return to_float(*(const u16*)p);
#elif FORMAT == 4
              const u32 byte = *(const unsigned char*)p;
              return half_to_float((byte & 0x7f) << 7 | (byte & 0x80) << 8) * 256.f;
#else
              const u32 byte = *(const unsigned char*)p;
              return __uint_as_float(byte ? byte << 23 : 0x00400000u);
#endif
            };
            const float ls = scale(of_low), rs = scale(of_high);
            float lo = 0, ro = 0;
            if constexpr (OFFSET_CODES) {
              lo = scale(of_low + ROWS * SCALES) - OFFSET * ls;
              ro = scale(of_high + ROWS * SCALES) - OFFSET * rs;
            }
#pragma unroll
            for (int h = 0; h < HALVES; ++h) {
              float* a = acc[tile16][h];
              a[0] += ls * c[h][0] + lo * sum[h].x;
              a[2] += rs * c[h][2] + ro * sum[h].x;
              if constexpr (COLS > 1) {
                a[1] += ls * c[h][1] + lo * sum[h].y;
                a[3] += rs * c[h][3] + ro * sum[h].y;
              }
            }
          }
        }
      }
    }

    // The warps' results are added up.
    float* mine = results + (turn * WARPS + warp) * (ROWS * COLS);
    if (2 * t < COLS8) {
#pragma unroll
      for (int tile16 = 0; tile16 < TILES; ++tile16) {
#pragma unroll
        for (int h = 0; h < HALVES; ++h) {
          float* to = mine + (8 * h + 2 * t) * ROWS + tile16 * 16 + g;
          to[0] = acc[tile16][h][0];
          to[8] = acc[tile16][h][2];
          if constexpr (COLS > 1) {
            to[ROWS] = acc[tile16][h][1];
            to[ROWS + 8] = acc[tile16][h][3];
          }
        }
      }
    }
    __syncthreads();
    const float* all = results + turn * WARPS * (ROWS * COLS);
    auto total = [&](int row, int r) {
      float sum = 0;
#pragma unroll
      for (int part = 0; part < PARTS; ++part) {
#pragma unroll
        for (int i = 0; i < WARPS; ++i) {
          sum += all[i * (ROWS * COLS) + (row * PARTS + part) * ROWS + r];
        }
      }
      return sum;
    };
    for (int index = threadIdx.x; index < rows * OUT_ROWS; index += THREADS) {
      const int row = index / OUT_ROWS, r = index % OUT_ROWS, n = tile * OUT_ROWS + r;
      if (n < width) {
        float y;
        if constexpr (GATED != 0) {
          const int gate_row = (r >> 3) * 16 + (r & 7);
          const float gate = rounded(total(row, gate_row)), up = rounded(total(row, gate_row + 8));
          y = activated(gate) * up;
#if EXPERTS == 1
          y *= weights_of[tile / own_tiles];
#endif
        } else {
          y = total(row, r);
        }
        store(out, (size_t)row * width + n, y);
      }
    }
    if constexpr (TURNS == 1) {
      __syncthreads();
    }
  }
}
