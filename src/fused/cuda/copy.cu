// Copies so many times 16 bytes.
extern "C" __global__ void NAME(const uint4* __restrict__ from, uint4* __restrict__ to, int count) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    to[i] = from[i];
  }
}
