// y = x · wᵀ for few rows of x, with quantized or 16-bit weights: bound by the memory that holds w.
// Where there are more rows than the operand made of x has columns, blocks next to each other work
// for other rows with the same weights, which the second of them finds in the cache.
//
// A block owns tiles of 16 · TILES outputs, whose chunks of KC inputs its warps share out. Each
// warp copies its chunks into shared memory by itself, STAGES - 1 of them ahead of the one that it
// multiplies, also across tiles, so that loads never wait for anything but the memory. Operands are
// those of product.cuh, which stands before this text; 32 bits are three bfloat16 columns. Codes
// stay what they are, with an offset, so that
//
//     Σ (s · q + b) · x = s · Σ (OFFSET + q) · x + (b - OFFSET · s) · Σ x
//
// over a group is exact but for float32 sums.
//
// Settings, defined before this text, besides those of product.cuh:
//   NAME         of the kernel
//   COLS         columns of the operand made of x: 1, 2, 4, 8 or 16
//   TILES        tiles of 16 outputs that a block works on at a time
//   WARPS        of a block
//   STAGES       chunks of a warp in shared memory
//   BLOCKS       blocks that are to fit on a multiprocessor
//   SCALE_BYTES  that are copied at once: 4, 8 or 16
//   STREAM_X     1: x comes with the weights, chunk by chunk, because all of it does not fit
//   NORM         1: the root-mean-square norm of x is multiplied; 2: that of x + delta, and the
//                sum is written, too
//   NORM_WEIGHT  1: the norm has a weight
//   EXPERTS      0; or w is a matrix for each of many experts, and a row is multiplied with those
//                that were chosen for it, ACTIVE of them: 1: their outputs follow each other, gates
//                and ups are matrices of their own, and what comes out is weighed; 2: their inputs
//                follow each other, that is, their outputs are added up
//   ACTIVE       experts of a row, if EXPERTS
//   ROUTED       0: they are known; or how many there are, of which logits choose, with the settings
//                of choose.cuh, which stands before this text. The choice is written, too

constexpr int THREADS = 32 * WARPS;
constexpr bool OFFSET_CODES = FORMAT == 1;
constexpr float OFFSET = X == 1 ? 1024.f : BITS == 8 ? 2176.f : 128.f;
constexpr int ROWS = 16 * TILES;
constexpr int SCALES_AT = ROWS * ROW_STRIDE;
constexpr int X_AT = SCALES_AT + SCALE_ARRAYS * ROWS * SCALES;
constexpr int STAGE_BYTES = X_AT + (STREAM_X ? COLS * KC * 2 : 0);
constexpr int HALVES = COLS > 8 ? 2 : 1;
constexpr int COLS8 = COLS > 8 ? 8 : COLS;
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

  // x as operands, the sums of its units, TURNS tiles of the warps' results, and the chunks on
  // their way.
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
          const bool inside = at + part * 16 < row_bytes;
          copy_async<16>(
              stage + r * ROW_STRIDE + (part ^ swizzle(r)) * 16,
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
          float c[HALVES][4] = {};
          // One step of 16 inputs: the codes of both rows, and which half of which piece of x they
          // meet.
          auto step = [&](u32 a0, u32 a1, u32 a2, u32 a3, int piece, bool second) {
#pragma unroll
            for (int h = 0; h < HALVES; ++h) {
              const uint4 v = b[h][piece];
              float* to = FORMAT == 0 ? acc[tile16][h] : c[h];
              multiply(to, a0, a1, a2, a3, second ? v.z : v.x, second ? v.w : v.y);
            }
          };
          each_step(low, high, u, g, t, step);
          if constexpr (FORMAT != 0) {
            const int entry = u * UNIT / GROUP;
            const char* of_low = stage + SCALES_AT + row * SCALES + entry * ENTRY_BYTES;
            const char* of_high = of_low + 8 * SCALES;
            const float ls = group_number(of_low), rs = group_number(of_high);
            float lo = 0, ro = 0;
            if constexpr (OFFSET_CODES) {
              lo = group_number(of_low + ROWS * SCALES) - OFFSET * ls;
              ro = group_number(of_high + ROWS * SCALES) - OFFSET * rs;
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
