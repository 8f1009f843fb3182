// Numbers of 16 bits, of type X: 0 bfloat16, 1 float16. This text stands before those of the kernels.

typedef unsigned short u16;
typedef unsigned int u32;

__device__ __forceinline__ float to_float(u32 bits) {
#if X == 1
  float f;
  asm("{.reg .b16 h; cvt.u16.u32 h, %1; cvt.f32.f16 %0, h;}" : "=f"(f) : "r"(bits));
  return f;
#else
  return __uint_as_float(bits << 16);
#endif
}

__device__ __forceinline__ u16 from_float(float f) {
  u16 h;
#if X == 1
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
#else
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f));
#endif
  return h;
}

