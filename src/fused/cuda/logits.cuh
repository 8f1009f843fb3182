// Logits of type X: 0 bfloat16, 1 float16, 2 float32. This text stands before those of the kernels
// that read them.

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
