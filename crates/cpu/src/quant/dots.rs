//! Few rows of activations: every row of weights is read once and multiplied with all of them. The
//! memory is the limit, so rows are taken one after the other: of several at once activations would
//! be loaded less often, but the processor foresees one stream of addresses and not four within a
//! page, and the memory gives a fifth less.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use std::marker::PhantomData;

use super::activations::Row;
use super::codes::{Codes, Nibbles, ReadScales};
use super::{Kernel, Piece, Simd};
use crate::routes::TILED;
use crate::scratch::Scratch;
use crate::simd::{BLOCK, prefetch_all};

/// Units of a row that are taken at a time, of a very long one.
const UNITS: usize = 1024;

/// Units whose scales are read at a time, where that is several rows: enough for the rows before
/// them to hide how long the memory takes, and so few that codes do not wait for them.
const SCALES: usize = 128;

/// Products of scales that there is room for, one after the other: not the size of a page, lest
/// reads of one row of them wait for writes of another.
const PRODUCTS: usize = UNITS + 16;

/// Rows of activations that are taken at once.
const MOST_X: usize = 4;

/// Rows of activations that there are at most, filled up to whole fours.
const FEW: usize = TILED.next_multiple_of(MOST_X);

/// Columns that are taken at once with several rows of activations, which then stay in the
/// first-level cache.
const COLUMNS: usize = 2048;

/// How far ahead of what is multiplied codes are asked for, in bytes: what the memory delivers
/// within its latency. The processor's own prefetching ends at every page, and has to begin again
/// with the scales.
const AHEAD: usize = 16 * 1024;

/// Marks the first lanes: as many as are read from the end of the ones.
const OWN: [f32; 32] = {
    let mut own = [0.0; 32];
    let mut i = 0;
    while i < 16 {
        own[i] = 1.0;
        i += 1;
    }
    own
};

/// Units whose factors are taken hold of at once.
const RUN: usize = 16;

/// How a row of weights is multiplied with a few rows of activations, chunk by chunk.
pub trait Way {
    /// The kind of codes.
    type Codes: Codes;
    /// Columns of a chunk, a multiple of [`BLOCK`].
    const COLUMNS: usize;
    /// Units of a chunk.
    const UNITS: usize;
    /// Rows of activations that are best taken at once.
    const ROWS: usize;
    /// Whether activations are integers.
    const INTEGER: bool;

    /// Adds the products of `chunks` chunks of codes with the columns from `at` of each row of
    /// activations, unit by unit multiplied by the factors of both. There are at most [`RUN`]
    /// units.
    unsafe fn add<S: Simd, const M: usize>(
        acc: &mut [S::F; M],
        codes: *const u8,
        chunks: usize,
        x: &[Row; M],
        at: usize,
        factors: [*const f32; M],
    );
}

/// In f32, `GROUPS` units in a block. Several rows of activations at once would gain
/// little: it is the multiplications that take the time.
pub struct Floats<C, const GROUPS: usize>(PhantomData<C>);

impl<C: Codes, const GROUPS: usize> Way for Floats<C, GROUPS> {
    type Codes = C;
    const COLUMNS: usize = BLOCK;
    const UNITS: usize = GROUPS;
    const ROWS: usize = 1;
    const INTEGER: bool = false;

    #[inline(always)]
    unsafe fn add<S: Simd, const M: usize>(
        acc: &mut [S::F; M],
        codes: *const u8,
        chunks: usize,
        x: &[Row; M],
        at: usize,
        factors: [*const f32; M],
    ) {
        for chunk in 0..chunks {
            let at = at + chunk * BLOCK;
            let block = C::block::<S>(fetch::<S, C>(codes, chunk * BLOCK));
            for m in 0..M {
                let factors = factors[m].add(chunk * GROUPS);
                let x = x[m].values.add(at);
                acc[m] = C::dot_f32::<S, GROUPS>(acc[m], block, x, factors);
            }
        }
    }
}

/// In integers, `GROUPS` units in a block.
pub struct Integers<C, const GROUPS: usize>(PhantomData<C>);

impl<C: Codes, const GROUPS: usize> Way for Integers<C, GROUPS> {
    type Codes = C;
    const COLUMNS: usize = BLOCK;
    const UNITS: usize = GROUPS;
    const ROWS: usize = MOST_X;
    const INTEGER: bool = true;

    #[inline(always)]
    unsafe fn add<S: Simd, const M: usize>(
        acc: &mut [S::F; M],
        codes: *const u8,
        chunks: usize,
        x: &[Row; M],
        at: usize,
        factors: [*const f32; M],
    ) {
        for chunk in 0..chunks {
            let at = at + chunk * BLOCK;
            let block = C::block::<S>(fetch::<S, C>(codes, chunk * BLOCK));
            for m in 0..M {
                let factors = factors[m].add(chunk * GROUPS);
                let (high, low) = (x[m].high.add(at), x[m].low.add(at));
                acc[m] = C::dot::<S, GROUPS>(acc[m], block, high, low, factors);
            }
        }
    }
}

/// In integers that are [`Form::Halves`](super::activations::Form::Halves), with codes of 4 bits
/// and `UNITS` units in two blocks.
pub struct Halves<C, const UNITS: usize>(PhantomData<C>);

impl<C: Nibbles, const UNITS: usize> Way for Halves<C, UNITS> {
    type Codes = C;
    const COLUMNS: usize = 2 * BLOCK;
    const UNITS: usize = UNITS;
    const ROWS: usize = MOST_X;
    const INTEGER: bool = true;

    #[inline(always)]
    unsafe fn add<S: Simd, const M: usize>(
        acc: &mut [S::F; M],
        codes: *const u8,
        chunks: usize,
        x: &[Row; M],
        at: usize,
        factors: [*const f32; M],
    ) {
        let mut scales = [S::scales(factors[0]); M];
        for m in 0..M {
            scales[m] = S::scales(factors[m]);
        }
        for chunk in 0..chunks {
            let at = 2 * (at + chunk * 2 * BLOCK);
            let blocks = C::split::<S>(fetch::<S, C>(codes, chunk * 2 * BLOCK));
            for m in 0..M {
                let x = x[m].halves.add(at);
                acc[m] = S::dot_split::<UNITS>(acc[m], blocks, x, scales[m], chunk);
            }
        }
    }
}

/// Where the code of a column is; the memory is told which will be next.
#[inline(always)]
unsafe fn fetch<S: Simd, C: Codes>(codes: *const u8, column: usize) -> *const u8 {
    let codes = codes.add(column * C::BITS / 8);
    S::prefetch(codes.wrapping_add(AHEAD));
    codes
}

/// Computes a piece, one row of weights after the other.
pub struct Rows<'a, W>(Piece<'a>, PhantomData<W>);

impl<'a, W: Way> Rows<'a, W> {
    /// The kernel for `piece`, whose weights and activations are as `W` takes them.
    pub fn new(piece: Piece<'a>) -> Self {
        Self(piece, PhantomData)
    }
}

impl<W: Way> Kernel for Rows<'_, W> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let piece = self.0;
        let weights = piece.weights;
        let (count, outputs) = (piece.order.len(), piece.task.outputs.len());
        let unit = W::COLUMNS / W::UNITS;
        let units = weights.cols / unit;
        let first_row = piece.task.slab * weights.rows + piece.task.outputs.start;
        // Fewer than four rows are filled up with the last one.
        let x = std::array::from_fn(|i| piece.row(i.min(count - 1)));
        // Outputs are not filled up: no two pointers may lead to the same one.
        let mut y = [std::ptr::null_mut(); FEW];
        for (i, y) in y.iter_mut().enumerate().take(count) {
            *y = piece.output(i).as_mut_ptr();
        }
        let units_at_once = if count > 1 { UNITS.min(COLUMNS / unit) } else { UNITS };
        let rows_at_once = (SCALES / units.min(units_at_once)).max(1);
        let mut memory = Scratch::new(2 * UNITS + MOST_X * PRODUCTS);
        let (scales, rest) = memory.floats().split_at_mut(UNITS);
        let (biases, products) = rest.split_at_mut(UNITS);
        let products = products.as_mut_ptr();
        let scale_bytes = weights.scale_bytes();
        for from in (0..units).step_by(units_at_once) {
            let n = units_at_once.min(units - from);
            for first in (0..outputs).step_by(rows_at_once) {
                let rows = rows_at_once.min(outputs - first);
                let unit_of = |row: usize| (first_row + row) * units + from;
                // All at once where they follow one another.
                let each = if n == units { rows } else { 1 };
                for row in (0..rows).step_by(each) {
                    S::enter(ReadScales {
                        weights,
                        unit: unit_of(first + row),
                        scales: &mut scales[row * n..(row + each) * n],
                        biases: &mut biases[row * n..(row + each) * n],
                    });
                    // Those of the rows that come next.
                    for (scales, size) in scale_bytes {
                        let next = unit_of(first + row + rows_at_once) * size;
                        prefetch_all::<S>(scales.wrapping_add(next), each * n * size);
                    }
                }
                for row in 0..rows {
                    let codes = unit_of(first + row) * unit * W::Codes::BITS / 8;
                    let part = Part {
                        codes: weights.packed.as_ptr().add(codes),
                        scales: scales.as_ptr().add(row * n),
                        biases: biases.as_ptr().add(row * n),
                        products,
                        from,
                        units: n,
                    };
                    part.all::<S, W>(&x, &y, count, first + row);
                }
            }
        }
    }
}

/// A row of weights, or a part of it.
struct Part {
    codes: *const u8,
    /// `[units]`.
    scales: *const f32,
    /// `[units]`.
    biases: *const f32,
    /// Room for [`PRODUCTS`] floats for each of [`MOST_X`] rows of activations.
    products: *mut f32,
    /// The first unit in the row.
    from: usize,
    units: usize,
}

impl Part {
    /// Output `output` of `count` rows of activations.
    #[inline(always)]
    unsafe fn all<S: Simd, W: Way>(
        &self,
        x: &[Row; FEW],
        y: &[*mut f32; FEW],
        count: usize,
        output: usize,
    ) {
        let put = |i: usize, dot: f32| {
            let y = y[i].add(output);
            *y = if self.from > 0 { *y + dot } else { dot };
        };
        for i in (0..count).step_by(W::ROWS) {
            if W::ROWS == 1 || i + 1 == count {
                let [dot] = self.dots::<S, W, 1>([x[i]]);
                put(i, dot);
            } else {
                let dots = self.dots::<S, W, MOST_X>([x[i], x[i + 1], x[i + 2], x[i + 3]]);
                for (m, &dot) in dots.iter().enumerate().take(count - i) {
                    put(i + m, dot);
                }
            }
        }
    }

    /// The dot products with `M` rows of activations.
    #[inline(always)]
    unsafe fn dots<S: Simd, W: Way, const M: usize>(&self, x: [Row; M]) -> [f32; M] {
        let &Self { codes, scales, biases, products, from, units } = self;
        let unit = W::COLUMNS / W::UNITS;
        let mut acc = [S::splat(0.0); M];
        // The biases with the sums of the activations, and the scales of both sides multiplied.
        let mut factors = [scales; M];
        for u in (0..units).step_by(S::LANES) {
            // What follows the row's last scale is another row's.
            let zero = S::splat(0.0);
            let own = S::load(OWN.as_ptr().add(16 - (units - u).min(16)));
            let scale = S::select_gt(own, zero, S::load(scales.add(u)), zero);
            let bias = S::select_gt(own, zero, S::load(biases.add(u)), zero);
            for m in 0..M {
                let x_sums = if W::INTEGER { x[m].integer_sums } else { x[m].sums };
                acc[m] = S::fma(bias, S::load(x_sums.add(from + u)), acc[m]);
                if W::INTEGER {
                    let product = S::mul(scale, S::load(x[m].scales.add(from + u)));
                    S::store(products.add(m * PRODUCTS + u), product);
                }
            }
        }
        if W::INTEGER {
            for m in 0..M {
                factors[m] = products.add(m * PRODUCTS);
            }
        }
        let bytes = |u: usize| u * unit * W::Codes::BITS / 8;
        let whole = units - units % W::UNITS;
        for u in (0..whole).step_by(RUN) {
            let chunks = RUN.min(whole - u) / W::UNITS;
            let mut own = factors;
            for m in 0..M {
                own[m] = own[m].wrapping_add(u);
            }
            let at = (from + u) * unit;
            W::add::<S, M>(&mut acc, codes.wrapping_add(bytes(u)), chunks, &x, at, own);
        }
        if whole < units {
            // What follows the row's last code and scale may be anything, and 0 · NaN would be
            // seen.
            let mut last_codes = [0; 2 * BLOCK];
            let rest = codes.add(bytes(whole));
            std::ptr::copy_nonoverlapping(rest, last_codes.as_mut_ptr(), bytes(units - whole));
            let mut last = [[0.0; RUN]; M];
            for m in 0..M {
                for u in whole..units {
                    last[m][u - whole] = *factors[m].add(u);
                }
                factors[m] = last[m].as_ptr();
            }
            let at = (from + whole) * unit;
            W::add::<S, M>(&mut acc, last_codes.as_ptr(), 1, &x, at, factors);
        }
        if M == 1 {
            return [S::sum(acc[0]); M];
        }
        let mut sums = [0.0; M];
        sums.copy_from_slice(&S::sums([acc[0], acc[1], acc[2], acc[3]])[..M]);
        sums
    }
}
