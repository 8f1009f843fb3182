// Which experts each row of logits chooses, and their weights. A warp has a row; see choose.cuh,
// which stands before this text behind logits.cuh, for the settings, besides:
//   NAME  of the kernel

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
