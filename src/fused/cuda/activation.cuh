// The activations of gated products. This text stands before those of the kernels.
//
// Settings, defined before this text:
//   GATED  0 none, 1 SiLU, 2 GELU, 3 GELU by tanh, 4 ReLU

__device__ __forceinline__ float activated(float x) {
  if constexpr (GATED == 1) {
    return x / (1.f + __expf(-x));
  } else if constexpr (GATED == 2) {
    return 0.5f * x * (1.f + erff(0.7071067811865476f * x));
  } else if constexpr (GATED == 3) {
    return 0.5f * x * (1.f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
  } else {
    return x < 0.f ? 0.f : x;
  }
}
