// What products of a few and of many rows of x with quantized or 16-bit weights share: how codes
// become operands of tensor cores. They are or-ed into the mantissa of a number: 128 + q in
// bfloat16, 1024 + q in float16. Which inputs a lane holds is free as long as both operands agree:
// a lane takes consecutive ones of a row.
//
// Settings, defined before this text:
//   X            type of activations: 0 bfloat16, 1 float16, 2 float32
//   FORMAT       0 plain 16 bits of type X, 1 affine, 2 mxfp4, 3 mxfp8, 4 nvfp4
//   BITS, GROUP  of a quantized format
//   GATED        that of activation.cuh, which stands before this text: the first half of w's rows
//                are gates, the others ups

typedef unsigned short u16;
typedef unsigned int u32;

constexpr int WEIGHT_BITS = FORMAT == 0 ? 16 : BITS;
// Inputs of a chunk, which are of a whole number of 16 bytes and of groups.
constexpr int KC = FORMAT == 0 ? 128 : 256;
// Consecutive inputs of one scale that a quad of lanes multiplies together.
constexpr int UNIT = FORMAT == 0 ? 32 : GROUP < 64 ? GROUP : 64;
constexpr int UNITS = KC / UNIT;
// Of these a lane's: consecutive.
constexpr int OWN = UNIT / 4;
// 16-byte pieces of x that a lane holds of a unit.
constexpr int PIECES = OWN < 8 ? 1 : OWN / 8;
constexpr int ROW_BYTES = KC * WEIGHT_BITS / 8;
constexpr int ROW_PARTS = ROW_BYTES / 16;
constexpr bool SWIZZLED = ROW_BYTES % 128 == 0;
constexpr int UNIT_PARTS = !SWIZZLED || UNIT * WEIGHT_BITS < 128 ? 1 : UNIT * WEIGHT_BITS / 128;
constexpr int ROW_STRIDE = SWIZZLED ? ROW_BYTES : ROW_BYTES + 16;
constexpr int ENTRIES = FORMAT == 0 ? 0 : KC / GROUP;
constexpr int ENTRY_BYTES = FORMAT == 1 ? (X == 2 ? 4 : 2) : 1;
constexpr int SCALES = ENTRIES * ENTRY_BYTES;
constexpr int SCALE_ARRAYS = FORMAT == 0 ? 0 : FORMAT == 1 ? 2 : 1;

#if X == 2
typedef float XT;
#else
typedef u16 XT;
#endif

__device__ __forceinline__ u32 shared_address(const void* p) {
  return (u32)__cvta_generic_to_shared(p);
}

template <int BYTES>
__device__ __forceinline__ void copy_async(void* to, const void* from, bool inside) {
  const int size = inside ? BYTES : 0;
  if constexpr (BYTES == 16) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(from),
                 "r"(size)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)),
                 "l"(from),
                 "n"(BYTES),
                 "r"(size)
                 : "memory");
  }
}

__device__ __forceinline__ float half_to_float(u32 bits) {
  float f;
  asm("{.reg .b16 h; cvt.u16.u32 h, %1; cvt.f32.f16 %0, h;}" : "=f"(f) : "r"(bits));
  return f;
}

__device__ __forceinline__ u32 float_to_half(float f) {
  u16 h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}

__device__ __forceinline__ u32 float_to_bfloat(float f) {
  u16 h;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f));
  return h;
}

__device__ __forceinline__ float to_float(u32 bits) {
  return X == 1 ? half_to_float(bits) : __uint_as_float(bits << 16);
}
__device__ __forceinline__ u32 from_float(float f) {
  return X == 1 ? float_to_half(f) : float_to_bfloat(f);
}

#if X == 2
__device__ __forceinline__ float load(const XT* x, size_t i) { return x[i]; }
__device__ __forceinline__ void store(XT* x, size_t i, float f) { x[i] = f; }
__device__ __forceinline__ float rounded(float f) { return f; }
#else
__device__ __forceinline__ float load(const XT* x, size_t i) { return to_float(x[i]); }
__device__ __forceinline__ void store(XT* x, size_t i, float f) { x[i] = (u16)from_float(f); }
__device__ __forceinline__ float rounded(float f) { return to_float(from_float(f)); }
#endif

__device__ __forceinline__ void unpack8(uint4 v, float* f) {
  const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    f[2 * i] = to_float(words[i] & 0xffffu);
    f[2 * i + 1] = to_float(words[i] >> 16);
  }
}

__device__ __forceinline__ uint4 pack8(const float* f) {
  u32 words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = from_float(f[2 * i]) | from_float(f[2 * i + 1]) << 16;
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

/// Arrays may begin anywhere, as parts of others do.
__device__ __forceinline__ bool aligned(const XT* x) { return ((size_t)x & 15) == 0; }

/// Eight numbers from a multiple of 8.
__device__ __forceinline__ void load8(const XT* x, size_t i, float* f) {
  if (!aligned(x)) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      f[j] = load(x, i + j);
    }
    return;
  }
#if X == 2
  *(float4*)f = *(const float4*)(x + i);
  *(float4*)(f + 4) = *(const float4*)(x + i + 4);
#else
  unpack8(*(const uint4*)(x + i), f);
#endif
}

__device__ __forceinline__ void store8(XT* x, size_t i, const float* f) {
#if X == 2
  *(float4*)(x + i) = *(const float4*)f;
  *(float4*)(x + i + 4) = *(const float4*)(f + 4);
#else
  *(uint4*)(x + i) = pack8(f);
#endif
}

__device__ __forceinline__ void multiply(float* c, u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
#if X == 1
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
#endif
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/// (q & mask) | magic.
template <u32 MASK, u32 MAGIC>
__device__ __forceinline__ u32 pick(u32 q) {
  u32 r;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(r) : "r"(q), "n"(MASK), "n"(MAGIC));
  return r;
}

/// 128 + the lowest nibbles of both halves, or 1024 + in float16.
__device__ __forceinline__ u32 nibbles(u32 q) {
  return pick<0x000f000fu, X == 1 ? 0x64006400u : 0x43004300u>(q);
}

__device__ __forceinline__ u32 scaled(u32 pair, u32 factor) {
  u32 r;
#if X == 1
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(pair), "r"(factor));
#else
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(pair), "r"(factor), "r"(0x80008000u));
#endif
  return r;
}

/// The 4-bit floats in the lowest nibbles of both halves.
__device__ __forceinline__ u32 floats4(u32 q) {
#if X == 1
  return scaled(((q << 9) & 0x0e000e00u) | ((q << 12) & 0x80008000u), 0x74007400u);
#else
  return scaled(((q << 6) & 0x01c001c0u) | ((q << 12) & 0x80008000u), 0x7e807e80u);
#endif
}

/// The 8-bit floats in the lowest bytes of both halves.
__device__ __forceinline__ u32 floats8(u32 q) {
#if X == 1
  return scaled(((q << 7) & 0x3f803f80u) | ((q << 8) & 0x80008000u), 0x5c005c00u);
#else
  return scaled(((q << 4) & 0x07f007f0u) | ((q << 8) & 0x80008000u), 0x7b807b80u);
#endif
}

/// Where inputs of a unit stand in the operands: of 8 in a row the order in which a word's codes
/// come out.
__device__ __forceinline__ uint4 in_order(uint4 v) {
  if constexpr (FORMAT == 0 || (FORMAT == 1 && WEIGHT_BITS != 4 && WEIGHT_BITS != 8)) {
    return v;
  } else if constexpr (WEIGHT_BITS == 8) {
    return make_uint4(
        __byte_perm(v.x, v.y, 0x5410),
        __byte_perm(v.x, v.y, 0x7632),
        __byte_perm(v.z, v.w, 0x5410),
        __byte_perm(v.z, v.w, 0x7632)
    );
  } else if constexpr (OWN == 4) {
    return make_uint4(__byte_perm(v.x, v.y, 0x5410), __byte_perm(v.x, v.y, 0x7632), 0, 0);
  } else {
    return make_uint4(
        __byte_perm(v.x, v.z, 0x5410),
        __byte_perm(v.x, v.z, 0x7632),
        __byte_perm(v.y, v.w, 0x5410),
        __byte_perm(v.y, v.w, 0x7632)
    );
  }
}

/// Where a row of a tile keeps the parts of its codes: eight rows are read without conflicts.
__device__ __forceinline__ int swizzle(int row) {
  return SWIZZLED ? (row & (8 / UNIT_PARTS - 1)) * UNIT_PARTS : 0;
}

/// Calls step(a0, a1, a2, a3, piece, second) for each 16 inputs of a unit: the operand made of the
/// codes of two rows of a tile, and which half of which piece of x it meets.
template <typename Step>
__device__ __forceinline__ void
each_step(const char* low, const char* high, int unit, int g, int t, Step step) {
  // A lane's codes of a unit: their place among the parts of a row.
  constexpr int own_bytes = OWN * WEIGHT_BITS / 8;
  const int at = unit * UNIT * WEIGHT_BITS / 8 + t * own_bytes;
  const int place = SWIZZLED ? ((at >> 4) ^ swizzle(g)) * 16 + (at & 15) : at;
  if constexpr (FORMAT == 0) {
    const uint4 l = *(const uint4*)(low + place), r = *(const uint4*)(high + place);
    step(l.x, r.x, l.y, r.y, 0, false);
    step(l.z, r.z, l.w, r.w, 0, true);
  } else if constexpr (OWN == 4) {
    const u32 l = *(const u16*)(low + place), r = *(const u16*)(high + place);
    // (0, 2) and (1, 3) of four codes.
    const u32 lw = (l & 0xff) | (l & 0xff00) << 8, rw = (r & 0xff) | (r & 0xff00) << 8;
    step(floats4(lw), floats4(rw), floats4(lw >> 4), floats4(rw >> 4), 0, false);
  } else if constexpr (WEIGHT_BITS == 4 || WEIGHT_BITS == 8) {
    constexpr int words = own_bytes < 4 ? 1 : own_bytes / 4;
    u32 l[words], r[words];
    if constexpr (words == 1) {
      l[0] = *(const u32*)(low + place);
      r[0] = *(const u32*)(high + place);
    } else if constexpr (words == 2) {
      *(uint2*)l = *(const uint2*)(low + place);
      *(uint2*)r = *(const uint2*)(high + place);
    } else {
      *(uint4*)l = *(const uint4*)(low + place);
      *(uint4*)r = *(const uint4*)(high + place);
    }
  #pragma unroll
    for (int i = 0; i < words; ++i) {
      const u32 lw = l[i], rw = r[i];
      if constexpr (WEIGHT_BITS == 4) {
        if constexpr (FORMAT == 1) {
          step(nibbles(lw), nibbles(rw), nibbles(lw >> 4), nibbles(rw >> 4), i, false);
          step(
              nibbles(lw >> 8),
              nibbles(rw >> 8),
              nibbles(lw >> 12),
              nibbles(rw >> 12),
              i,
              true
          );
        } else {
          step(floats4(lw), floats4(rw), floats4(lw >> 4), floats4(rw >> 4), i, false);
          step(
              floats4(lw >> 8),
              floats4(rw >> 8),
              floats4(lw >> 12),
              floats4(rw >> 12),
              i,
              true
          );
        }
      } else if constexpr (FORMAT == 3) {
        step(floats8(lw), floats8(rw), floats8(lw >> 8), floats8(rw >> 8), i / 2, i % 2);
      } else if constexpr (X == 1) {
        constexpr u32 mask = 0x00ff00ffu, magic = 0x64006400u;
        step(
            pick<mask, magic>(lw),
            pick<mask, magic>(rw),
            pick<mask, magic>(lw >> 8),
            pick<mask, magic>(rw >> 8),
            i / 2,
            i % 2
        );
      } else {
        // bfloat16 holds 8 bits but not with an offset: 128 + the low nibble, and 2048 + 16
        // times the high one.
        constexpr u32 mask = 0x000f000fu, magic = 0x45004500u;
        step(nibbles(lw), nibbles(rw), nibbles(lw >> 8), nibbles(rw >> 8), i / 2, i % 2);
        step(
            pick<mask, magic>(lw >> 4),
            pick<mask, magic>(rw >> 4),
            pick<mask, magic>(lw >> 12),
            pick<mask, magic>(rw >> 12),
            i / 2,
            i % 2
        );
      }
    }
  } else {
    // Codes that cross words.
    constexpr int words = (OWN * WEIGHT_BITS + 31) / 32;
    u32 l[words + 1] = {}, r[words + 1] = {};
    if constexpr (own_bytes % 2 == 0) {
  #pragma unroll
      for (int i = 0; i < own_bytes / 2; ++i) {
        l[i / 2] |= (u32) * (const u16*)(low + place + 2 * i) << 16 * (i % 2);
        r[i / 2] |= (u32) * (const u16*)(high + place + 2 * i) << 16 * (i % 2);
      }
    } else {
  #pragma unroll
      for (int i = 0; i < own_bytes; ++i) {
        l[i / 4] |= (u32) * (const unsigned char*)(low + place + i) << 8 * (i % 4);
        r[i / 4] |= (u32) * (const unsigned char*)(high + place + i) << 8 * (i % 4);
      }
    }
    constexpr u32 magic = X == 1 ? 0x64006400u : 0x43004300u,
                  mask = (1u << WEIGHT_BITS) - 1;
    auto pair = [&](const u32* q, int i) {
      const int first = i * WEIGHT_BITS, second = first + WEIGHT_BITS;
      const u32 a = __funnelshift_r(q[first / 32], q[first / 32 + 1], first % 32) & mask;
      const u32 z =
          __funnelshift_r(
              q[second / 32], second / 32 < words ? q[second / 32 + 1] : 0, second % 32
          ) &
          mask;
      return a | z << 16 | magic;
    };
  #pragma unroll
    for (int i = 0; i < OWN; i += 4) {
      step(pair(l, i), pair(r, i), pair(l, i + 2), pair(r, i + 2), i / 8, i % 8 != 0);
    }
  }
}

/// The scale or bias of a group, as it is stored.
__device__ __forceinline__ float group_number(u32 bits) {
#if FORMAT == 1 && X == 2
  return __uint_as_float(bits);
#elif FORMAT == 1
  return to_float(bits);
#elif FORMAT == 4
  return half_to_float((bits & 0x7f) << 7 | (bits & 0x80) << 8) * 256.f;
#else
  return __uint_as_float(bits ? bits << 23 : 0x00400000u);
#endif
}

/// The scale or bias of a group.
__device__ __forceinline__ float group_number(const char* p) {
  return group_number(
      ENTRY_BYTES == 4   ? *(const u32*)p
      : ENTRY_BYTES == 2 ? *(const u16*)p
                         : *(const unsigned char*)p
  );
}
