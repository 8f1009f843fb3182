//! The kinds of codes, and their scales.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use std::marker::PhantomData;

use super::{Format, Kernel, Scales, Simd, Weights};
use crate::simd::BLOCK;

/// A kind of code.
pub trait Codes {
    /// [`BLOCK`] unpacked codes.
    type Block<S: Simd>: Copy;
    /// Bits of a code.
    const BITS: usize;
    /// Whether the integer product exists.
    const INTEGER: bool;

    /// Reads `8 * BITS` bytes.
    unsafe fn block<S: Simd>(from: *const u8) -> Self::Block<S>;
    /// [`Simd::dot_block`].
    unsafe fn dot<S: Simd, const GROUPS: usize>(
        acc: S::F,
        block: Self::Block<S>,
        high: *const i8,
        low: *const i8,
        scales: *const f32,
    ) -> S::F;
    /// [`Simd::dot_block_f32`].
    unsafe fn dot_f32<S: Simd, const GROUPS: usize>(
        acc: S::F,
        block: Self::Block<S>,
        x: *const f32,
        scales: *const f32,
    ) -> S::F;
    /// Stores the codes: [`BLOCK`] bytes, or for e4m3 [`BLOCK`] halves.
    unsafe fn put<S: Simd>(block: Self::Block<S>, to: *mut u8);
}

/// A kind of code of 4 bits.
pub trait Nibbles: Codes {
    /// Of how many products of two codes with two bytes 16 bits hold the sum: 4 or 8.
    const RUN: usize;
    /// Reads [`BLOCK`] bytes: the codes at even places and those at odd ones.
    unsafe fn split<S: Simd>(from: *const u8) -> [S::Q; 2];
    /// The same of the bytes in a vector.
    unsafe fn nibbles<S: Simd>(bytes: S::I) -> [S::I; 2];
}

/// Affine codes.
pub struct Int<const BITS: usize>;

impl<const BITS: usize> Codes for Int<BITS> {
    type Block<S: Simd> = S::Q;
    const BITS: usize = BITS;
    const INTEGER: bool = true;

    #[inline(always)]
    unsafe fn block<S: Simd>(from: *const u8) -> S::Q {
        S::unpack::<BITS>(from)
    }
    #[inline(always)]
    unsafe fn dot<S: Simd, const GROUPS: usize>(
        acc: S::F,
        block: S::Q,
        high: *const i8,
        low: *const i8,
        scales: *const f32,
    ) -> S::F {
        if BITS == 8 {
            S::dot_block::<GROUPS, true>(acc, block, high, low, scales)
        } else {
            S::dot_block::<GROUPS, false>(acc, block, high, low, scales)
        }
    }
    #[inline(always)]
    unsafe fn dot_f32<S: Simd, const GROUPS: usize>(
        acc: S::F,
        block: S::Q,
        x: *const f32,
        scales: *const f32,
    ) -> S::F {
        if BITS == 8 {
            S::dot_block_f32::<GROUPS, true>(acc, block, x, scales)
        } else {
            S::dot_block_f32::<GROUPS, false>(acc, block, x, scales)
        }
    }
    #[inline(always)]
    unsafe fn put<S: Simd>(block: S::Q, to: *mut u8) {
        S::store_q(to, block);
    }
}

impl Nibbles for Int<4> {
    const RUN: usize = 8;
    #[inline(always)]
    unsafe fn split<S: Simd>(from: *const u8) -> [S::Q; 2] {
        S::split(from)
    }
    #[inline(always)]
    unsafe fn nibbles<S: Simd>(bytes: S::I) -> [S::I; 2] {
        S::nibbles(bytes)
    }
}

/// e2m1: 0, ½, 1, 1½, 2, 3, 4, 6 and their negatives. Twice the value plus 12 is a small unsigned
/// integer, which makes it an affine code.
pub struct Fp4;

pub(super) const FP4: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

impl Codes for Fp4 {
    type Block<S: Simd> = S::Q;
    const BITS: usize = 4;
    const INTEGER: bool = true;

    #[inline(always)]
    unsafe fn block<S: Simd>(from: *const u8) -> S::Q {
        S::lookup(S::unpack::<4>(from), &FP4)
    }
    #[inline(always)]
    unsafe fn dot<S: Simd, const GROUPS: usize>(
        acc: S::F,
        block: S::Q,
        high: *const i8,
        low: *const i8,
        scales: *const f32,
    ) -> S::F {
        S::dot_block::<GROUPS, false>(acc, block, high, low, scales)
    }
    #[inline(always)]
    unsafe fn dot_f32<S: Simd, const GROUPS: usize>(
        acc: S::F,
        block: S::Q,
        x: *const f32,
        scales: *const f32,
    ) -> S::F {
        S::dot_block_f32::<GROUPS, false>(acc, block, x, scales)
    }
    #[inline(always)]
    unsafe fn put<S: Simd>(block: S::Q, to: *mut u8) {
        S::store_q(to, block);
    }
}

impl Nibbles for Fp4 {
    const RUN: usize = 4;
    #[inline(always)]
    unsafe fn split<S: Simd>(from: *const u8) -> [S::Q; 2] {
        let [even, odd] = S::split(from);
        [S::lookup(even, &FP4), S::lookup(odd, &FP4)]
    }
    #[inline(always)]
    unsafe fn nibbles<S: Simd>(bytes: S::I) -> [S::I; 2] {
        let [even, odd] = S::nibbles(bytes);
        [S::lookup_i(even, &FP4), S::lookup_i(odd, &FP4)]
    }
}

/// e4m3. Moved into the place of a half's exponent and mantissa, the code means 2⁻⁸ of its value
/// (the biases are 7 and 15), subnormals included.
pub struct Fp8;

#[inline(always)]
fn e4m3_as_half(code: u8) -> u16 {
    u16::from(code & 0x80) << 8 | u16::from(code & 0x7f) << 7
}

impl Codes for Fp8 {
    type Block<S: Simd> = [u16; BLOCK];
    const BITS: usize = 8;
    const INTEGER: bool = false;

    #[inline(always)]
    unsafe fn block<S: Simd>(from: *const u8) -> [u16; BLOCK] {
        let codes = from.cast::<[u8; BLOCK]>().read();
        let mut halves = [0; BLOCK];
        for (half, code) in halves.iter_mut().zip(codes) {
            *half = e4m3_as_half(code);
        }
        halves
    }
    /// There is none, so activations are not even made integers ([`Codes::INTEGER`]).
    #[inline(always)]
    unsafe fn dot<S: Simd, const GROUPS: usize>(
        acc: S::F,
        _: [u16; BLOCK],
        _: *const i8,
        _: *const i8,
        _: *const f32,
    ) -> S::F {
        acc
    }
    #[inline(always)]
    unsafe fn dot_f32<S: Simd, const GROUPS: usize>(
        acc: S::F,
        block: [u16; BLOCK],
        x: *const f32,
        scales: *const f32,
    ) -> S::F {
        let mut acc = acc;
        let each = BLOCK / GROUPS;
        for group in 0..GROUPS {
            let mut dots = S::splat(0.0);
            for i in (group * each..(group + 1) * each).step_by(S::LANES) {
                dots = S::fma(S::load_f16(block.as_ptr().add(i)), S::load(x.add(i)), dots);
            }
            acc = S::fma(dots, S::splat(*scales.add(group)), acc);
        }
        acc
    }
    #[inline(always)]
    unsafe fn put<S: Simd>(block: [u16; BLOCK], to: *mut u8) {
        to.cast::<[u16; BLOCK]>().write_unaligned(block);
    }
}

/// A block of which only the first `codes` are there, the rest being 0 (or, offset, whatever 0
/// becomes).
#[inline(always)]
pub unsafe fn partial<S: Simd, C: Codes>(from: *const u8, codes: usize) -> C::Block<S> {
    let mut bytes = [0; BLOCK];
    std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), codes * C::BITS / 8);
    C::block::<S>(bytes.as_ptr())
}

pub(super) fn e8m0(code: u8) -> f32 {
    match code {
        0 => f32::from_bits(0x0040_0000),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

pub(super) fn e4m3(code: u8) -> f32 {
    half::f16::from_bits(e4m3_as_half(code)).to_f32() * 256.0
}

/// In terms of what [`Codes::block`] gives, a weight is `factor · scale · code + (bias + addend ·
/// scale)`: the two constants.
fn affine<S: Simd>(format: Format) -> (f32, f32) {
    match format {
        Format::Affine { bits: 8, .. } => (1.0, S::OFFSET8 as f32),
        Format::Affine { .. } => (1.0, 0.0),
        Format::Mxfp4 | Format::Nvfp4 => (0.5, -6.0),
        Format::Mxfp8 => (256.0, 0.0),
    }
}

/// Reads the effective scales and biases (factor and addend applied) of as many units as there is
/// room for. Units are counted through all rows, from `unit`.
pub struct ReadScales<'a> {
    pub weights: &'a Weights<'a>,
    pub unit: usize,
    pub scales: &'a mut [f32],
    pub biases: &'a mut [f32],
}

impl Kernel for ReadScales<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { weights, unit, scales, biases } = self;
        // With groups of 128 two units, which never belong to different rows, have the same scale.
        let double = weights.format.group() / weights.format.unit();
        let (from, count) = (unit / double, scales.len() / double);
        match weights.scales {
            Scales::Floats(floats) => floats.read::<S>(from, count, scales.as_mut_ptr()),
            Scales::E8m0(bytes) => {
                for (scale, &byte) in scales.iter_mut().zip(&bytes[from..from + count]) {
                    *scale = e8m0(byte);
                }
            }
            Scales::E4m3(bytes) => {
                for (scale, &byte) in scales.iter_mut().zip(&bytes[from..from + count]) {
                    *scale = e4m3(byte);
                }
            }
        }
        match &weights.biases {
            Some(floats) => floats.read::<S>(from, count, biases.as_mut_ptr()),
            None => biases.fill(0.0),
        }
        if double == 2 {
            for i in (0..scales.len()).rev() {
                scales[i] = scales[i / 2];
                biases[i] = biases[i / 2];
            }
        }
        let (factor, addend) = affine::<S>(weights.format);
        if (factor, addend) != (1.0, 0.0) {
            for (scale, bias) in scales.iter_mut().zip(biases) {
                *bias += *scale * addend;
                *scale *= factor;
            }
        }
    }
}

/// Unpacks the first `codes` codes of a row, rounded up to whole blocks (see [`partial`]), as
/// [`Codes::put`] stores them.
pub struct Unpack<'a> {
    pub weights: &'a Weights<'a>,
    /// Where the codes begin in the weights' bytes.
    pub start: usize,
    pub codes: usize,
    pub to: *mut u8,
}

impl Unpack<'_> {
    /// Runs it.
    #[inline(always)]
    pub unsafe fn enter<S: Simd>(self) {
        match self.weights.format {
            Format::Mxfp4 | Format::Nvfp4 => S::enter(UnpackAs::<Fp4>(self, PhantomData)),
            Format::Mxfp8 => S::enter(UnpackAs::<Fp8>(self, PhantomData)),
            Format::Affine { bits, .. } => match bits {
                2 => S::enter(UnpackAs::<Int<2>>(self, PhantomData)),
                3 => S::enter(UnpackAs::<Int<3>>(self, PhantomData)),
                4 => S::enter(UnpackAs::<Int<4>>(self, PhantomData)),
                5 => S::enter(UnpackAs::<Int<5>>(self, PhantomData)),
                6 => S::enter(UnpackAs::<Int<6>>(self, PhantomData)),
                _ => S::enter(UnpackAs::<Int<8>>(self, PhantomData)),
            },
        }
    }
}

struct UnpackAs<'a, C>(Unpack<'a>, PhantomData<C>);

impl<C: Codes> Kernel for UnpackAs<'_, C> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Unpack { weights, start, codes, to } = self.0;
        let from = weights.packed.as_ptr().add(start);
        let size = if C::INTEGER { 1 } else { 2 };
        let whole = codes - codes % BLOCK;
        for k in (0..whole).step_by(BLOCK) {
            C::put::<S>(C::block::<S>(from.add(k * C::BITS / 8)), to.add(k * size));
        }
        if whole < codes {
            let block = partial::<S, C>(from.add(whole * C::BITS / 8), codes - whole);
            C::put::<S>(block, to.add(whole * size));
        }
    }
}
