//! A few rows of activations and codes of 4 bits: every lane is an output. Codes are transposed
//! while they are packed, four bytes of a row at a time, and multiplied at once; scales are applied
//! once for a unit of as many outputs as there are lanes. Memory and arithmetic are both near their
//! limits.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use std::marker::PhantomData;
use std::ops::Range;

use super::activations::{Form, Row};
use super::codes::{Nibbles, ReadScales};
use super::{Kernel, Piece, Simd};
use crate::scratch::Scratch;
use crate::simd::{BLOCK, LINE, PAGE, prefetch_all};

/// Bytes of a row that are transposed at once.
const PIECE: usize = 16;

/// Columns whose codes they are.
const COLUMNS: usize = 2 * PIECE;

/// Bytes of a row that are copied at once, a divisor of [`PAGE`], where rows are pages apart.
const SPAN: usize = 256;

/// Bytes from one copy to the next.
const STRIDE: usize = SPAN + LINE;

/// Units whose scales are transposed at a time.
const UNITS: usize = 128;

/// Computes a piece. The matrix has at least as many rows as there are lanes, and activations are
/// [`Form::Halves`] or [`Form::ByteHalves`].
pub struct Lanes<'a, C>(Piece<'a>, PhantomData<C>);

impl<'a, C: Nibbles> Lanes<'a, C> {
    /// The kernel for `piece`.
    pub fn new(piece: Piece<'a>) -> Self {
        Self(piece, PhantomData)
    }
}

impl<C: Nibbles> Kernel for Lanes<'_, C> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let piece = &self.0;
        let weights = piece.weights;
        let outputs = &piece.task.outputs;
        let all_units = weights.cols / weights.format.unit();
        let most = UNITS.min(all_units.next_multiple_of(S::LANES));
        let mut floats = Scratch::new(4 * most * S::LANES);
        let floats = floats.floats().as_mut_ptr();
        let mut near = Scratch::of_bytes(2 * S::LANES * STRIDE);
        let near = near.bytes().as_mut_ptr();
        for first in (outputs.start..outputs.end).step_by(S::LANES) {
            // The last ones are computed with some before them, which other tasks may be in charge
            // of.
            let row = first.min(weights.rows - S::LANES);
            let wanted = first - row..(outputs.end - row).min(S::LANES);
            for from in (0..all_units).step_by(most) {
                let units = most.min(all_units - from);
                let panel = Panel { scales: floats, biases: floats.add(most * S::LANES) };
                let tile = Tile { piece, row, wanted: &wanted, from, units, panel, near };
                S::enter(Transpose { tile, rows: floats.add(2 * most * S::LANES) });
                let mut i = 0;
                while i < piece.order.len() {
                    let rows = at_once::<S>(piece.order.len() - i);
                    i += if piece.x.form() == Form::ByteHalves {
                        pass::<S, C, false>(tile, i, rows)
                    } else {
                        pass::<S, C, true>(tile, i, rows)
                    };
                }
            }
        }
    }
}

/// How many of so many rows of activations are multiplied next: of equal parts one, as each pass
/// transposes the codes again, and one row by itself gains nothing. Two sums of each row, of high
/// and of low bytes, are to stay in registers.
#[inline(always)]
fn at_once<S: Simd>(rows: usize) -> usize {
    let most = S::REGISTERS / 4;
    rows.div_ceil(rows.div_ceil(most))
}

/// As many rows of the weights as there are lanes, and some of their units.
#[derive(Clone, Copy)]
struct Tile<'a> {
    piece: &'a Piece<'a>,
    /// The first row in its matrix.
    row: usize,
    /// The lanes whose outputs are the task's.
    wanted: &'a Range<usize>,
    /// The first unit.
    from: usize,
    units: usize,
    panel: Panel,
    /// Room for twice [`STRIDE`] bytes of each row.
    near: *mut u8,
}

/// `[units, LANES]` scales and biases.
#[derive(Clone, Copy)]
struct Panel {
    scales: *mut f32,
    biases: *mut f32,
}

/// Reads scales and biases and makes a panel of them.
struct Transpose<'a> {
    tile: Tile<'a>,
    /// Room for as much as there is in the panel.
    rows: *mut f32,
}

impl Kernel for Transpose<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { tile: Tile { piece, row, from, units, panel, .. }, rows } = self;
        let weights = piece.weights;
        let all_units = weights.cols / weights.format.unit();
        let unit_of = |lane| (piece.task.slab * weights.rows + row + lane) * all_units + from;
        // Of the last squares a part lies beyond the rows' ends, and is never used.
        let size = units.next_multiple_of(S::LANES) * S::LANES;
        let (scales, biases) = std::slice::from_raw_parts_mut(rows, 2 * size).split_at_mut(size);
        // All at once where they follow one another.
        let each = if units == all_units { S::LANES } else { 1 };
        for lane in (0..S::LANES).step_by(each) {
            S::enter(ReadScales {
                weights,
                unit: unit_of(lane),
                scales: &mut scales[lane * units..(lane + each) * units],
                biases: &mut biases[lane * units..(lane + each) * units],
            });
        }
        // Those of the rows that come next.
        for (start, size) in weights.scale_bytes() {
            let next = start.wrapping_add(unit_of(S::LANES) * size);
            prefetch_all::<S>(next, S::LANES * units * size);
        }
        for (from, to) in [(scales, panel.scales), (biases, panel.biases)] {
            for u in (0..units).step_by(S::LANES) {
                let to = to.add(u * S::LANES).cast();
                S::transpose(from.as_ptr().add(u).cast(), 4 * units, to, 4 * S::LANES);
            }
        }
    }
}

/// Copies a span of row `row`, of rows `stride` bytes apart.
#[inline(always)]
unsafe fn copy(from: *const u8, stride: usize, to: *mut u8, row: usize) {
    let (from, to) = (from.add(row * stride), to.add(row * STRIDE));
    to.cast::<[u8; SPAN]>().write(from.cast::<[u8; SPAN]>().read());
}

/// [`Multiply`] for `rows` rows or a few more, as not every number of rows has code of its own;
/// gives their number back.
#[inline(always)]
unsafe fn pass<S: Simd, C: Nibbles, const LOW: bool>(
    tile: Tile,
    first: usize,
    rows: usize,
) -> usize {
    if S::REGISTERS >= 32 && rows > 4 {
        match rows {
            5 | 6 => multiply::<S, C, LOW, 6>(tile, first),
            _ => multiply::<S, C, LOW, 8>(tile, first),
        }
    } else if LOW && rows < 4 {
        match rows {
            3 => multiply::<S, C, LOW, 3>(tile, first),
            _ => multiply::<S, C, LOW, 2>(tile, first),
        }
    } else {
        multiply::<S, C, LOW, 4>(tile, first)
    }
}

/// [`Multiply`]; gives the number of rows back.
#[inline(always)]
unsafe fn multiply<S: Simd, C: Nibbles, const LOW: bool, const M: usize>(
    tile: Tile,
    first: usize,
) -> usize {
    S::enter(Multiply::<C, LOW, M> { tile, first, codes: PhantomData });
    M
}

/// Adds the products of the codes of [`COLUMNS`] columns with high and, if `LOW`, low bytes of `M`
/// rows of activations.
#[inline(always)]
unsafe fn add<S: Simd, C: Nibbles, const LOW: bool, const M: usize>(
    (high, low): (&mut [S::I; M], &mut [S::I; M]),
    words: [S::I; 4],
    x: &[Row; M],
    start: usize,
) {
    if !S::PAIRS {
        for k in 0..4 {
            let [even, odd] = C::nibbles::<S>(words[k]);
            for (codes, at) in [(even, start), (odd, start + BLOCK)] {
                for m in 0..M {
                    let x = x[m].halves.add(at).cast::<i32>().add(k);
                    high[m] = S::dot4::<false>(high[m], codes, S::splat_i(*x));
                    if LOW {
                        let x = x.add(2 * BLOCK / 4);
                        low[m] = S::dot4::<false>(low[m], codes, S::splat_i(*x));
                    }
                }
            }
        }
        return;
    }
    // Sums of 16 bits are widened before they can be too large. There are registers for those of
    // one kind of bytes.
    for (acc, first) in [(high, 0), (low, 2 * BLOCK)].into_iter().take(if LOW { 2 } else { 1 }) {
        for from in (0..4).step_by(C::RUN / 2) {
            let mut sums = [S::zero_i(); M];
            for k in from..from + C::RUN / 2 {
                let [even, odd] = C::nibbles::<S>(words[k]);
                for (codes, at) in [(even, start), (odd, start + BLOCK)] {
                    for m in 0..M {
                        let x = x[m].halves.add(first + at).cast::<i32>().add(k);
                        sums[m] = S::add_pairs(sums[m], codes, S::splat_i(*x));
                    }
                }
            }
            for m in 0..M {
                acc[m] = S::add_sums(acc[m], sums[m]);
            }
        }
    }
}

/// Multiplies up to `M` rows of activations, from `first`; `LOW` says that they have low bytes. A
/// kernel of its own, so that it has all registers to itself.
struct Multiply<'a, C, const LOW: bool, const M: usize> {
    tile: Tile<'a>,
    first: usize,
    codes: PhantomData<C>,
}

impl<C: Nibbles, const LOW: bool, const M: usize> Kernel for Multiply<'_, C, LOW, M> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Tile { piece, row, wanted, from, units, panel, near } = self.tile;
        let weights = piece.weights;
        let (row_bytes, unit) = (weights.row_bytes(), weights.format.unit());
        let codes = weights.packed.as_ptr();
        let codes = codes.add((piece.task.slab * weights.rows + row) * row_bytes);
        let count = M.min(piece.order.len() - self.first);
        // Less than `M` rows are filled up with the first one.
        let mut x: [Row; M] = [piece.row(self.first); M];
        for m in 1..count {
            x[m] = piece.row(self.first + m);
        }
        let mut acc = [S::splat(0.0); M];
        // The rows that come next, in their order.
        let mut next = codes.wrapping_add(S::LANES * row_bytes + S::LANES * from * unit / 2);
        let far = row_bytes.is_multiple_of(PAGE);
        let span = if far { 2 * SPAN / unit } else { units };
        // While one span is multiplied the next one is copied beside it, so that nothing waits for
        // either.
        let (mut now, mut then) = (near, near.add(S::LANES * STRIDE));
        if far {
            (0..S::LANES).for_each(|row| copy(codes.add(from * unit / 2), row_bytes, now, row));
        }
        for start in (from..from + units).step_by(span) {
            let (mut codes, mut stride) = (codes.add(start * unit / 2), row_bytes);
            let following = codes.wrapping_add(SPAN);
            let mut rows = if far && start + span < from + units { 0..S::LANES } else { 0..0 };
            if far {
                (codes, stride) = (now, STRIDE);
                (now, then) = (then, now);
            }
            for u in start..start + span {
                let (mut high, mut low) = ([S::zero_i(); M], [S::zero_i(); M]);
                for column in (u * unit..(u + 1) * unit).step_by(COLUMNS) {
                    prefetch_all::<S>(next, S::LANES * PIECE);
                    if let Some(row) = rows.next() {
                        copy(following, row_bytes, now, row);
                    }
                    // Of two blocks those at even places, those at odd ones, and the low bytes.
                    let pair = if LOW { 4 * BLOCK } else { 2 * BLOCK };
                    let at = column / (2 * BLOCK) * pair + column % (2 * BLOCK) / 2;
                    let words = S::columns(codes, stride);
                    add::<S, C, LOW, M>((&mut high, &mut low), words, &x, at);
                    next = next.wrapping_add(S::LANES * PIECE);
                    codes = codes.wrapping_add(PIECE);
                }
                let scale = S::load(panel.scales.add((u - from) * S::LANES));
                let bias = S::load(panel.biases.add((u - from) * S::LANES));
                for m in 0..M {
                    let x_scale = S::splat(*x[m].scales.add(u));
                    let x_sum = S::splat(*x[m].integer_sums.add(u));
                    let whole = S::add_i(S::times_256(high[m]), low[m]);
                    let dot = S::to_f32(if LOW { whole } else { high[m] });
                    acc[m] = S::fma(S::mul(dot, x_scale), scale, S::fma(bias, x_sum, acc[m]));
                }
            }
        }
        for m in 0..count {
            let mut dots = [0.0; 16];
            S::store(dots.as_mut_ptr(), acc[m]);
            let at = row + wanted.start - piece.task.outputs.start;
            let y = &mut piece.output(self.first + m)[at..at + wanted.len()];
            for (y, dot) in y.iter_mut().zip(&dots[wanted.clone()]) {
                *y = if from > 0 { *y + dot } else { *dot };
            }
        }
    }
}
