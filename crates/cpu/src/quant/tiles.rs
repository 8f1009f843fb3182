//! Many rows of activations: weights are unpacked once into a panel that stays in the cache. The
//! arithmetic is the limit.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use super::activations::{Form, Row};
use super::codes::{ReadScales, Unpack};
use super::{Format, Kernel, Piece, Simd};
use crate::gemm::{self, VECTORS};
use crate::scratch::Scratch;
use crate::simd::BLOCK;

/// Columns of an integer panel.
const COLUMNS: usize = 4096;

/// Products of bytes with small codes of which 16 bits hold the sum of two times so many.
pub const LONG_RUN: usize = 8;

/// Of how many products of two codes with two bytes 16 bits hold the sum: 2 · 127 · the greatest
/// code (of e2m1 24) each.
pub fn run_of(format: Format) -> usize {
    match format {
        Format::Affine { bits: ..5, .. } => LONG_RUN,
        Format::Affine { bits: 5, .. } | Format::Mxfp4 | Format::Nvfp4 => 4,
        Format::Affine { bits: 6, .. } => 2,
        Format::Affine { .. } | Format::Mxfp8 => 1,
    }
}

/// Units of columns of a panel of f32.
const STEP: usize = 16;

/// In f32, from a panel of [`STEP`] units of columns at a time.
pub struct Exact<'a>(pub Piece<'a>);

impl Kernel for Exact<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let piece = &self.0;
        let weights = piece.weights;
        let outputs = &piece.task.outputs;
        let base = piece.task.slab * weights.rows + outputs.start;
        let (unit, width) = (weights.format.unit(), VECTORS * S::LANES);
        let units = weights.cols / unit;
        let step = STEP * unit;
        let mut panel = Scratch::new(step * width);
        let panel = panel.floats().as_mut_ptr();
        let mut rows = Scratch::new(step * S::LANES);
        let rows = rows.floats();
        let mut codes = Scratch::of_bytes(2 * step);
        let codes = codes.bytes().as_mut_ptr();
        let (mut scale, mut bias) = ([0.0; STEP], [0.0; STEP]);
        for from in (0..units).step_by(STEP) {
            let n = STEP.min(units - from);
            for vector in 0..VECTORS {
                for lane in 0..S::LANES {
                    let at = vector * S::LANES + lane;
                    let row = &mut rows[lane * step..(lane + 1) * step];
                    if at >= outputs.len() {
                        row.fill(0.0);
                        continue;
                    }
                    let start =
                        (base + at) * weights.row_bytes() + from * unit * weights.format.bits() / 8;
                    Unpack { weights, start, codes: n * unit, to: codes }.enter::<S>();
                    S::enter(ReadScales {
                        weights,
                        unit: (base + at) * units + from,
                        scales: &mut scale[..n],
                        biases: &mut bias[..n],
                    });
                    for u in 0..n {
                        let (scale, bias) = (S::splat(scale[u]), S::splat(bias[u]));
                        for i in (u * unit..(u + 1) * unit).step_by(S::LANES) {
                            let code = match weights.format {
                                Format::Mxfp8 => S::load_f16(codes.cast::<u16>().add(i)),
                                Format::Affine { bits: 8, .. } => {
                                    S::load_codes::<true>(codes.add(i))
                                }
                                _ => S::load_codes::<false>(codes.add(i)),
                            };
                            S::store(row.as_mut_ptr().add(i), S::fma(code, scale, bias));
                        }
                    }
                }
                gemm::fill::<S>(rows.as_ptr().cast(), step, n * unit, panel.cast(), vector);
            }
            S::enter(Multiply { piece, panel, k: n * unit, at: from * unit });
        }
    }
}

/// A panel of codes, `[columns / 4, VECTORS * LANES, 4]`, with `[units, VECTORS * LANES]` scales
/// and biases.
#[derive(Clone, Copy)]
struct Panel {
    codes: *const u8,
    scales: *const f32,
    biases: *const f32,
    /// The first unit.
    from: usize,
    units: usize,
}

/// In integers, from a panel of [`COLUMNS`] columns at a time.
pub struct Integer<'a>(pub Piece<'a>);

impl Kernel for Integer<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let piece = &self.0;
        let weights = piece.weights;
        let outputs = &piece.task.outputs;
        let base = piece.task.slab * weights.rows + outputs.start;
        let (unit, width) = (weights.format.unit(), VECTORS * S::LANES);
        let all_units = weights.cols / unit;
        let columns = COLUMNS.min(weights.cols.next_multiple_of(BLOCK));
        let most_units = columns / unit;
        let mut codes = Scratch::of_bytes(columns * width);
        let codes = codes.bytes().as_mut_ptr();
        let mut floats = Scratch::new(2 * most_units * width);
        let scales_panel = floats.floats().as_mut_ptr();
        let biases_panel = scales_panel.add(most_units * width);
        let mut rows = Scratch::of_bytes(columns * S::LANES);
        let rows = rows.bytes();
        let (mut scale, mut bias) = ([0.0; COLUMNS / 16], [0.0; COLUMNS / 16]);
        for from in (0..all_units).step_by(most_units) {
            let units = most_units.min(all_units - from);
            let bytes = (units * unit).next_multiple_of(BLOCK);
            for vector in 0..VECTORS {
                for lane in 0..S::LANES {
                    let at = vector * S::LANES + lane;
                    let row = &mut rows[lane * columns..(lane + 1) * columns];
                    if at >= outputs.len() {
                        row.fill(0);
                        for u in 0..units {
                            *scales_panel.add(u * width + at) = 0.0;
                            *biases_panel.add(u * width + at) = 0.0;
                        }
                        continue;
                    }
                    S::enter(ReadScales {
                        weights,
                        unit: (base + at) * all_units + from,
                        scales: &mut scale[..units],
                        biases: &mut bias[..units],
                    });
                    for u in 0..units {
                        *scales_panel.add(u * width + at) = scale[u];
                        *biases_panel.add(u * width + at) = bias[u];
                    }
                    let start =
                        (base + at) * weights.row_bytes() + from * unit * weights.format.bits() / 8;
                    let unpack =
                        Unpack { weights, start, codes: units * unit, to: row.as_mut_ptr() };
                    unpack.enter::<S>();
                }
                gemm::fill::<S>(rows.as_ptr(), columns / 4, bytes / 4, codes, vector);
            }
            let panel = Panel { codes, scales: scales_panel, biases: biases_panel, from, units };
            S::enter(MultiplyCodes { piece, panel, run: run_of(weights.format) });
        }
    }
}

/// Multiplies all rows of activations by a panel of `k` columns from `at`. This and
/// [`MultiplyCodes`] are kernels of their own so that they have all registers to themselves.
struct Multiply<'a> {
    piece: &'a Piece<'a>,
    panel: *const f32,
    k: usize,
    at: usize,
}

impl Kernel for Multiply<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { piece, panel, k, at } = self;
        let product = gemm::Product {
            panel,
            stride: VECTORS * S::LANES,
            k,
            count: piece.order.len(),
            n: piece.task.outputs.len(),
            add: at > 0,
        };
        product.run::<S>(
            |i| piece.row(i).values.wrapping_add(at),
            // SAFETY: one output is used at a time.
            |i| unsafe { piece.output(i).as_mut_ptr() },
        );
    }
}

/// Multiplies all rows of activations by a panel of codes.
struct MultiplyCodes<'a> {
    piece: &'a Piece<'a>,
    panel: Panel,
    /// [`run_of`] the format.
    run: usize,
}

impl Kernel for MultiplyCodes<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // How long runs are counts only where sums of pairs are taken.
        match self.run {
            1 => self.with_run::<S, 1>(),
            2 if S::PAIRS => self.with_run::<S, 2>(),
            4 if S::PAIRS => self.with_run::<S, 4>(),
            _ => self.with_run::<S, LONG_RUN>(),
        }
    }
}

impl MultiplyCodes<'_> {
    #[inline(always)]
    unsafe fn with_run<S: Simd, const RUN: usize>(&self) {
        if self.piece.x.form() == Form::Bytes {
            self.all::<S, RUN, false>();
        } else {
            self.all::<S, RUN, true>();
        }
    }

    #[inline(always)]
    unsafe fn all<S: Simd, const RUN: usize, const LOW: bool>(&self) {
        let count = self.piece.order.len();
        let mut i = 0;
        if S::REGISTERS >= 32 {
            while i + 6 <= count {
                multiply::<S, RUN, LOW, 6>(self.piece, self.panel, i);
                i += 6;
            }
        }
        while i + 3 <= count {
            multiply::<S, RUN, LOW, 3>(self.piece, self.panel, i);
            i += 3;
        }
        while i < count {
            multiply::<S, RUN, LOW, 1>(self.piece, self.panel, i);
            i += 1;
        }
    }
}

/// Multiplies `M` rows of activations, from `first`, by the panel. `LOW` says that they have low
/// bytes.
#[inline(always)]
unsafe fn multiply<S: Simd, const RUN: usize, const LOW: bool, const M: usize>(
    piece: &Piece,
    panel: Panel,
    first: usize,
) {
    let (unit, width) = (piece.weights.format.unit(), VECTORS * S::LANES);
    let mut x: [Row; M] = [piece.row(first); M];
    for m in 1..M {
        x[m] = piece.row(first + m);
    }
    let mut acc = [[S::splat(0.0); VECTORS]; M];
    for u in 0..panel.units {
        let mut dots = [[S::zero_i(); VECTORS]; M];
        let at = (panel.from + u) * unit;
        let codes = panel.codes.add(u * unit * width);
        // First the high bytes of the activations, then, with the same sums times 256, the low
        // ones.
        let (mut high, mut low) = ([std::ptr::null(); M], [std::ptr::null(); M]);
        for m in 0..M {
            (high[m], low[m]) = (x[m].high.add(at), x[m].low.wrapping_add(at));
        }
        multiply_unit::<S, RUN, M>(codes, unit, high, &mut dots);
        if LOW {
            for row in &mut dots {
                for dot in row {
                    *dot = S::times_256(*dot);
                }
            }
            multiply_unit::<S, RUN, M>(codes, unit, low, &mut dots);
        }
        for r in 0..VECTORS {
            let scale = S::load(panel.scales.add(u * width + r * S::LANES));
            let bias = S::load(panel.biases.add(u * width + r * S::LANES));
            for m in 0..M {
                let x_scale = S::splat(*x[m].scales.add(panel.from + u));
                let x_sum = S::splat(*x[m].integer_sums.add(panel.from + u));
                let dot = S::mul(S::to_f32(dots[m][r]), x_scale);
                acc[m][r] = S::fma(dot, scale, S::fma(bias, x_sum, acc[m][r]));
            }
        }
    }
    for (m, acc) in acc.into_iter().enumerate() {
        let to = piece.output(first + m);
        gemm::put::<S, VECTORS>(acc, to.as_mut_ptr(), to.len(), panel.from > 0);
    }
}

/// Adds the products of a unit of codes and bytes of activations: where the instruction set wants
/// it, `RUN` of them in 16 bits before they are widened.
#[inline(always)]
unsafe fn multiply_unit<S: Simd, const RUN: usize, const M: usize>(
    codes: *const u8,
    unit: usize,
    x: [*const i8; M],
    dots: &mut [[S::I; VECTORS]; M],
) {
    let at = |k: usize| codes.add(4 * k * VECTORS * S::LANES);
    if S::PAIRS && RUN > 1 {
        // The last run of a small unit is shorter.
        for from in (0..unit / 4).step_by(RUN) {
            let mut sums = [[S::zero_i(); VECTORS]; M];
            for k in from..(from + RUN).min(unit / 4) {
                let codes = [S::load_i(at(k)), S::load_i(at(k).add(4 * S::LANES))];
                for m in 0..M {
                    let x = S::splat_i(x[m].add(4 * k).cast::<i32>().read_unaligned());
                    for r in 0..VECTORS {
                        sums[m][r] = S::add_pairs(sums[m][r], codes[r], x);
                    }
                }
            }
            for m in 0..M {
                for r in 0..VECTORS {
                    dots[m][r] = S::add_sums(dots[m][r], sums[m][r]);
                }
            }
        }
        return;
    }
    for k in 0..unit / 4 {
        let codes = [S::load_i(at(k)), S::load_i(at(k).add(4 * S::LANES))];
        for m in 0..M {
            let x = S::splat_i(x[m].add(4 * k).cast::<i32>().read_unaligned());
            for r in 0..VECTORS {
                dots[m][r] = if RUN == 1 {
                    S::dot4::<true>(dots[m][r], codes[r], x)
                } else {
                    S::dot4::<false>(dots[m][r], codes[r], x)
                };
            }
        }
    }
}
