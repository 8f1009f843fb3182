//! Few rows of activations: every row of weights is read once and multiplied with all of them. The memory is the limit.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use std::marker::PhantomData;

use super::activations::Row;
use super::codes::{Codes, ReadScales, partial};
use super::{Kernel, Piece, Simd};
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::BLOCK;

/// Units whose scales are read at a time: those of several rows, or part of a very long one.
const UNITS: usize = 1024;

/// How far ahead of what is multiplied codes are asked for, in bytes: what the memory delivers within its latency. The processor's own prefetching ends at every page, and
/// has to begin again with the scales.
const AHEAD: usize = 2048;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Computes a piece, one row of weights after the other.
pub struct Rows<'a, C, const GROUPS: usize, const EXACT: bool>(Piece<'a>, PhantomData<C>);

impl<'a, C, const GROUPS: usize, const EXACT: bool> Rows<'a, C, GROUPS, EXACT> {
    /// The kernel for `piece`, whose weights have codes `C` with `GROUPS` groups in a block, and whose activations are integers unless `EXACT`.
    pub fn new(piece: Piece<'a>) -> Self {
        Self(piece, PhantomData)
    }
}

impl<C: Codes, const GROUPS: usize, const EXACT: bool> Kernel for Rows<'_, C, GROUPS, EXACT> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let piece = self.0;
        let weights = piece.weights;
        let count = piece.order.len();
        let outputs = piece.task.outputs.len();
        let unit = BLOCK / GROUPS;
        let units = weights.cols / unit;
        let first_row = piece.task.slab * weights.rows + piece.task.outputs.start;
        let rows_at_once = (UNITS / units).max(1);
        let mut memory = Scratch::new(6 * UNITS);
        let (scales, rest) = memory.floats().split_at_mut(UNITS);
        let (biases, products) = rest.split_at_mut(UNITS);
        let scale_bytes = weights.scale_bytes();
        for from in (0..units).step_by(UNITS) {
            let n = UNITS.min(units - from);
            for first in (0..outputs).step_by(rows_at_once) {
                let rows = rows_at_once.min(outputs - first);
                let (scales, biases) = (&mut scales[..rows * n], &mut biases[..rows * n]);
                S::enter(ReadScales {
                    weights,
                    unit: (first_row + first) * units + from,
                    scales: &mut *scales,
                    biases: &mut *biases,
                });
                for row in 0..rows {
                    let codes = (first_row + first + row) * weights.row_bytes();
                    let ahead = (first_row + first + row + rows_at_once) * units + from;
                    for (scales, size) in scale_bytes {
                        for byte in (0..n * size).step_by(LINE) {
                            S::prefetch(scales.wrapping_add(ahead * size + byte));
                        }
                    }
                    let part = Part {
                        codes: weights.packed.as_ptr().add(codes + from * unit * C::BITS / 8),
                        scales: scales.as_ptr().add(row * n),
                        biases: biases.as_ptr().add(row * n),
                        products: products.as_mut_ptr(),
                        from,
                        units: n,
                    };
                    let put = |i: usize, dot: f32| {
                        let y = &mut piece.output(i)[first + row];
                        *y = if from > 0 { *y + dot } else { dot };
                    };
                    // In f32 several rows at once would gain little: it is the multiplications that take the time.
                    let step = if EXACT { 1 } else { 4 };
                    for i in (0..count).step_by(step) {
                        if EXACT || i + 1 == count {
                            put(i, part.dots::<S, C, GROUPS, 1, EXACT>([piece.row(i)])[0]);
                        } else {
                            // Less than four are filled up with the last one: the memory is the limit.
                            let mut x = [piece.row(i); 4];
                            for m in 1..4 {
                                x[m] = piece.row((i + m).min(count - 1));
                            }
                            let dots = part.dots::<S, C, GROUPS, 4, EXACT>(x);
                            for (m, &dot) in dots.iter().enumerate().take(count - i) {
                                put(i + m, dot);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A row of weights, or a part of one.
struct Part {
    codes: *const u8,
    scales: *const f32,
    biases: *const f32,
    /// Room for `4 * UNITS` floats.
    products: *mut f32,
    /// The first unit in the row.
    from: usize,
    units: usize,
}

impl Part {
    /// The dot products with `M` rows of activations.
    #[inline(always)]
    unsafe fn dots<S: Simd, C: Codes, const GROUPS: usize, const M: usize, const EXACT: bool>(
        &self,
        x: [Row; M],
    ) -> [f32; M] {
        let &Self { codes, scales, biases, products, from, units } = self;
        let unit = BLOCK / GROUPS;
        let mut sums = [0.0; M];
        // The biases with the sums of the activations, and the scales of both sides multiplied.
        for m in 0..M {
            let x_sums = if EXACT { x[m].sums } else { x[m].integer_sums }.add(from);
            let mut acc = S::splat(0.0);
            let whole = units - units % S::LANES;
            for u in (0..whole).step_by(S::LANES) {
                acc = S::fma(S::load(biases.add(u)), S::load(x_sums.add(u)), acc);
            }
            sums[m] = S::sum(acc);
            for u in whole..units {
                sums[m] += *biases.add(u) * *x_sums.add(u);
            }
            if !EXACT {
                let (x_scales, products) = (x[m].scales.add(from), products.add(m * UNITS));
                for u in (0..whole).step_by(S::LANES) {
                    let product = S::mul(S::load(scales.add(u)), S::load(x_scales.add(u)));
                    S::store(products.add(u), product);
                }
                for u in whole..units {
                    *products.add(u) = *scales.add(u) * *x_scales.add(u);
                }
            }
        }
        let mut acc = [S::splat(0.0); M];
        // Scales from `factors`, for each row of activations `stride` further.
        let mut add = |block: C::Block<S>, u: usize, factors: *const f32, stride: usize| {
            let at = (from + u) * unit;
            for m in 0..M {
                let factors = factors.add(m * stride);
                acc[m] = if EXACT {
                    C::dot_f32::<S, GROUPS>(acc[m], block, x[m].values.add(at), factors)
                } else {
                    let (high, low) = (x[m].high.add(at), x[m].low.add(at));
                    C::dot::<S, GROUPS>(acc[m], block, high, low, factors)
                };
            }
        };
        let (factors, stride) = if EXACT { (scales, 0) } else { (products.cast_const(), UNITS) };
        let whole = units - units % GROUPS;
        for u in (0..whole).step_by(GROUPS) {
            S::prefetch(codes.wrapping_add(u * unit * C::BITS / 8 + AHEAD));
            add(C::block::<S>(codes.add(u * unit * C::BITS / 8)), u, factors.add(u), stride);
        }
        if whole < units {
            let codes = codes.add(whole * unit * C::BITS / 8);
            // What follows the row's last scale may be anything, and 0 · NaN would be seen.
            let mut last = [[0.0; GROUPS]; M];
            for m in 0..M {
                for u in whole..units {
                    last[m][u - whole] = *factors.add(m * stride + u);
                }
            }
            let block = partial::<S, C>(codes, (units - whole) * unit);
            add(block, whole, last.as_ptr().cast(), GROUPS);
        }
        for m in 0..M {
            sums[m] += S::sum(acc[m]);
        }
        sums
    }
}
