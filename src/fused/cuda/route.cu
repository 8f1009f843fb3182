// Which experts each row of logits chooses, and their weights. A warp has a row; see choose.cuh,
// which stands before this text, for the settings, besides:
//   NAME  of the kernel
//   X     type of the logits: 0 bfloat16, 1 float16, 2 float32

#if X == 2
typedef float XT;
__device__ __forceinline__ float to_float(float f) { return f; }
#elif X == 1
typedef unsigned short XT;
__device__ __forceinline__ float to_float(XT bits) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(bits));
  return f;
}
#else
typedef unsigned short XT;
__device__ __forceinline__ float to_float(XT bits) {
  return __uint_as_float((unsigned int)bits << 16);
}
#endif

extern "C" __global__ void NAME(
    const XT* __restrict__ logits,
#if CORRECTED
    const float* __restrict__ correction,
#endif
    unsigned int* __restrict__ chosen,
    float* __restrict__ weights,
    int rows,
    float scale
) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x & 31;
  if (row >= rows) {
    return;
  }
#if !CORRECTED
  const float* correction = nullptr;
#endif
  const routing::Choice choice = routing::choose(
      [&](int expert) { return to_float(logits[(size_t)row * ROUTED + expert]); },
      [&](int expert) { return correction[expert]; },
      scale
  );
  if (lane < ACTIVE) {
    chosen[row * ACTIVE + lane] = choice.expert;
    weights[row * ACTIVE + lane] = choice.weight;
  }
}
