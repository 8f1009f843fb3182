// A short causal convolution of each channel by itself over the new positions of a sequence, from
// the inputs before them: what it gives, and the inputs that the next position looks at.
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
    int length,
    int channels
) {
  const size_t element = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (element >= (size_t)length * channels) {
    return;
  }
  const int channel = element % channels;
  const int position = element / channels;
  float sum = 0;
#pragma unroll
  for (int k = 0; k < KERNEL; ++k) {
    const int new_position = position + k - (KERNEL - 1);
    const u16 input = new_position < 0
        ? before[(size_t)(position + k) * channels + channel]
        : x[(size_t)new_position * channels + channel];
    if (k > 0 && position + 1 == length) {
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
  y[element] = from_float(sum);
}
