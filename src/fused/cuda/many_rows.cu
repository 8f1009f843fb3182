// y = x · wᵀ for up to 64 rows of x with quantized weights, on Hopper's warp groups: each weight is
// read and unpacked once for all rows.
//
// A warp group of 128 lanes owns 64 · TILES outputs, a block WARP_GROUPS of these. All read the
// same chunk of KC inputs of x, which the block lays out in shared memory as the tensor cores read
// it; codes become numbers of the type of x in registers (product.cuh, which stands before this
// text). While the tensor cores work on one tile of a unit, the lanes unpack the next one. A chunk
// costs one barrier; STAGES - 1 of them are on their way.
//
// Where there are too few tiles for the multiprocessors, the SPLIT blocks of a cluster share the
// inputs of a tile, and add their sums up through each other's shared memory.
//
// x is of 16 bits. Settings, defined before this text, besides those of product.cuh:
//   NAME         of the kernel
//   OPERANDS     of 8 rows each: 1, 2, 3, 4, 6 or 8
//   TILES        tiles of 64 outputs that a warp group works on
//   WARP_GROUPS  of a block
//   STAGES       chunks in shared memory
//   BLOCKS       blocks that are to fit on a multiprocessor
//   SPLIT        blocks of a cluster
//   SCALE_BYTES  that are copied at once: 4, 8 or 16

constexpr int THREADS = 128 * WARP_GROUPS;
constexpr int COLS = 8 * OPERANDS;
constexpr int ROWS = 64 * TILES * WARP_GROUPS;
constexpr int OUT_ROWS = GATED ? ROWS / 2 : ROWS;
constexpr int SCALES_AT = ROWS * ROW_STRIDE;
constexpr int X_AT = (SCALES_AT + SCALE_ARRAYS * ROWS * SCALES + 127) / 128 * 128;
constexpr int STAGE_BYTES = X_AT + COLS * KC * 2;
// Products of 16 inputs that a unit takes, and bytes of x in each: of 8 rows, two blocks of 8
// inputs by 8 rows, 16 bytes of a row after those of the row before.
constexpr int STEPS = UNIT / 16;
constexpr int BLOCK_BYTES = 128;
constexpr int STEP_BYTES = OPERANDS * 2 * BLOCK_BYTES;
// Of a chunk of x a warp lays out units of 8 rows, this many.
constexpr int WARP_UNITS = OPERANDS * UNITS;
constexpr int COPIES = (WARP_UNITS + THREADS / 32 - 1) / (THREADS / 32);
// 16-byte copies of weights that a thread makes for a chunk.
constexpr int PARTS = (ROWS * ROW_PARTS + THREADS - 1) / THREADS;
// The outputs of a row of x, one after the other, so that the lanes of a warp meet no bank twice.
constexpr int RESULT_STRIDE = ROWS + 4;
// bfloat16 holds 8 bits in two steps: of the low nibbles, and of the high ones.
constexpr int PASSES = FORMAT == 1 && BITS == 8 && X == 0 ? 2 : 1;
static_assert(X != 2 && FORMAT != 0, "codes, and numbers of 16 bits");

#if X == 1
#define TYPES ".f32.f16.f16 "
#else
#define TYPES ".f32.bf16.bf16 "
#endif
#define OF_OPERAND(c, h) "+f"(c[h][0]), "+f"(c[h][1]), "+f"(c[h][2]), "+f"(c[h][3])

/// c += a · b, of 64 outputs, 16 inputs and all rows of x, queued. b is the place of a step of x,
/// in units of 16 bytes; with it goes how far blocks are from each other that are next to each
/// other in inputs and in rows.
__device__ __forceinline__ void
multiply_queued(float (&c)[OPERANDS][4], const u32* a, u32 b) {
#if OPERANDS == 1
#define PRODUCT "n8k16" TYPES "{%0,%1,%2,%3},{%4,%5,%6,%7},%8,1,1,1,0;"
#define SUMS OF_OPERAND(c, 0)
#elif OPERANDS == 2
#define PRODUCT "n16k16" TYPES "{%0,%1,%2,%3,%4,%5,%6,%7},{%8,%9,%10,%11},%12,1,1,1,0;"
#define SUMS OF_OPERAND(c, 0), OF_OPERAND(c, 1)
#elif OPERANDS == 3
#define PRODUCT                                                                                    \
  "n24k16" TYPES "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11},{%12,%13,%14,%15},%16,1,1,1,0;"
#define SUMS OF_OPERAND(c, 0), OF_OPERAND(c, 1), OF_OPERAND(c, 2)
#elif OPERANDS == 4
#define PRODUCT                                                                                    \
  "n32k16" TYPES "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15},"                        \
  "{%16,%17,%18,%19},%20,1,1,1,0;"
#define SUMS OF_OPERAND(c, 0), OF_OPERAND(c, 1), OF_OPERAND(c, 2), OF_OPERAND(c, 3)
#elif OPERANDS == 6
#define PRODUCT                                                                                    \
  "n48k16" TYPES "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                         \
  "%16,%17,%18,%19,%20,%21,%22,%23},{%24,%25,%26,%27},%28,1,1,1,0;"
#define SUMS                                                                                       \
  OF_OPERAND(c, 0), OF_OPERAND(c, 1), OF_OPERAND(c, 2), OF_OPERAND(c, 3), OF_OPERAND(c, 4),        \
      OF_OPERAND(c, 5)
#elif OPERANDS == 8
#define PRODUCT                                                                                    \
  "n64k16" TYPES "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                         \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31},"                              \
  "{%32,%33,%34,%35},%36,1,1,1,0;"
#define SUMS                                                                                       \
  OF_OPERAND(c, 0), OF_OPERAND(c, 1), OF_OPERAND(c, 2), OF_OPERAND(c, 3), OF_OPERAND(c, 4),        \
      OF_OPERAND(c, 5), OF_OPERAND(c, 6), OF_OPERAND(c, 7)
#endif
  const unsigned long long step =
      (unsigned long long)(2 * BLOCK_BYTES >> 4) << 32 | (b | BLOCK_BYTES >> 4 << 16);
  asm volatile("wgmma.mma_async.sync.aligned.m64" PRODUCT
               : SUMS
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(step));
}

/// Pairs of numbers, added up.
__device__ __forceinline__ u32 add(u32 x, u32 y) {
  u32 sum;
#if X == 1
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(x), "r"(y));
#else
  asm("add.rn.bf16x2 %0, %1, %2;" : "=r"(sum) : "r"(x), "r"(y));
#endif
  return sum;
}

/// Pairs of numbers, s · q + b, rounded once.
__device__ __forceinline__ u32 scaled_and_moved(u32 q, u32 s, u32 b) {
  u32 number;
#if X == 1
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(number) : "r"(q), "r"(s), "r"(b));
#else
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(number) : "r"(q), "r"(s), "r"(b));
#endif
  return number;
}

template <int LEFT>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}

#if SPLIT > 1
#define CLUSTER __cluster_dims__(SPLIT, 1, 1)

__device__ __forceinline__ void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}

/// A number in the shared memory of another block of the cluster, at the place of `own`.
__device__ __forceinline__ float of_block(const float* own, int block) {
  u32 address;
  float f;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
               : "=r"(address)
               : "r"(shared_address(own)), "r"(block));
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(f) : "r"(address) : "memory");
  return f;
}
#else
#define CLUSTER
#endif

extern "C" __global__ void CLUSTER __launch_bounds__(THREADS, BLOCKS) NAME(
    const XT* __restrict__ x,
    const char* __restrict__ w,
    const char* __restrict__ scales,
#if FORMAT == 1
    const char* __restrict__ biases,
#endif
    XT* __restrict__ out,
    int outputs,
    int inputs,
    int rows
) {
  extern __shared__ __align__(128) char memory[];
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const int group = warp / 4;
  const int tile = blockIdx.x / SPLIT, rank = blockIdx.x % SPLIT;
  const int width = GATED ? outputs / 2 : outputs;
  const int chunks = (inputs + KC - 1) / KC;
  const int first = chunks * rank / SPLIT, end = chunks * (rank + 1) / SPLIT;
  const size_t row_bytes = (size_t)inputs * WEIGHT_BITS / 8;

  // A tile's rows of w: those of gates and ups in turns of eight. Ups are as many rows behind their
  // gates as there are gates.
  w += (size_t)tile * OUT_ROWS * row_bytes;
  const int last = width - 1 - tile * OUT_ROWS;
  auto weight_row = [&](int r) { return GATED ? (r >> 4) * 8 + (r & 7) : r; };
  auto ups = [&](int r) { return GATED && (r >> 3 & 1) ? width : 0; };

  // A thread's first part of a chunk of codes, and those of the rows behind.
  constexpr int ROW_STEP = THREADS / ROW_PARTS;
  constexpr bool SAME_COLUMN = THREADS % ROW_PARTS == 0 && ROW_STEP % 16 == 0;
  const int first_row = threadIdx.x / ROW_PARTS, first_part = threadIdx.x % ROW_PARTS;
  const char* first_codes =
      w + ((size_t)weight_row(first_row) + ups(first_row)) * row_bytes + first_part * 16;
  const u32 codes_step = (GATED ? ROW_STEP / 2 : ROW_STEP) * (u32)row_bytes;
  auto fetch_codes = [&](u32 at, char* stage) {
    if constexpr (SAME_COLUMN) {
      const bool inside = at + first_part * 16 < (u32)row_bytes;
      char* to = stage + first_row * ROW_STRIDE + (first_part ^ swizzle(first_row)) * 16;
#pragma unroll
      for (int i = 0; i < PARTS; ++i) {
        const bool there = inside && weight_row(first_row + i * ROW_STEP) <= last;
        const char* from = there ? first_codes + at + i * codes_step : w;
        copy_async<16>(to + i * ROW_STEP * ROW_STRIDE, from, there);
      }
    } else {
#pragma unroll 2
      for (int index = threadIdx.x; index < ROWS * ROW_PARTS; index += THREADS) {
        const int r = index / ROW_PARTS, part = index % ROW_PARTS;
        const bool there = at + part * 16 < (u32)row_bytes && weight_row(r) <= last;
        const char* from = w + ((size_t)weight_row(r) + ups(r)) * row_bytes + at + part * 16;
        char* to = stage + r * ROW_STRIDE + (part ^ swizzle(r)) * 16;
        copy_async<16>(to, there ? from : w, there);
      }
    }
  };

  // The same of scales and biases.
  constexpr int NUMBERS = SCALE_ARRAYS * ROWS * (SCALES / SCALE_BYTES);
  constexpr int NUMBER_COPIES = (NUMBERS + THREADS - 1) / THREADS;
  const u32 scale_row = inputs / GROUP * ENTRY_BYTES;
  const char* numbers_from[NUMBER_COPIES];
#pragma unroll
  for (int i = 0; i < NUMBER_COPIES; ++i) {
    const int index = threadIdx.x + THREADS * i, r = index / (SCALES / SCALE_BYTES) % ROWS;
#if FORMAT == 1
    const char* array = index < NUMBERS / 2 ? scales : biases;
#else
    const char* array = scales;
#endif
    const int row = min(weight_row(r), last) + ups(r) + tile * OUT_ROWS;
    const int part = index % (SCALES / SCALE_BYTES);
    numbers_from[i] = array + (size_t)row * scale_row + part * SCALE_BYTES;
  }
  auto fetch = [&](int chunk, int slot) {
    if (chunk < end) {
      char* stage = memory + slot * STAGE_BYTES;
      fetch_codes(chunk * ROW_BYTES, stage);
      const u32 at = chunk * SCALES;
#pragma unroll
      for (int i = 0; i < NUMBER_COPIES; ++i) {
        const int index = threadIdx.x + THREADS * i;
        if (NUMBERS % THREADS == 0 || index < NUMBERS) {
          const bool there = at + index % (SCALES / SCALE_BYTES) * SCALE_BYTES < scale_row;
          const char* from = there ? numbers_from[i] + at : scales;
          copy_async<SCALE_BYTES>(stage + SCALES_AT + index * SCALE_BYTES, from, there);
        }
      }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };

  // Units of 8 rows of a chunk of x, of which a lane has the inputs that it would hold of an
  // operand.
  constexpr int PIECE_BYTES = OWN == 4 ? 8 : 16;
  const bool whole = PIECE_BYTES == 16 && aligned(x);
  u32 x_from[COPIES];
#pragma unroll
  for (int i = 0; i < COPIES; ++i) {
    const int index = warp + THREADS / 32 * i, col = index / UNITS * 8 + g;
    x_from[i] = (u32)col * inputs + index % UNITS * UNIT + t * OWN;
  }
  // Whether a lane's inputs of a chunk are there.
  auto has_x = [&](int chunk, int i) {
    const int index = warp + THREADS / 32 * i, col = index / UNITS * 8 + g;
    const int k = chunk * KC + index % UNITS * UNIT + t * OWN;
    return chunk < end && col < rows && k < inputs;
  };
  auto load_x = [&](int chunk, uint4 (*pieces)[PIECES]) {
#pragma unroll
    for (int i = 0; i < COPIES; ++i) {
      const bool there = has_x(chunk, i);
      const u16* from = (const u16*)x + x_from[i] + chunk * KC;
#pragma unroll
      for (int p = 0; p < PIECES; ++p) {
        pieces[i][p] = make_uint4(0, 0, 0, 0);
        if (there && whole) {
          pieces[i][p] = __ldg((const uint4*)from + p);
        }
      }
    }
    if (!whole) {
#pragma unroll
      for (int i = 0; i < COPIES; ++i) {
        const bool there = has_x(chunk, i);
        const u16* from = (const u16*)x + x_from[i] + chunk * KC;
#pragma unroll
        for (int p = 0; p < PIECES; ++p) {
          u32 words[4] = {};
#pragma unroll
          for (int j = 0; j < PIECE_BYTES / 4; ++j) {
            if (there) {
              words[j] = from[p * 8 + 2 * j] | from[p * 8 + 2 * j + 1] << 16;
            }
          }
          pieces[i][p] = make_uint4(words[0], words[1], words[2], words[3]);
        }
      }
    }
  };
  auto store_x = [&](int slot, const uint4 (*pieces)[PIECES]) {
    char* stage = memory + slot * STAGE_BYTES;
#pragma unroll
    for (int i = 0; i < COPIES; ++i) {
      const int index = warp + THREADS / 32 * i, unit = index % UNITS, operand = index / UNITS;
      if (WARP_UNITS % (THREADS / 32) != 0 && index >= WARP_UNITS) {
        break;
      }
      char* of_operand = stage + X_AT + unit * STEPS * STEP_BYTES + operand * 2 * BLOCK_BYTES;
      char* to = of_operand + g * 16 + t * 4;
#pragma unroll
      for (int p = 0; p < PIECES; ++p) {
        const uint4 v = in_order(pieces[i][p]);
        char* at = to + 2 * p * STEP_BYTES;
        *(u32*)at = v.x;
        *(u32*)(at + BLOCK_BYTES) = v.y;
        if constexpr (OWN > 4) {
          *(u32*)(at + STEP_BYTES) = v.z;
          *(u32*)(at + STEP_BYTES + BLOCK_BYTES) = v.w;
        }
      }
    }
    // The tensor cores read past the order of ordinary loads.
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  };

  uint4 pieces[COPIES][PIECES];
#pragma unroll
  for (int i = 0; i < STAGES - 1; ++i) {
    fetch(first + i, i);
  }
#pragma unroll
  for (int i = 0; i < STAGES - 1; ++i) {
    load_x(first + i, pieces);
    store_x(i, pieces);
  }

  float acc[TILES][OPERANDS][4] = {};
  int slot = 0;
#pragma unroll 1
  for (int chunk = first; chunk < end; ++chunk) {
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
    // The chunk is there for all, and all are done with the one before, whose place is free.
    __syncthreads();
    const int free = slot == 0 ? STAGES - 1 : slot - 1;
    fetch(chunk + STAGES - 1, free);
    load_x(chunk + STAGES - 1, pieces);

    const char* stage = memory + slot * STAGE_BYTES;
    // The number of the block in its cluster stands above the place.
    const u32 operands = (shared_address(stage + X_AT) & 0x3ffff) >> 4;
    // The numbers of all groups of a lane's rows.
    u32 numbers[TILES][SCALE_ARRAYS][2][SCALES / 4];
#pragma unroll
    for (int i = 0; i < TILES * SCALE_ARRAYS * 2; ++i) {
      const int tile64 = i / (SCALE_ARRAYS * 2), array = i / 2 % SCALE_ARRAYS;
      const int row = (group * TILES + tile64) * 64 + warp % 4 * 16 + g + i % 2 * 8;
      const char* from = stage + SCALES_AT + (array * ROWS + row) * SCALES;
      u32* to = numbers[tile64][array][i % 2];
      if constexpr (SCALES == 4) {
        *to = *(const u32*)from;
      } else if constexpr (SCALES == 8) {
        *(uint2*)to = *(const uint2*)from;
      } else {
#pragma unroll
        for (int part = 0; part < SCALES / 16; ++part) {
          ((uint4*)to)[part] = ((const uint4*)from)[part];
        }
      }
    }
    // The scales or biases of a unit of both rows of a tile, each twice.
    auto number = [&](int tile64, int array, int half, int u) {
      constexpr int per_word = 4 / ENTRY_BYTES;
      const int entry = u * UNIT / GROUP;
      const u32 word = numbers[tile64][array][half][entry / per_word];
      if constexpr (FORMAT == 1) {
        return __byte_perm(word, 0, entry % 2 == 0 ? 0x1010 : 0x3232);
      } else {
        const u32 bits = word >> entry % per_word * 8 & 0xff;
        return from_float(group_number(bits)) * 0x10001u;
      }
    };
#pragma unroll
    for (int turn = 0; turn < UNITS * TILES; ++turn) {
      const int u = turn / TILES, tile64 = turn % TILES;
      const int row = (group * TILES + tile64) * 64 + warp % 4 * 16 + g;
      const char* low = stage + row * ROW_STRIDE;
      u32 codes[STEPS * PASSES][4];
      int steps[STEPS * PASSES], count = 0;
      each_step(
          low,
          low + 8 * ROW_STRIDE,
          u,
          g,
          t,
          [&](u32 a0, u32 a1, u32 a2, u32 a3, int piece, bool second) {
            codes[count][0] = a0;
            codes[count][1] = a1;
            codes[count][2] = a2;
            codes[count][3] = a3;
            steps[count++] = 2 * piece + second;
          }
      );
      u32 a[STEPS][4];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const u32 scale = number(tile64, 0, half, u);
        const u32 bias = FORMAT == 1 ? number(tile64, SCALE_ARRAYS - 1, half, u) : 0;
#pragma unroll
        for (int i = 0; i < STEPS; ++i) {
#pragma unroll
          for (int j = half; j < 4; j += 2) {
            const u32* own = &codes[i * PASSES][j];
            if constexpr (PASSES == 2) {
              // 128 + the low nibbles, and 2048 + 16 times the high ones.
              const u32 q = add(add(own[0], 0xc300c300u), add(own[4], 0xc500c500u));
              a[i][j] = scaled_and_moved(q, scale, bias);
            } else if constexpr (FORMAT == 1) {
              constexpr u32 offset = X == 1 ? 0xe400e400u : 0xc300c300u;
              a[i][j] = scaled_and_moved(add(*own, offset), scale, bias);
            } else {
              a[i][j] = scaled(*own, scale);
            }
          }
        }
      }
      asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
      for (int i = 0; i < STEPS; ++i) {
        const int step = u * STEPS + steps[i * PASSES];
        multiply_queued(acc[tile64], a[i], operands + step * (STEP_BYTES >> 4));
      }
      asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
      wait_for_products<1>();
    }
    wait_for_products<0>();
    store_x(free, pieces);
    slot = slot == STAGES - 1 ? 0 : slot + 1;
  }

  // The sums go where the chunks were.
  float* results = (float*)memory;
  asm volatile("cp.async.wait_group 0;" ::: "memory");
  __syncthreads();
#pragma unroll
  for (int tile64 = 0; tile64 < TILES; ++tile64) {
#pragma unroll
    for (int h = 0; h < OPERANDS; ++h) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        results
            [(8 * h + 2 * t + i % 2) * RESULT_STRIDE + (group * TILES + tile64) * 64 +
             warp % 4 * 16 + g + i / 2 * 8] = acc[tile64][h][i];
      }
    }
  }
#if SPLIT > 1
  cluster_barrier();
#else
  __syncthreads();
#endif
  auto total = [&](int row, int r) {
    const float* own = results + row * RESULT_STRIDE + r;
#if SPLIT > 1
    float sum = 0;
#pragma unroll
    for (int block = 0; block < SPLIT; ++block) {
      sum += of_block(own, block);
    }
    return sum;
#else
    return *own;
#endif
  };
  // Of a cluster's outputs each block has its share.
  constexpr int SHARE = OUT_ROWS / SPLIT;
  static_assert(OUT_ROWS % SPLIT == 0, "equal shares");
#pragma unroll 1
  for (int index = threadIdx.x; index < rows * SHARE; index += THREADS) {
    const int row = index / SHARE, r = rank * SHARE + index % SHARE, n = tile * OUT_ROWS + r;
    if (n < width) {
      float y;
      if constexpr (GATED != 0) {
        const int gate_row = (r >> 3) * 16 + (r & 7);
        const float gate = rounded(total(row, gate_row)), up = rounded(total(row, gate_row + 8));
        y = activated(gate) * up;
      } else {
        y = total(row, r);
      }
      store(out, (size_t)row * width + n, y);
    }
  }
#if SPLIT > 1
  // Others may still read what this block has.
  cluster_barrier();
#endif
}
