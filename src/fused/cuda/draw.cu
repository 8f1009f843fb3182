// The next token of each row of logits: the largest, or one drawn from those that filters leave.
//
// A block has a row; logits.cuh stands before this text. Settings, defined before both:
//   NAME  of the kernel
//   WIDE  1: a row begins where 8 logits can be read at once
//   ROWS  that there are arguments for: a power of 2 up to 64
//
// Filters and the draw look at distances from the largest logit, d = largest - logit, which is as
// far as rounding goes what they are defined by. Masses exp(-d / temperature) are whole numbers of
// which 2^40 is that of the largest: their sums are the same in every order.

typedef unsigned int u32;
typedef unsigned long long u64;

namespace {

constexpr int THREADS = 1024;
/// Logits that follow one another and that a thread reads together.
constexpr int RUN = 8;
constexpr int BINS = 2048;
/// Distances are told apart by so many steps for each factor of e at first.
constexpr float STEPS = 32;
constexpr int LAST_STEP = 1023;

/// What a row asks for.
struct Settings {
  /// 0: the largest logit.
  float temperature;
  /// The share of the mass that the likeliest tokens have to reach; 1 for all.
  float top_p;
  /// The largest distance that is kept.
  float reach;
  /// How many tokens are kept; 0 for all.
  u32 top_k;
};

/// A number from [0, 1), times 2^64.
struct Uniform {
  u32 high, low;
};

// The parameters of all rows, and the same as arguments. They are arrays of at most 8 bytes, which
// MLX keeps where host and card read and write them, but for the settings, which stay for a whole
// answer.
#define INPUTS_1(i) const Settings *__restrict__ s##i, const Uniform *__restrict__ u##i
#define INPUTS_2(i) INPUTS_1(i##0), INPUTS_1(i##1)
#define INPUTS_4(i) INPUTS_2(i##0), INPUTS_2(i##1)
#define INPUTS_8(i) INPUTS_4(i##0), INPUTS_4(i##1)
#define INPUTS_16(i) INPUTS_8(i##0), INPUTS_8(i##1)
#define INPUTS_32(i) INPUTS_16(i##0), INPUTS_16(i##1)
#define INPUTS_64(i) INPUTS_32(i##0), INPUTS_32(i##1)
#define OUTPUTS_1(i) uint2* __restrict__ t##i
#define OUTPUTS_2(i) OUTPUTS_1(i##0), OUTPUTS_1(i##1)
#define OUTPUTS_4(i) OUTPUTS_2(i##0), OUTPUTS_2(i##1)
#define OUTPUTS_8(i) OUTPUTS_4(i##0), OUTPUTS_4(i##1)
#define OUTPUTS_16(i) OUTPUTS_8(i##0), OUTPUTS_8(i##1)
#define OUTPUTS_32(i) OUTPUTS_16(i##0), OUTPUTS_16(i##1)
#define OUTPUTS_64(i) OUTPUTS_32(i##0), OUTPUTS_32(i##1)
#define ARGUMENTS_1(i) {s##i, u##i, t##i}
#define ARGUMENTS_2(i) ARGUMENTS_1(i##0), ARGUMENTS_1(i##1)
#define ARGUMENTS_4(i) ARGUMENTS_2(i##0), ARGUMENTS_2(i##1)
#define ARGUMENTS_8(i) ARGUMENTS_4(i##0), ARGUMENTS_4(i##1)
#define ARGUMENTS_16(i) ARGUMENTS_8(i##0), ARGUMENTS_8(i##1)
#define ARGUMENTS_32(i) ARGUMENTS_16(i##0), ARGUMENTS_16(i##1)
#define ARGUMENTS_64(i) ARGUMENTS_32(i##0), ARGUMENTS_32(i##1)
#define JOINED(name, rows) name##_##rows
#define OF_ROWS(name, rows) JOINED(name, rows)(_)

struct OfRow {
  const Settings* settings;
  const Uniform* uniform;
  /// The token and its row's largest logit, for the host.
  uint2* told;
};

struct Row {
  const XT* logits;
  int count;
  float largest;
};

/// Calls `f` for all logits of a row, with their index.
template <class F>
__device__ __forceinline__ void each(const Row& row, F f) {
  for (int base = threadIdx.x * RUN; base < row.count; base += THREADS * RUN) {
#if WIDE
    alignas(16) XT run[RUN];
#pragma unroll
    for (int i = 0; i < RUN * (int)sizeof(XT) / 16; ++i) {
      ((uint4*)run)[i] = ((const uint4*)(row.logits + base))[i];
    }
#pragma unroll
    for (int i = 0; i < RUN; ++i) {
      f(base + i, to_float(run[i]));
    }
#else
    for (int i = 0; i < RUN && base + i < row.count; ++i) {
      f(base + i, to_float(row.logits[base + i]));
    }
#endif
  }
}

/// The same with distances from the largest.
template <class F>
__device__ __forceinline__ void each_distance(const Row& row, F f) {
  each(row, [&](int index, float logit) { f(index, row.largest - logit); });
}

__device__ __forceinline__ u64 mass(float distance) {
  return (u64)(__expf(-distance) * 1099511627776.f);
}

__device__ __forceinline__ int step(float distance) {
  return (int)fminf(distance * STEPS, (float)LAST_STEP);
}

__shared__ u64 bins[BINS];
__shared__ u64 of_warp[32];

/// Where a running sum reaches what is wanted.
struct Place {
  /// -1 if it does not.
  int bin;
  /// What the bins before it hold, and it.
  u64 before, within;
};
__shared__ Place found;

/// Bins that hold nothing. Nobody looks at the last place any more.
__device__ __forceinline__ void clear() {
  __syncthreads();
  for (int i = threadIdx.x; i < BINS; i += THREADS) {
    bins[i] = 0;
  }
  __syncthreads();
}

/// The first bin up to which, with `before` in front, there is as much as `wanted` makes of all.
template <class Wanted>
__device__ Place find(u64 before, Wanted wanted) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
  __syncthreads();
  if (threadIdx.x == 0) {
    found.bin = -1;
  }
  const u64 first = bins[2 * threadIdx.x], second = bins[2 * threadIdx.x + 1];
  u64 up_to = first + second;
  for (int o = 1; o < 32; o *= 2) {
    const u64 other = __shfl_up_sync(~0u, up_to, o);
    up_to += lane >= o ? other : 0;
  }
  if (lane == 31) {
    of_warp[warp] = up_to;
  }
  __syncthreads();
  u64 all = 0, earlier = 0;
  for (int i = 0; i < 32; ++i) {
    earlier += i < warp ? of_warp[i] : 0;
    all += of_warp[i];
  }
  const u64 goal = wanted(before + all);
  const u64 after = before + earlier + up_to, start = after - first - second;
  if (start < goal && goal <= after) {
    found = start + first >= goal ? Place{(int)(2 * threadIdx.x), start, first}
                                  : Place{(int)(2 * threadIdx.x + 1), start + first, second};
  }
  __syncthreads();
  return found;
}

/// Adds up the weights of all logits in the bins of their distances; there is none below 0.
template <class Bin, class Weight>
__device__ __forceinline__ void sum_up(const Row& row, Bin bin_of, Weight weight) {
  clear();
  each_distance(row, [&](int, float d) {
    const int bin = bin_of(d);
    const u64 w = bin < 0 ? 0 : weight(d);
    if (w) {
      atomicAdd(bins + bin, w);
    }
  });
}

/// The distance at which the sum of the weights of those that are nearer reaches what is wanted;
/// nothing is found where all of them together do not.
template <class Weight, class Wanted>
__device__ Place select(const Row& row, Weight weight, Wanted wanted, float* distance) {
  sum_up(row, [](float d) { return step(d); }, weight);
  u64 goal = 0;
  Place place = find(0, [&](u64 all) { return goal = wanted(all); });
  if (place.bin < 0) {
    return place;
  }
  const int coarse = place.bin;
  u32 known = 0;
  // The bits of what is not below 0 are in its order.
#pragma unroll 1
  for (const int shift : {20, 9, 0}) {
    const int width = shift == 0 ? 9 : 11;
    const auto digit = [&](float d) {
      const u32 bits = __float_as_uint(d);
      const bool is_within = step(d) == coarse && (shift == 20 || bits >> (shift + width) == known);
      return is_within ? (int)(bits >> shift & ((1u << width) - 1)) : -1;
    };
    sum_up(row, digit, weight);
    place = find(place.before, [&](u64) { return goal; });
    known = known << width | place.bin;
  }
  *distance = __uint_as_float(known);
  return place;
}

/// The index at which the sum of the weights of all before it reaches what is wanted.
template <class Weight, class Wanted>
__device__ int select_index(const Row& row, Weight weight, Wanted wanted) {
  clear();
  // The logits that a warp reads at once fall into one bin.
  const int lane = threadIdx.x & 31, width = THREADS * RUN;
  for (int base = threadIdx.x * RUN; base - lane * RUN < row.count; base += width) {
    u64 sum = 0;
    for (int i = base; i < min(base + RUN, row.count); ++i) {
      sum += weight(i, row.largest - to_float(row.logits[i]));
    }
    for (int o = 16; o; o /= 2) {
      sum += __shfl_xor_sync(~0u, sum, o);
    }
    if (lane == 0 && sum) {
      atomicAdd(bins + base / 1024, sum);
    }
  }
  u64 goal = 0;
  const Place place = find(0, [&](u64 all) { return goal = wanted(all); });
  clear();
  const int index = place.bin * 1024 + threadIdx.x;
  if (index < row.count) {
    bins[threadIdx.x] = weight(index, row.largest - to_float(row.logits[index]));
  }
  return place.bin * 1024 + find(place.before, [&](u64) { return goal; }).bin;
}

/// The largest logit and its first index; NaN where any of them is.
__device__ float largest_of(const Row& row, int* index) {
  __shared__ u64 best_of_warp[32];
  const float lowest = __uint_as_float(0xff800000u);
  float best = lowest;
  int at = 0;
  bool is_nan = false;
  each(row, [&](int i, float logit) {
    is_nan |= logit != logit;
    if (logit > best) {
      best = logit;
      at = i;
    }
  });
  const u32 bits = __float_as_uint(best);
  u64 key = (u64)(bits & 0x80000000u ? ~bits : bits | 0x80000000u) << 32 | (u32)~at;
  for (int o = 16; o; o /= 2) {
    key = max(key, __shfl_xor_sync(~0u, key, o));
  }
  if ((threadIdx.x & 31) == 0) {
    best_of_warp[threadIdx.x / 32] = key;
  }
  is_nan = __syncthreads_or(is_nan);
  for (int i = 0; i < 32; ++i) {
    key = max(key, best_of_warp[i]);
  }
  *index = ~(u32)key;
  const u32 order = key >> 32;
  const u32 of_best = order & 0x80000000u ? order & 0x7fffffffu : ~order;
  return is_nan ? __uint_as_float(0x7fc00000u) : __uint_as_float(of_best);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS) NAME(
    const XT* __restrict__ logits,
    OF_ROWS(INPUTS, ROWS),
    u32* __restrict__ tokens,
    OF_ROWS(OUTPUTS, ROWS),
    int count
) {
  const OfRow of_rows[] = {OF_ROWS(ARGUMENTS, ROWS)};
  const OfRow of_row = of_rows[blockIdx.x];
  const Settings wanted = *of_row.settings;
  const Uniform random = *of_row.uniform;
  Row row = {logits + (size_t)blockIdx.x * count, count, 0};
  int token = 0;
  row.largest = largest_of(row, &token);
  if (wanted.temperature > 0 && isfinite(row.largest)) {
    float reach = wanted.reach;
    if (wanted.top_p < 1) {
      float nucleus = 0;
      const auto share = [&](u64 all) { return max((u64)((double)all * wanted.top_p), (u64)1); };
      if (select(row, [](float d) { return mass(d); }, share, &nucleus).bin >= 0) {
        reach = fminf(reach, nucleus);
      }
    }
    // Of equals the first ones are kept.
    int last_of_equals = count;
    if (wanted.top_k > 0) {
      const auto is_kept = [&](float d) { return (u64)(d <= reach); };
      const auto goal = [&](u64) { return (u64)wanted.top_k; };
      float farthest = 0;
      const Place place = select(row, is_kept, goal, &farthest);
      if (place.bin >= 0) {
        reach = farthest;
        const u64 equals = wanted.top_k - place.before;
        if (equals < place.within) {
          const auto is_equal = [&](int, float d) { return (u64)(d == reach); };
          last_of_equals = select_index(row, is_equal, [&](u64) { return equals; });
        }
      }
    }
    const float factor = 1 / wanted.temperature;
    const auto left = [&](int index, float d) -> u64 {
      const bool is_kept = d < reach || (d == reach && index <= last_of_equals);
      return is_kept ? mass(d * factor) : 0;
    };
    const u64 uniform = (u64)random.high << 32 | random.low;
    token = select_index(row, left, [&](u64 all) { return __umul64hi(all, uniform) + 1; });
  }
  if (threadIdx.x == 0) {
    tokens[blockIdx.x] = token;
    *of_row.told = make_uint2(token, __float_as_uint(row.largest));
  }
}
