//! NEON (every 64-bit Arm); `DOT` says that there is the 8-bit dot product too (Armv8.2 and later).
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "every operation has the trait's one condition: the machine has the instructions"
)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Kernel, Simd};

/// The unit.
pub struct Neon<const DOT: bool>;

/// For `tbl`: the two bytes in which code `j` of eight begins.
const fn windows(bits: usize) -> [u8; 16] {
    let mut table = [0; 16];
    let mut j = 0;
    while j < 8 {
        table[2 * j] = (j * bits / 8) as u8;
        // Beyond the eighth byte `tbl` gives 0, and no code reaches there.
        table[2 * j + 1] = (j * bits / 8 + 1) as u8;
        j += 1;
    }
    table
}

/// How far code `j` of eight is shifted down in its window; negative, as `ushl` wants it.
const fn shifts(bits: usize) -> [i16; 8] {
    let mut table = [0; 8];
    let mut j = 0;
    while j < 8 {
        table[j] = -((j * bits % 8) as i16);
        j += 1;
    }
    table
}

struct Tables<const BITS: usize>;

impl<const BITS: usize> Tables<BITS> {
    const WINDOWS: [u8; 16] = windows(BITS);
    const SHIFTS: [i16; 8] = shifts(BITS);
}

impl<const DOT: bool> Neon<DOT> {
    /// Sums of four products of signed bytes. Codes of up to 7 bits are the same signed or
    /// unsigned, 8-bit codes come offset.
    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, codes: uint8x16_t, x: int8x16_t) -> int32x4_t {
        let codes = vreinterpretq_s8_u8(codes);
        if DOT {
            let mut acc = acc;
            // `vdotq_s32` is not stable yet. The assembler must be told of the extension where the
            // compiler has not inlined this into the function that switches it on.
            asm!(
                ".arch_extension dotprod",
                "sdot {acc:v}.4s, {codes:v}.16b, {x:v}.16b",
                acc = inout(vreg) acc,
                codes = in(vreg) codes,
                x = in(vreg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
            acc
        } else {
            let low = vmull_s8(vget_low_s8(codes), vget_low_s8(x));
            let high = vmull_high_s8(codes, x);
            vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)))
        }
    }

    /// The 16 codes from `16 * quarter`, as four vectors.
    #[inline(always)]
    unsafe fn floats<const WIDE: bool>(codes: uint8x16_t) -> [float32x4_t; 4] {
        if WIDE {
            let codes = vreinterpretq_s8_u8(codes);
            let (low, high) = (vmovl_s8(vget_low_s8(codes)), vmovl_high_s8(codes));
            [
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                vcvtq_f32_s32(vmovl_high_s16(low)),
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                vcvtq_f32_s32(vmovl_high_s16(high)),
            ]
        } else {
            let (low, high) = (vmovl_u8(vget_low_u8(codes)), vmovl_high_u8(codes));
            [
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))),
                vcvtq_f32_u32(vmovl_high_u16(low)),
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))),
                vcvtq_f32_u32(vmovl_high_u16(high)),
            ]
        }
    }
}

impl<const DOT: bool> Simd for Neon<DOT> {
    type F = float32x4_t;
    type I = int32x4_t;
    type Q = [uint8x16_t; 4];
    type Scales = *const f32;

    const LANES: usize = 4;
    const REGISTERS: usize = 32;
    const OFFSET8: i32 = 128;
    const FAST_DOT: bool = DOT;

    #[inline]
    unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "neon")]
        unsafe fn plain<K: Kernel>(kernel: K) -> K::Output {
            kernel.run::<Neon<false>>()
        }
        #[inline(never)]
        #[target_feature(enable = "neon,dotprod")]
        unsafe fn dot<K: Kernel>(kernel: K) -> K::Output {
            kernel.run::<Neon<true>>()
        }
        if DOT { dot(kernel) } else { plain(kernel) }
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(readonly, nostack, preserves_flags));
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> float32x4_t {
        vdupq_n_f32(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        vld1q_f32(from)
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: float32x4_t) {
        vst1q_f32(to, value);
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> float32x4_t {
        vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from)))
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> float32x4_t {
        vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from)))
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vaddq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vsubq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vmulq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vdivq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        vfmaq_f32(c, a, b)
    }
    #[inline(always)]
    unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        Self::select_gt(a, b, a, b)
    }
    #[inline(always)]
    unsafe fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        Self::select_gt(b, a, a, b)
    }
    #[inline(always)]
    unsafe fn abs(a: float32x4_t) -> float32x4_t {
        vabsq_f32(a)
    }
    #[inline(always)]
    unsafe fn sqrt(a: float32x4_t) -> float32x4_t {
        vsqrtq_f32(a)
    }
    #[inline(always)]
    unsafe fn round(a: float32x4_t) -> float32x4_t {
        vrndnq_f32(a)
    }
    #[inline(always)]
    unsafe fn exp2i(n: float32x4_t) -> float32x4_t {
        let biased = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
        vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
    }
    #[inline(always)]
    unsafe fn select_gt(
        a: float32x4_t,
        b: float32x4_t,
        yes: float32x4_t,
        no: float32x4_t,
    ) -> float32x4_t {
        vbslq_f32(vcgtq_f32(a, b), yes, no)
    }
    #[inline(always)]
    unsafe fn sum(a: float32x4_t) -> f32 {
        vaddvq_f32(a)
    }
    #[inline(always)]
    unsafe fn max_lane(a: float32x4_t) -> f32 {
        vmaxnmvq_f32(a)
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, value: float32x4_t) {
        let halves = vqmovn_s32(vcvtnq_s32_f32(value));
        let bytes = vqmovn_s16(vcombine_s16(halves, halves));
        to.cast::<i32>().write_unaligned(vget_lane_s32::<0>(vreinterpret_s32_s8(bytes)));
    }

    #[inline(always)]
    unsafe fn zero_i() -> int32x4_t {
        vdupq_n_s32(0)
    }
    #[inline(always)]
    unsafe fn load_i(from: *const u8) -> int32x4_t {
        vreinterpretq_s32_u8(vld1q_u8(from))
    }
    #[inline(always)]
    unsafe fn store_i(to: *mut u8, value: int32x4_t) {
        vst1q_u8(to, vreinterpretq_u8_s32(value));
    }
    #[inline(always)]
    unsafe fn splat_i(value: i32) -> int32x4_t {
        vdupq_n_s32(value)
    }
    #[inline(always)]
    unsafe fn to_f32(value: int32x4_t) -> float32x4_t {
        vcvtq_f32_s32(value)
    }
    #[inline(always)]
    unsafe fn add_i(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        vaddq_s32(a, b)
    }
    #[inline(always)]
    unsafe fn times_256(value: int32x4_t) -> int32x4_t {
        vshlq_n_s32::<8>(value)
    }
    #[inline(always)]
    unsafe fn dot4<const WIDE: bool>(acc: int32x4_t, codes: int32x4_t, x: int32x4_t) -> int32x4_t {
        Self::dot(acc, vreinterpretq_u8_s32(codes), vreinterpretq_s8_s32(x))
    }
    #[inline(always)]
    unsafe fn dot2(acc: int32x4_t, codes: int32x4_t, x: int32x4_t) -> int32x4_t {
        let (codes, x) = (vreinterpretq_s16_s32(codes), vreinterpretq_s16_s32(x));
        let low = vmull_s16(vget_low_s16(codes), vget_low_s16(x));
        vaddq_s32(acc, vpaddq_s32(low, vmull_high_s16(codes, x)))
    }
    #[inline(always)]
    unsafe fn nibbles(bytes: int32x4_t) -> [int32x4_t; 2] {
        let bytes = vreinterpretq_u8_s32(bytes);
        let lower = vandq_u8(bytes, vdupq_n_u8(0x0f));
        [vreinterpretq_s32_u8(lower), vreinterpretq_s32_u8(vshrq_n_u8::<4>(bytes))]
    }
    #[inline(always)]
    unsafe fn widen(bytes: int32x4_t) -> [int32x4_t; 2] {
        let words = vreinterpretq_u16_s32(bytes);
        let even = vandq_u16(words, vdupq_n_u16(0xff));
        [vreinterpretq_s32_u16(even), vreinterpretq_s32_u16(vshrq_n_u16::<8>(words))]
    }
    #[inline(always)]
    unsafe fn lookup_i(codes: int32x4_t, table: &[u8; 16]) -> int32x4_t {
        let table = vld1q_u8(table.as_ptr());
        vreinterpretq_s32_u8(vqtbl1q_u8(table, vreinterpretq_u8_s32(codes)))
    }
    #[inline(always)]
    unsafe fn columns(from: *const u8, stride: usize) -> [int32x4_t; 4] {
        let mut to = [vdupq_n_s32(0); 4];
        Self::transpose(from, stride, to.as_mut_ptr().cast(), 16);
        to
    }

    #[inline(always)]
    unsafe fn unpack<const BITS: usize>(from: *const u8) -> [uint8x16_t; 4] {
        let quarter = |quarter: usize| {
            let from = from.add(2 * BITS * quarter);
            match BITS {
                8 => veorq_u8(vld1q_u8(from), vdupq_n_u8(0x80)),
                4 => {
                    let bytes = vld1_u8(from);
                    let (low, high) = (vand_u8(bytes, vdup_n_u8(0x0f)), vshr_n_u8::<4>(bytes));
                    vcombine_u8(vzip1_u8(low, high), vzip2_u8(low, high))
                }
                _ => {
                    let eight = |i: usize| {
                        let mut bytes = [0; 8];
                        std::ptr::copy_nonoverlapping(from.add(BITS * i), bytes.as_mut_ptr(), BITS);
                        let packed = vcombine_u8(vld1_u8(bytes.as_ptr()), vdup_n_u8(0));
                        let windows =
                            vqtbl1q_u8(packed, vld1q_u8(Tables::<BITS>::WINDOWS.as_ptr()));
                        let shifts = vld1q_s16(Tables::<BITS>::SHIFTS.as_ptr());
                        let codes = vshlq_u16(vreinterpretq_u16_u8(windows), shifts);
                        vmovn_u16(vandq_u16(codes, vdupq_n_u16((1 << BITS) - 1)))
                    };
                    vcombine_u8(eight(0), eight(1))
                }
            }
        };
        [quarter(0), quarter(1), quarter(2), quarter(3)]
    }
    #[inline(always)]
    unsafe fn lookup(codes: [uint8x16_t; 4], table: &[u8; 16]) -> [uint8x16_t; 4] {
        let table = vld1q_u8(table.as_ptr());
        let [a, b, c, d] = codes;
        [vqtbl1q_u8(table, a), vqtbl1q_u8(table, b), vqtbl1q_u8(table, c), vqtbl1q_u8(table, d)]
    }
    #[inline(always)]
    unsafe fn store_q(to: *mut u8, codes: [uint8x16_t; 4]) {
        for (i, quarter) in codes.into_iter().enumerate() {
            vst1q_u8(to.add(16 * i), quarter);
        }
    }
    #[inline(always)]
    unsafe fn dot_block<const GROUPS: usize, const WIDE: bool>(
        acc: float32x4_t,
        codes: [uint8x16_t; 4],
        high: *const i8,
        low: *const i8,
        scales: *const f32,
    ) -> float32x4_t {
        let mut acc = acc;
        let each = 4 / GROUPS;
        for group in 0..GROUPS {
            let mut dots = vdupq_n_s32(0);
            for i in group * each..(group + 1) * each {
                dots = Self::dot(dots, codes[i], vld1q_s8(high.add(16 * i)));
            }
            dots = vshlq_n_s32::<8>(dots);
            for i in group * each..(group + 1) * each {
                dots = Self::dot(dots, codes[i], vld1q_s8(low.add(16 * i)));
            }
            acc = vfmaq_n_f32(acc, vcvtq_f32_s32(dots), *scales.add(group));
        }
        acc
    }
    #[inline(always)]
    unsafe fn split(from: *const u8) -> [[uint8x16_t; 4]; 2] {
        let mask = vdupq_n_u8(0x0f);
        let (mut even, mut odd) = ([mask; 4], [mask; 4]);
        for i in 0..4 {
            let bytes = vld1q_u8(from.add(16 * i));
            even[i] = vandq_u8(bytes, mask);
            odd[i] = vshrq_n_u8::<4>(bytes);
        }
        [even, odd]
    }
    #[inline(always)]
    unsafe fn scales(from: *const f32) -> *const f32 {
        from
    }
    #[inline(always)]
    unsafe fn dot_split<const GROUPS: usize>(
        acc: float32x4_t,
        blocks: [[uint8x16_t; 4]; 2],
        x: *const i8,
        scales: *const f32,
        chunk: usize,
    ) -> float32x4_t {
        super::dot_blocks::<Self, GROUPS>(acc, blocks, x, scales, chunk)
    }
    #[inline(always)]
    unsafe fn load_codes<const WIDE: bool>(from: *const u8) -> float32x4_t {
        let bytes = vcreate_u8(u64::from(from.cast::<u32>().read_unaligned()));
        if WIDE {
            let words = vmovl_s8(vreinterpret_s8_u8(bytes));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(words)))
        } else {
            vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))))
        }
    }
    #[inline(always)]
    unsafe fn dot_block_f32<const GROUPS: usize, const WIDE: bool>(
        acc: float32x4_t,
        codes: [uint8x16_t; 4],
        x: *const f32,
        scales: *const f32,
    ) -> float32x4_t {
        let mut acc = acc;
        let each = 4 / GROUPS;
        for group in 0..GROUPS {
            let mut dots = [vdupq_n_f32(0.0); 4];
            for i in group * each..(group + 1) * each {
                let floats = Self::floats::<WIDE>(codes[i]);
                for j in 0..4 {
                    dots[j] = vfmaq_f32(dots[j], floats[j], vld1q_f32(x.add(16 * i + 4 * j)));
                }
            }
            let dots = vaddq_f32(vaddq_f32(dots[0], dots[1]), vaddq_f32(dots[2], dots[3]));
            acc = vfmaq_n_f32(acc, dots, *scales.add(group));
        }
        acc
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u8, stride: usize, to: *mut u8, to_stride: usize) {
        let row = |i: usize| vld1q_f32(from.add(i * stride).cast());
        let (even0, odd0) = (vtrn1q_f32(row(0), row(1)), vtrn2q_f32(row(0), row(1)));
        let (even1, odd1) = (vtrn1q_f32(row(2), row(3)), vtrn2q_f32(row(2), row(3)));
        let low = |a, b| vcombine_f32(vget_low_f32(a), vget_low_f32(b));
        let high = |a, b| vcombine_f32(vget_high_f32(a), vget_high_f32(b));
        vst1q_f32(to.cast(), low(even0, even1));
        vst1q_f32(to.add(to_stride).cast(), low(odd0, odd1));
        vst1q_f32(to.add(2 * to_stride).cast(), high(even0, even1));
        vst1q_f32(to.add(3 * to_stride).cast(), high(odd0, odd1));
    }
}
