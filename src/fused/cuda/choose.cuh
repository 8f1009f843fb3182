// Choosing experts by a row of logits. A warp does it; a lane keeps one of those that are chosen.
//
// Settings, defined before this text:
//   ROUTED     logits of a row; 0 leaves all this out
//   ACTIVE     experts that are chosen
//   SCORING    0: soft-max over all; 1: over those that are chosen; 2: the logistic function
//   NORMALIZE  1: the weights are divided by their sum
//   CORRECTED  1: a number for each expert is added for the choice only

#if ROUTED
namespace routing {

typedef unsigned int u32;
constexpr int OWN = (ROUTED + 31) / 32;
static_assert(ACTIVE <= ROUTED && ACTIVE <= 32, "a lane keeps one of those that are chosen");

struct Choice {
  u32 expert;
  float weight;
};

__device__ __forceinline__ float sum_of_warp(float f) {
  for (int o = 16; o; o >>= 1) {
    f += __shfl_xor_sync(~0u, f, o);
  }
  return f;
}

__device__ __forceinline__ float largest_of_warp(float f) {
  for (int o = 16; o; o >>= 1) {
    f = fmaxf(f, __shfl_xor_sync(~0u, f, o));
  }
  return f;
}

/// Numbers that are ordered as the floats are. What is not a number comes last, so that there is
/// always an expert to choose; 0 is left for those that are taken.
__device__ __forceinline__ u32 order(float f) {
  const u32 bits = __float_as_uint(f);
  return f != f ? 1 : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/// `logit` and `correction` give the numbers of an expert.
template <class Logit, class Correction>
__device__ __forceinline__ Choice choose(Logit logit, Correction correction, float scale) {
  const int lane = threadIdx.x & 31;
  const float lowest = __uint_as_float(0xff800000u);
  float score[OWN];
  u32 rank[OWN];
  float largest = lowest;
#pragma unroll
  for (int i = 0; i < OWN; ++i) {
    const int expert = i * 32 + lane;
    score[i] = expert < ROUTED ? logit(expert) : lowest;
    largest = fmaxf(largest, score[i]);
  }
  largest = largest_of_warp(largest);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < OWN; ++i) {
    const int expert = i * 32 + lane;
    if constexpr (SCORING == 0) {
      score[i] = __expf(score[i] - largest);
      sum += score[i];
    } else if constexpr (SCORING == 2) {
      score[i] = 1.f / (1.f + __expf(-score[i]));
    }
    float preferred = score[i];
#if CORRECTED
    preferred += expert < ROUTED ? correction(expert) : 0.f;
#endif
    rank[i] = expert < ROUTED ? order(preferred) : 0;
  }
  Choice mine = {0, 0};
#pragma unroll 1
  for (int place = 0; place < ACTIVE; ++place) {
    u32 best = 0;
    int at = 0;
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
      if (rank[i] > best) {
        best = rank[i];
        at = i;
      }
    }
    const u32 top = __reduce_max_sync(~0u, best);
    // Of those that are alike the first one.
    const int expert = __reduce_min_sync(~0u, best == top ? at * 32 + lane : ROUTED);
    float taken = 0;
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
      if (expert == i * 32 + lane) {
        rank[i] = 0;
        taken = score[i];
      }
    }
    taken = __shfl_sync(~0u, taken, expert & 31);
    if (lane == place) {
      mine = {(u32)expert, taken};
    }
  }
  if constexpr (SCORING == 0) {
    mine.weight /= sum_of_warp(sum);
  } else if constexpr (SCORING == 1) {
    mine.weight = lane < ACTIVE ? __expf(mine.weight - largest) : 0.f;
    mine.weight /= sum_of_warp(mine.weight);
  }
  if constexpr (NORMALIZE) {
    mine.weight /= sum_of_warp(lane < ACTIVE ? mine.weight : 0.f);
  }
  mine.weight *= scale;
  return mine;
}

}  // namespace routing
#endif
