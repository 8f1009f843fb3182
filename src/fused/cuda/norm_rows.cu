// The root-mean-square norm of rows, x / √(mean(x²) + eps) · weight, or of x + delta, which is
// written, too: one block for each row.
//
// Settings, defined before this text, besides that of numbers.cuh:
//   NAME    of the kernel
//   DELTA   1: delta is added
//   WEIGHT  1: the norm has a weight

extern "C" __global__ void NAME(
    const u16* __restrict__ x,
#if DELTA
    const u16* __restrict__ delta,
#endif
#if WEIGHT
    const u16* __restrict__ weight,
#endif
    u16* __restrict__ out,
#if DELTA
    u16* __restrict__ sum_out,
#endif
    int dims,
    float eps
) {
  __shared__ float squares[32];
  const size_t row = (size_t)blockIdx.x * dims;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  // Arrays may begin anywhere, as parts of others do.
  const bool pairs = ((size_t)x & 3) == 0 && dims % 2 == 0
#if DELTA
                     && ((size_t)delta & 3) == 0
#endif
#if WEIGHT
                     && ((size_t)weight & 3) == 0
#endif
      ;
  auto two = [&](const u16* from, int i) {
    if (pairs) {
      const u32 both = *(const u32*)(from + i);
      return make_float2(to_float(both & 0xffffu), to_float(both >> 16));
    }
    return make_float2(to_float(from[i]), i + 1 < dims ? to_float(from[i + 1]) : 0.f);
  };
  auto write = [&](u16* to, int i, float2 f) {
    to[i] = from_float(f.x);
    if (i + 1 < dims) {
      to[i + 1] = from_float(f.y);
    }
  };
  auto summed = [&](int i) {
    float2 f = two(x + row, i);
#if DELTA
    const float2 d = two(delta + row, i);
    f.x = to_float(from_float(f.x + d.x));
    f.y = to_float(from_float(f.y + d.y));
#endif
    return f;
  };

  // What a thread reads twice it keeps, up to so many pairs.
  constexpr int KEPT = 4;
  float2 kept[KEPT];
  float square = 0;
#pragma unroll
  for (int n = 0; n < KEPT; ++n) {
    const int i = 2 * (threadIdx.x + n * blockDim.x);
    kept[n] = i < dims ? summed(i) : make_float2(0, 0);
    square += kept[n].x * kept[n].x + kept[n].y * kept[n].y;
  }
  for (int i = 2 * (threadIdx.x + KEPT * blockDim.x); i < dims; i += 2 * blockDim.x) {
    const float2 f = summed(i);
    square += f.x * f.x + f.y * f.y;
  }
  for (int o = 16; o; o >>= 1) {
    square += __shfl_xor_sync(~0u, square, o);
  }
  if (lane == 0) {
    squares[warp] = square;
  }
  __syncthreads();
  square = lane < blockDim.x / 32 ? squares[lane] : 0;
  for (int o = 16; o; o >>= 1) {
    square += __shfl_xor_sync(~0u, square, o);
  }
  const float factor = rsqrtf(square / dims + eps);

  auto finish = [&](int i, float2 f) {
#if DELTA
    write(sum_out + row, i, f);
#endif
    f.x *= factor;
    f.y *= factor;
#if WEIGHT
    const float2 w = two(weight, i);
    f.x *= w.x;
    f.y *= w.y;
#endif
    write(out + row, i, f);
  };
#pragma unroll
  for (int n = 0; n < KEPT; ++n) {
    const int i = 2 * (threadIdx.x + n * blockDim.x);
    if (i < dims) {
      finish(i, kept[n]);
    }
  }
  for (int i = 2 * (threadIdx.x + KEPT * blockDim.x); i < dims; i += 2 * blockDim.x) {
    finish(i, summed(i));
  }
}
