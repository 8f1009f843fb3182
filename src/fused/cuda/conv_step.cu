// A short causal convolution of one new position, each channel by itself, from the inputs before:
// what it gives, and the inputs that the next position looks at.
//
// Settings, defined before this text:
//   NAME     of the kernel
//   X        type of everything: 0 bfloat16, 1 float16
//   KERNEL   positions that it sees
//   BIAS     1: with a bias
//   SILU     1: SiLU follows

extern "C" __global__ void NAME(
    const u16* __restrict__ before,
    const u16* __restrict__ x,
    const u16* __restrict__ weight,
#if BIAS
    const u16* __restrict__ bias,
#endif
    u16* __restrict__ y,
    u16* __restrict__ after,
    int channels
) {
  const int channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (channel >= channels) {
    return;
  }
  float sum = 0;
#pragma unroll
  for (int k = 0; k < KERNEL; ++k) {
    const u16 input = k + 1 < KERNEL ? before[(size_t)k * channels + channel] : x[channel];
    if (k > 0) {
      after[(size_t)(k - 1) * channels + channel] = input;
    }
    sum += to_float(input) * to_float(weight[(size_t)k * channels + channel]);
  }
#if BIAS
  sum += to_float(bias[channel]);
#endif
#if SILU
  sum = sum / (1.f + __expf(-sum));
#endif
  y[channel] = from_float(sum);
}
