//! Activations made ready for a product with quantized weights.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use super::{DisjointSliceMut, Isa, Kernel, Simd, Weights, parallel_for};
use crate::scratch::Scratch;
use crate::simd::BLOCK;

/// Rows that one task of the preparation takes.
const ROWS: usize = 8;

/// The greatest integer that an activation becomes: two signed bytes of which no one is -128, so
/// that the sums of their products with codes can be computed with every instruction set.
const MOST: f32 = 256.0 * 127.0;

/// The same of a single byte.
const MOST_BYTE: f32 = 127.0;

/// What activations are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing: they stay f32.
    Floats,
    /// Integers too.
    Integers,
    /// Integers of a single byte too: the high ones. There are no low ones.
    Bytes,
    /// Integers too, of every two blocks first the high bytes at even places, then those at odd
    /// ones, then the low bytes likewise: as codes of 4 bits are unpacked with the least work, and
    /// one pointer leads to all.
    Halves,
    /// The same of [`Self::Bytes`], without low ones.
    ByteHalves,
    /// Integers too, as words of 16 bits, of every eight in the order [`WORDS`].
    Words,
}

/// The order of eight columns as words: pairs as those of codes of 4 bits that are unpacked with
/// the least work.
pub const WORDS: [usize; 8] = [0, 4, 2, 6, 1, 5, 3, 7];

impl Form {
    fn integer(self) -> bool {
        self != Self::Floats
    }

    /// Whether there are no low bytes.
    fn bytes(self) -> bool {
        matches!(self, Self::Bytes | Self::ByteHalves)
    }
}

/// Rows of activations with, for each unit of columns (a group, or half a group of 128), what the
/// product needs. All rows are padded with 0: values to pairs of blocks, units to a multiple of 16.
pub struct Activations {
    memory: Scratch,
    /// Of the rows that are computed in f32.
    values: Scratch,
    rows: usize,
    /// Floats of a row in `memory`.
    each: usize,
    /// Padded columns.
    pub cols: usize,
    /// Padded units.
    pub units: usize,
    form: Form,
}

/// One prepared row.
#[derive(Clone, Copy)]
pub struct Row {
    /// As integers, `x ≈ scale · (256 · high + low)`, or `scale · high` where there
    /// are no low bytes: the high bytes.
    pub high: *const i8,
    /// The low bytes, if there are any.
    pub low: *const i8,
    /// Both, where they are [`Form::Halves`] or [`Form::Words`] (and then not where `high` and
    /// `low` point).
    pub halves: *const i8,
    /// The scale of each unit.
    pub scales: *const f32,
    /// The sum of the integers of each unit times the scale.
    pub integer_sums: *const f32,
    /// As they are, where they are kept.
    pub values: *const f32,
    /// The sum of the values of each unit.
    pub sums: *const f32,
}

impl Activations {
    /// Prepares `x`, `[rows, weights.cols]`. Rows that have integers keep their values where
    /// `values` says so, and where they are not finite.
    pub fn new(weights: &Weights, x: &[f32], form: Form, values: bool, isa: Isa) -> Self {
        let rows = x.len() / weights.cols;
        let unit = weights.format.unit();
        let cols = weights.cols.next_multiple_of(2 * BLOCK);
        let units = (weights.cols / unit).next_multiple_of(16);
        // A row is: sums, a flag, then, with integers: scales, their sums, high bytes, low bytes
        // (or both in another order).
        let integers = match form {
            Form::Floats => 0,
            Form::Bytes | Form::ByteHalves => 2 * units + cols / 4,
            Form::Integers | Form::Halves | Form::Words => 2 * units + cols / 2,
        };
        let each = (units + 16 + integers).next_multiple_of(16);
        let memory = Scratch::new(rows * each);
        let mut prepared = Self { memory, values: Scratch::new(0), rows, each, cols, units, form };
        let memory = DisjointSliceMut::new(prepared.memory.floats());
        parallel_for(rows.div_ceil(ROWS), |i| {
            for row in i * ROWS..((i + 1) * ROWS).min(rows) {
                let x = &x[row * weights.cols..(row + 1) * weights.cols];
                // SAFETY: every row is prepared once, in its own part.
                let to = unsafe { memory.slice(row * each, each) };
                isa.run(Prepare { x, to, unit, units, form, cols });
            }
        });
        let floats = |row: &usize| values || !form.integer() || !prepared.finite(*row);
        let floats: Vec<_> = (0..rows).filter(floats).collect();
        if !floats.is_empty() {
            let mut copies = Scratch::new(rows * cols);
            let to = DisjointSliceMut::new(copies.floats());
            parallel_for(floats.len().div_ceil(ROWS), |i| {
                for &row in floats.iter().skip(i * ROWS).take(ROWS) {
                    // SAFETY: every row is copied once.
                    let to = unsafe { to.slice(row * cols, cols) };
                    let (own, padding) = to.split_at_mut(weights.cols);
                    own.copy_from_slice(&x[row * weights.cols..][..weights.cols]);
                    padding.fill(0.0);
                }
            });
            prepared.values = copies;
        }
        prepared
    }

    /// What they were made.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Row `row`. The pointers are good while `self` lives; those to integers and their scales only
    /// if they were asked for.
    pub fn row(&self, row: usize) -> Row {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: the parts lie within the row, which lies within the memory.
        unsafe {
            let sums = self.memory.as_ptr().add(row * self.each);
            let values = self.values.as_ptr().wrapping_add(row * self.cols);
            let scales = sums.add(self.units + 16);
            let integer_sums = scales.wrapping_add(self.units);
            let high: *const i8 = integer_sums.wrapping_add(self.units).cast();
            let low = high.wrapping_add(self.cols);
            Row { high, low, halves: high, scales, integer_sums, values, sums }
        }
    }

    /// Whether row `row` has neither NaN nor infinity.
    pub fn finite(&self, row: usize) -> bool {
        // SAFETY: the flag follows the sums.
        unsafe { *self.row(row).sums.add(self.units) == 0.0 }
    }
}

struct Prepare<'a> {
    x: &'a [f32],
    to: &'a mut [f32],
    unit: usize,
    cols: usize,
    units: usize,
    form: Form,
}

impl Kernel for Prepare<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, to, unit, cols, units, form } = self;
        let sums = to.as_mut_ptr();
        let flag = sums.add(units);
        let scales = flag.add(16);
        let integer_sums = scales.wrapping_add(units);
        let high = integer_sums.wrapping_add(units).cast::<i8>();
        let low = high.wrapping_add(cols);
        // The padding.
        let (own, rest) = (x.len() / unit, units - x.len() / unit);
        std::ptr::write_bytes(sums.add(own), 0, rest + 16);
        if form.integer() {
            std::ptr::write_bytes(scales.add(own), 0, rest);
            std::ptr::write_bytes(integer_sums.add(own), 0, rest);
            std::ptr::write_bytes(high.add(x.len()), 0, cols - x.len());
            if !form.bytes() {
                std::ptr::write_bytes(low.add(x.len()), 0, cols - x.len());
            }
        }
        // 0 · v is 0 for numbers, NaN for NaN and infinities.
        let mut zeros = S::splat(0.0);
        for u in 0..x.len() / unit {
            let from = x.as_ptr().add(u * unit);
            let (mut sum, mut most) = (S::splat(0.0), S::splat(0.0));
            for i in (0..unit).step_by(S::LANES) {
                let v = S::load(from.add(i));
                sum = S::add(sum, v);
                most = S::max(most, S::abs(v));
                zeros = S::fma(v, S::splat(0.0), zeros);
            }
            *sums.add(u) = S::sum(sum);
            if !form.integer() {
                continue;
            }
            let most = S::max_lane(most);
            let greatest = if form.bytes() { MOST_BYTE } else { MOST };
            let scale = most / greatest;
            // Where the scale is too small to be inverted, all become 0: an error below 1e-33.
            let inverse = if most > 1e-33 { greatest / most } else { 0.0 };
            let mut sum = S::splat(0.0);
            for i in (0..unit).step_by(S::LANES) {
                let whole = S::round(S::mul(S::load(from.add(i)), S::splat(inverse)));
                if form.bytes() {
                    sum = S::add(sum, whole);
                    S::store_i8(high.add(u * unit + i), whole);
                    continue;
                }
                let upper = S::round(S::mul(whole, S::splat(1.0 / 256.0)));
                // Between -128 and 128; the ends become 127, which is no worse than the rounding.
                let lower = S::fma(upper, S::splat(-256.0), whole);
                let lower = S::max(S::splat(-127.0), S::min(S::splat(127.0), lower));
                sum = S::add(sum, S::fma(upper, S::splat(256.0), lower));
                S::store_i8(high.add(u * unit + i), upper);
                S::store_i8(low.add(u * unit + i), lower);
            }
            *scales.add(u) = scale;
            *integer_sums.add(u) = S::sum(sum) * scale;
        }
        *flag = S::sum(zeros);
        if matches!(form, Form::Halves | Form::ByteHalves | Form::Words) {
            // The low bytes follow the high ones.
            let bytes = if form.bytes() { cols } else { 2 * cols };
            let mut natural = Scratch::of_bytes(bytes);
            let natural = natural.bytes();
            let to = std::slice::from_raw_parts_mut(high.cast::<u8>(), bytes);
            natural.copy_from_slice(to);
            match form {
                Form::Words => join(natural, to),
                Form::ByteHalves => split::<1>(natural, to),
                _ => split::<2>(natural, to),
            }
        }
    }
}

/// Turns `KINDS` kinds of bytes, all of one after all of the other, into those of every two blocks
/// behind each other, of each kind first those at even places.
#[inline(always)]
fn split<const KINDS: usize>(natural: &[u8], to: &mut [u8]) {
    for kind in 0..KINDS {
        let each = natural.len() / KINDS;
        let (from, _) = natural[kind * each..(kind + 1) * each].as_chunks::<{ 2 * BLOCK }>();
        let (to, _) = to.as_chunks_mut::<{ 2 * BLOCK }>();
        for (to, from) in to[kind..].iter_mut().step_by(KINDS).zip(from) {
            for i in 0..BLOCK {
                (to[i], to[BLOCK + i]) = (from[2 * i], from[2 * i + 1]);
            }
        }
    }
}

/// Turns high bytes and low bytes, all of one after all of the other, into words in the order
/// [`WORDS`].
#[inline(always)]
fn join(natural: &[u8], to: &mut [u8]) {
    let (high, low) = natural.split_at(natural.len() / 2);
    let (high, low) = (high.as_chunks::<8>().0, low.as_chunks::<8>().0);
    for ((to, high), low) in to.as_chunks_mut::<16>().0.iter_mut().zip(high).zip(low) {
        for (to, column) in to.as_chunks_mut::<2>().0.iter_mut().zip(WORDS) {
            // A negative low byte borrows of the high one.
            let (high, low) = (high[column] as i8, low[column] as i8);
            *to = (256 * i16::from(high) + i16::from(low)).to_le_bytes();
        }
    }
}
