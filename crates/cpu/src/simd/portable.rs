//! The unit that every machine has: plain Rust on arrays.
#![allow(
    unsafe_op_in_unsafe_fn,
    reason = "every operation has the trait's one condition; reads and writes stay within what it says"
)]

use half::{bf16, f16};

use super::{BLOCK, Kernel, Simd};

/// The unit.
pub struct Portable;

const N: usize = 8;

#[inline(always)]
fn map(a: [f32; N], f: impl Fn(f32) -> f32) -> [f32; N] {
    std::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip(a: [f32; N], b: [f32; N], f: impl Fn(f32, f32) -> f32) -> [f32; N] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type F = [f32; N];
    type I = [i32; N];
    type Q = [u8; BLOCK];
    type Scales = *const f32;

    const LANES: usize = N;
    const REGISTERS: usize = 16;
    const OFFSET8: i32 = 0;
    const FAST_DOT: bool = false;

    #[inline(never)]
    unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<Self>()
    }

    /// There is no portable way to ask.
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; N] {
        [value; N]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; N] {
        from.cast::<[f32; N]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: [f32; N]) {
        to.cast::<[f32; N]>().write_unaligned(value);
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> [f32; N] {
        let bits = from.cast::<[u16; N]>().read_unaligned();
        std::array::from_fn(|i| bf16::from_bits(bits[i]).to_f32())
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> [f32; N] {
        let bits = from.cast::<[u16; N]>().read_unaligned();
        std::array::from_fn(|i| f16::from_bits(bits[i]).to_f32())
    }
    #[inline(always)]
    unsafe fn add(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a / b)
    }
    /// Rounded twice: without the instruction, `f32::mul_add` is a slow library call.
    #[inline(always)]
    unsafe fn fma(a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn abs(a: [f32; N]) -> [f32; N] {
        map(a, f32::abs)
    }
    #[inline(always)]
    unsafe fn sqrt(a: [f32; N]) -> [f32; N] {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    unsafe fn round(a: [f32; N]) -> [f32; N] {
        map(a, f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn exp2i(n: [f32; N]) -> [f32; N] {
        map(n, |n| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn select_gt(a: [f32; N], b: [f32; N], yes: [f32; N], no: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| if a[i] > b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    unsafe fn sum(a: [f32; N]) -> f32 {
        a.iter().sum()
    }
    #[inline(always)]
    unsafe fn max_lane(a: [f32; N]) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    unsafe fn store_i8(to: *mut i8, value: [f32; N]) {
        to.cast::<[i8; N]>().write(std::array::from_fn(|i| value[i].round_ties_even() as i8));
    }

    #[inline(always)]
    unsafe fn zero_i() -> [i32; N] {
        [0; N]
    }
    #[inline(always)]
    unsafe fn load_i(from: *const u8) -> [i32; N] {
        from.cast::<[i32; N]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store_i(to: *mut u8, value: [i32; N]) {
        to.cast::<[i32; N]>().write_unaligned(value);
    }
    #[inline(always)]
    unsafe fn splat_i(value: i32) -> [i32; N] {
        [value; N]
    }
    #[inline(always)]
    unsafe fn to_f32(value: [i32; N]) -> [f32; N] {
        value.map(|v| v as f32)
    }
    #[inline(always)]
    unsafe fn add_i(a: [i32; N], b: [i32; N]) -> [i32; N] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn times_256(value: [i32; N]) -> [i32; N] {
        value.map(|v| v << 8)
    }
    #[inline(always)]
    unsafe fn dot4<const WIDE: bool>(acc: [i32; N], codes: [i32; N], x: [i32; N]) -> [i32; N] {
        std::array::from_fn(|i| {
            let (codes, x) = (codes[i].to_le_bytes(), x[i].to_le_bytes());
            (0..4).fold(acc[i], |acc, j| acc + i32::from(codes[j]) * i32::from(x[j] as i8))
        })
    }
    #[inline(always)]
    unsafe fn dot2(acc: [i32; N], codes: [i32; N], x: [i32; N]) -> [i32; N] {
        let low = |word: i32| i32::from(word as i16);
        std::array::from_fn(|i| {
            acc[i] + low(codes[i]) * low(x[i]) + (codes[i] >> 16) * (x[i] >> 16)
        })
    }
    #[inline(always)]
    unsafe fn nibbles(bytes: [i32; N]) -> [[i32; N]; 2] {
        [bytes.map(|word| word & 0x0f0f_0f0f), bytes.map(|word| word >> 4 & 0x0f0f_0f0f)]
    }
    #[inline(always)]
    unsafe fn widen(bytes: [i32; N]) -> [[i32; N]; 2] {
        [bytes.map(|word| word & 0x00ff_00ff), bytes.map(|word| word >> 8 & 0x00ff_00ff)]
    }
    #[inline(always)]
    unsafe fn lookup_i(codes: [i32; N], table: &[u8; 16]) -> [i32; N] {
        codes.map(|word| {
            i32::from_le_bytes(word.to_le_bytes().map(|code| table[usize::from(code & 15)]))
        })
    }
    #[inline(always)]
    unsafe fn columns(from: *const u8, stride: usize) -> [[i32; N]; 4] {
        let word = |row: usize, column: usize| {
            i32::from_le_bytes(from.add(row * stride + 4 * column).cast::<[u8; 4]>().read())
        };
        std::array::from_fn(|column| std::array::from_fn(|row| word(row, column)))
    }

    #[inline(always)]
    unsafe fn unpack<const BITS: usize>(from: *const u8) -> [u8; BLOCK] {
        let mut codes = [0; BLOCK];
        for (i, eight) in codes.chunks_exact_mut(8).enumerate() {
            let mut bytes = [0; 8];
            std::ptr::copy_nonoverlapping(from.add(i * BITS), bytes.as_mut_ptr(), BITS);
            let bits = u64::from_le_bytes(bytes);
            for (j, code) in eight.iter_mut().enumerate() {
                *code = (bits >> (j * BITS)) as u8 & (0xff >> (8 - BITS));
            }
        }
        codes
    }
    #[inline(always)]
    unsafe fn lookup(codes: [u8; BLOCK], table: &[u8; 16]) -> [u8; BLOCK] {
        codes.map(|code| table[usize::from(code & 15)])
    }
    #[inline(always)]
    unsafe fn store_q(to: *mut u8, codes: [u8; BLOCK]) {
        to.cast::<[u8; BLOCK]>().write(codes);
    }
    #[inline(always)]
    unsafe fn dot_block<const GROUPS: usize, const WIDE: bool>(
        acc: [f32; N],
        codes: [u8; BLOCK],
        high: *const i8,
        low: *const i8,
        scales: *const f32,
    ) -> [f32; N] {
        let (high, low) = (high.cast::<[i8; BLOCK]>().read(), low.cast::<[i8; BLOCK]>().read());
        let mut acc = acc;
        for group in 0..GROUPS {
            let range = group * BLOCK / GROUPS..(group + 1) * BLOCK / GROUPS;
            let x = |k| 256 * i32::from(high[k]) + i32::from(low[k]);
            let dot: i32 = range.map(|k| i32::from(codes[k]) * x(k)).sum();
            acc[group] += dot as f32 * *scales.add(group);
        }
        acc
    }
    #[inline(always)]
    unsafe fn split(from: *const u8) -> [[u8; BLOCK]; 2] {
        let bytes = from.cast::<[u8; BLOCK]>().read();
        [bytes.map(|byte| byte & 15), bytes.map(|byte| byte >> 4)]
    }
    #[inline(always)]
    unsafe fn scales(from: *const f32) -> *const f32 {
        from
    }
    #[inline(always)]
    unsafe fn dot_split<const GROUPS: usize>(
        acc: [f32; N],
        blocks: [[u8; BLOCK]; 2],
        x: *const i8,
        scales: *const f32,
        chunk: usize,
    ) -> [f32; N] {
        super::dot_blocks::<Self, GROUPS>(acc, blocks, x, scales, chunk)
    }
    #[inline(always)]
    unsafe fn load_codes<const WIDE: bool>(from: *const u8) -> [f32; N] {
        from.cast::<[u8; N]>().read().map(f32::from)
    }
    #[inline(always)]
    unsafe fn dot_block_f32<const GROUPS: usize, const WIDE: bool>(
        acc: [f32; N],
        codes: [u8; BLOCK],
        x: *const f32,
        scales: *const f32,
    ) -> [f32; N] {
        let mut acc = acc;
        for group in 0..GROUPS {
            let mut dots = [0.0; N];
            for k in (group * BLOCK / GROUPS..(group + 1) * BLOCK / GROUPS).step_by(N) {
                for (i, dot) in dots.iter_mut().enumerate() {
                    *dot += f32::from(codes[k + i]) * *x.add(k + i);
                }
            }
            for (acc, dot) in acc.iter_mut().zip(dots) {
                *acc += dot * *scales.add(group);
            }
        }
        acc
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u8, stride: usize, to: *mut u8, to_stride: usize) {
        for i in 0..N {
            for j in 0..N {
                let element = from.add(i * stride).cast::<u32>().add(j).read_unaligned();
                to.add(j * to_stride).cast::<u32>().add(i).write_unaligned(element);
            }
        }
    }
}
