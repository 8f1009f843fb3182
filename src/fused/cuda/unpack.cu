// The numbers of an affine quantized matrix, s · q + b, eight at a time.
//
// Settings, defined before this text:
//   NAME         of the kernel
//   X            type of scales, biases and results: 0 bfloat16, 1 float16
//   BITS, GROUP  of the codes

typedef unsigned long long u64;

__device__ __forceinline__ u32 pair(float low, float high) {
  u32 both;
#if X == 1
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#else
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
#endif
  return both;
}

/// The codes of eight numbers, of which BITS bytes are.
__device__ __forceinline__ u64 codes(const unsigned char* at) {
#if BITS == 8
  return *(const u64*)at;
#elif BITS == 4
  return *(const u32*)at;
#elif BITS == 2
  return *(const u16*)at;
#else
  u64 all = 0;
#pragma unroll
  for (int i = 0; i < BITS; ++i) {
    all |= (u64)at[i] << 8 * i;
  }
  return all;
#endif
}

extern "C" __global__ void NAME(
    const unsigned char* __restrict__ w,
    const u16* __restrict__ scales,
    const u16* __restrict__ biases,
    uint4* __restrict__ out,
    int eighths
) {
  const size_t step = (size_t)gridDim.x * blockDim.x;
#pragma unroll 4
  for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < eighths; i += step) {
    const u64 q = codes(w + i * BITS);
    const float s = to_float(scales[i / (GROUP / 8)]), b = to_float(biases[i / (GROUP / 8)]);
    auto number = [&](int n) {
      return fmaf(s, (float)((u32)(q >> n * BITS) & ((1u << BITS) - 1)), b);
    };
    out[i] = make_uint4(
        pair(number(0), number(1)),
        pair(number(2), number(3)),
        pair(number(4), number(5)),
        pair(number(6), number(7))
    );
  }
}
