//! More than a few rows of activations and codes of 4 bits: every lane is an output. Codes of two
//! vectors of outputs are transposed and unpacked once, a span of columns at a time, into a panel
//! that stays in the first-level cache, and multiplied with all rows of activations: each of their
//! numbers is loaded once for both vectors, because loads are as scarce as multiplications. The
//! arithmetic is the limit.
//!
//! Without an instruction that adds four products of bytes, two bytes of an activation take two
//! multiplications, two additions in 16 bits, and now and then two more to widen the sums. As a word
//! of 16 bits it takes two multiplications and two additions for as many products: with many rows
//! codes are unpacked to words, too. The sums are the same to the bit.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use std::marker::PhantomData;
use std::ops::Range;

use super::activations::Form;
use super::codes::{Nibbles, ReadScales};
use super::{Kernel, Piece, Simd, Weights};
use crate::gemm::{self, VECTORS};
use crate::routes::TILED;
use crate::scratch::Scratch;
use crate::simd::{BLOCK, LINE, PAGE, prefetch_all};

/// Columns whose codes are a cache line of a row: they are transposed at once, so that lines that
/// push each other out, as those of rows that are pages apart do, are read before they go.
const COLUMNS: usize = 2 * LINE;

/// Bytes of a panel of codes, one a byte.
const PANEL: usize = 16 * 1024;

/// From so many rows of activations on a panel is twice as large: fewer begin anew, and how long the
/// memory is waited for between two counts less.
const LARGE: usize = 24;

/// Bytes of codes whose pages are made known at once.
const AREA: usize = 128 * 1024;

/// Units whose scales are transposed at a time.
const UNITS: usize = 128;

/// Rows of activations that are multiplied at once, at most.
const MOST_ROWS: usize = 8;

/// Where the precision allows bytes, so many rows are computed with them: a few are limited by the
/// memory anyway.
pub const BYTES: usize = 8;

/// How many rows of activations are best computed here: fewer in [`lanes`](super::lanes), more in
/// [`tiles`](super::tiles).
pub struct Rows;

impl Kernel for Rows {
    type Output = Range<usize>;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Range<usize> {
        let fewest = if S::REGISTERS >= 32 { 14 } else { TILED };
        fewest..if S::FAST_DOT || S::PAIRS { usize::MAX } else { 20 }
    }
}

/// From how many rows of activations on they are best words.
pub struct Words;

impl Kernel for Words {
    type Output = usize;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> usize {
        if S::WORDS { 16 } else { usize::MAX }
    }
}

/// What the numbers of activations are.
trait Numbers {
    /// Bytes of each.
    const BYTES: usize;
    /// Whether codes are words of 16 bits, as these numbers are.
    const WORDS: bool;
}

/// [`Form::ByteHalves`].
struct High;

impl Numbers for High {
    const BYTES: usize = 1;
    const WORDS: bool = false;
}

/// [`Form::Halves`].
struct HighLow;

impl Numbers for HighLow {
    const BYTES: usize = 2;
    const WORDS: bool = false;
}

/// [`Form::Words`].
struct Whole;

impl Numbers for Whole {
    const BYTES: usize = 2;
    const WORDS: bool = true;
}

/// Computes a piece. Activations are [`Form::Halves`], [`Form::ByteHalves`] or [`Form::Words`].
pub struct Panels<'a, C>(Piece<'a>, PhantomData<C>);

impl<'a, C: Nibbles> Panels<'a, C> {
    /// The kernel for `piece`.
    pub fn new(piece: Piece<'a>) -> Self {
        Self(piece, PhantomData)
    }
}

impl<C: Nibbles> Kernel for Panels<'_, C> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        match self.0.x.form() {
            Form::Words => self.with::<S, Whole>(),
            Form::ByteHalves => self.with::<S, High>(),
            _ => self.with::<S, HighLow>(),
        }
    }
}

impl<C: Nibbles> Panels<'_, C> {
    #[inline(always)]
    unsafe fn with<S: Simd, N: Numbers>(self) {
        let piece = &self.0;
        let weights = piece.weights;
        let outputs = &piece.task.outputs;
        let (unit, width) = (weights.format.unit(), VECTORS * S::LANES);
        let all_units = weights.cols / unit;
        let most = UNITS.min(all_units.next_multiple_of(S::LANES));
        let count = piece.order.len();
        let panel_bytes = if count < LARGE { PANEL } else { 2 * PANEL };
        let span = panel_bytes / width / unit / if N::WORDS { 2 } else { 1 };
        let mut floats = Scratch::new((2 * width + 2 * S::LANES) * most);
        let scales = floats.floats().as_mut_ptr();
        let (biases, rows) = (scales.add(width * most), scales.add(2 * width * most));
        let mut panel = Scratch::of_bytes(panel_bytes);
        let panel = panel.bytes().as_mut_ptr();
        let mut x = Vec::with_capacity(count);
        for i in 0..count {
            x.push(piece.row(i).halves);
        }
        let (x, x_units) = (&*x, piece.x.units);
        let mut sums = Scratch::new((count + MOST_ROWS) * width);
        let sums = sums.floats().as_mut_ptr();
        for first in (outputs.start..outputs.end).step_by(width) {
            let n = width.min(outputs.end - first);
            let row = piece.task.slab * weights.rows + first;
            for from in (0..all_units).step_by(most) {
                let units = most.min(all_units - from);
                let tile =
                    Tile { weights, x, x_units, row, n, from, units, scales, biases, panel, sums };
                S::enter(ScalePanel { tile, rows });
                if from == 0 {
                    know_pages(tile);
                }
                std::ptr::write_bytes(sums, 0, count * width);
                let mut asked = 0;
                for start in (0..units).step_by(span) {
                    let span = Span { tile, start, units: span.min(units - start) };
                    S::enter(CodePanel::<C, N>(span, PhantomData));
                    let mut i = 0;
                    while i < count {
                        // Outputs of a row lie pages from those of the next: they are waited for
                        // less if they are asked for before.
                        let last = start + span.units == units;
                        while last && asked < count.min(i + MOST_ROWS) {
                            let y = &piece.output(asked)[first - outputs.start..][..n];
                            prefetch_all::<S>(y.as_ptr().cast(), size_of_val(y));
                            asked += 1;
                        }
                        i += pass::<S, C, N>(span, i);
                    }
                }
                for i in 0..count {
                    let y = &mut piece.output(i)[first - outputs.start..][..n];
                    let sums = sums.add(i * width);
                    let sums = [S::load(sums), S::load(sums.add(S::LANES))];
                    gemm::put::<S, VECTORS>(sums, y.as_mut_ptr(), n, from > 0);
                }
            }
        }
    }
}

/// Rows of the weights for two vectors of outputs, and some of their units.
#[derive(Clone, Copy)]
struct Tile<'a> {
    weights: &'a Weights<'a>,
    /// The halves of each row of activations. Before them are the sums of as many units as
    /// `x_units`, and before these the scales.
    x: &'a [*const i8],
    x_units: usize,
    /// The first row, counted through all matrices.
    row: usize,
    /// Rows that there are; the last one fills the others' places.
    n: usize,
    /// The first unit.
    from: usize,
    units: usize,
    /// `[VECTORS, units, LANES]`.
    scales: *mut f32,
    /// Of the same shape.
    biases: *mut f32,
    /// `[columns / 4, VECTORS * LANES, 4]` codes: of every eight columns first those at even places;
    /// or as words `[columns / 2, VECTORS * LANES, 2]` in the order
    /// [`WORDS`](super::activations::WORDS).
    panel: *mut u8,
    /// `[rows of activations, VECTORS * LANES]`, and room for [`MOST_ROWS`] more.
    sums: *mut f32,
}

impl Tile<'_> {
    /// From one vector's scales to the next one's.
    fn stride<S: Simd>(&self) -> usize {
        self.units.next_multiple_of(S::LANES) * S::LANES
    }
}

/// Reads a byte of each page of the areas that begin among the rows that come next: processors may
/// ignore what is asked for where they do not know the page, and one read after the other would
/// wait longer than many at once. Rows of a page or more are as fast without.
#[inline(always)]
unsafe fn know_pages(tile: Tile) {
    let (codes, row_bytes) = (tile.weights.packed, tile.weights.row_bytes());
    if row_bytes >= PAGE {
        return;
    }
    let bytes = tile.n * row_bytes;
    let from = (tile.row + tile.n) * row_bytes;
    let mut area = from.next_multiple_of(AREA);
    while area < codes.len().min(from + bytes) {
        for page in (area..codes.len().min(area + AREA)).step_by(PAGE) {
            codes.as_ptr().add(page).read_volatile();
        }
        area += AREA;
    }
}

/// What the rows that come next have for each unit of these, from unit `unit` on, in the order in
/// which it lies: where codes, scales and biases begin, and how many bytes they are.
#[inline(always)]
unsafe fn ahead(tile: Tile, unit: usize) -> [(*const u8, usize); 3] {
    let Tile { weights, row, n, .. } = tile;
    let units = weights.cols / weights.format.unit();
    let next = (row + n) * units + n * unit;
    let [scales, biases] = weights.scale_bytes();
    let mut parts = [(weights.packed.as_ptr(), weights.format.unit() / 2), scales, biases];
    for (start, bytes) in &mut parts {
        *start = start.wrapping_add(next * *bytes);
        *bytes *= n;
    }
    parts
}

/// Reads scales and biases and transposes them.
struct ScalePanel<'a> {
    tile: Tile<'a>,
    /// Room for those of a vector.
    rows: *mut f32,
}

impl Kernel for ScalePanel<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { tile, rows } = self;
        let Tile { weights, row, n, from, units, .. } = tile;
        let all_units = weights.cols / weights.format.unit();
        // Of the last squares a part lies beyond the rows' ends, and is never used.
        let size = tile.stride::<S>();
        let (scales, biases) = std::slice::from_raw_parts_mut(rows, 2 * size).split_at_mut(size);
        for vector in 0..VECTORS {
            // All at once where they follow one another.
            let all = units == all_units && (vector + 1) * S::LANES <= n;
            let each = if all { S::LANES } else { 1 };
            for lane in (0..S::LANES).step_by(each) {
                S::enter(ReadScales {
                    weights,
                    unit: (row + (vector * S::LANES + lane).min(n - 1)) * all_units + from,
                    scales: &mut scales[lane * units..(lane + each) * units],
                    biases: &mut biases[lane * units..(lane + each) * units],
                });
            }
            for (from, to) in [(&*scales, tile.scales), (&*biases, tile.biases)] {
                let to = to.add(vector * size);
                for u in (0..units).step_by(S::LANES) {
                    let to = to.add(u * S::LANES).cast();
                    S::transpose(from.as_ptr().add(u).cast(), 4 * units, to, 4 * S::LANES);
                }
            }
        }
    }
}

/// Some units of a tile: as many as there is room for in the panel of codes.
#[derive(Clone, Copy)]
struct Span<'a> {
    tile: Tile<'a>,
    /// The first unit, counted from that of the tile.
    start: usize,
    units: usize,
}

/// Transposes and unpacks the codes of a span.
struct CodePanel<'a, C, N>(Span<'a>, PhantomData<(C, N)>);

impl<C: Nibbles, N: Numbers> Kernel for CodePanel<'_, C, N> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Span { tile: Tile { weights, row, n, from, panel, .. }, start, units } = self.0;
        let (row_bytes, unit) = (weights.row_bytes(), weights.format.unit());
        let codes = weights.packed.as_ptr().add(row * row_bytes + (from + start) * unit / 2);
        let bytes = units * unit / 2;
        let mut edge = Lines([[0; LINE]; 16]);
        let vector_bytes = 4 * S::LANES;
        for byte in (0..bytes).step_by(LINE) {
            for vector in 0..VECTORS {
                let first = vector * S::LANES;
                let (mut lines, mut stride) =
                    (codes.add(byte).wrapping_add(first * row_bytes), row_bytes);
                if first + S::LANES > n || byte + LINE > bytes {
                    let size = LINE.min(bytes - byte);
                    for lane in 0..S::LANES {
                        let line = codes.add((first + lane).min(n - 1) * row_bytes + byte);
                        std::ptr::copy_nonoverlapping(line, edge.0[lane].as_mut_ptr(), size);
                    }
                    (lines, stride) = (edge.0.as_ptr().cast(), LINE);
                }
                for word in (0..LINE / 4).step_by(S::LANES) {
                    let mut words = [S::zero_i(); 16];
                    let to = words.as_mut_ptr().cast();
                    S::transpose(lines.add(4 * word), stride, to, vector_bytes);
                    for (i, &words) in words.iter().enumerate().take(S::LANES) {
                        let codes = C::nibbles::<S>(words);
                        let at = panel_at::<S, N>(byte / 4 + word + i) + vector * vector_bytes;
                        let to = panel.add(at);
                        for part in 0..2 {
                            if N::WORDS {
                                let words = S::widen(codes[part]);
                                let to = to.add(2 * part * VECTORS * vector_bytes);
                                S::store_i(to, words[0]);
                                S::store_i(to.add(VECTORS * vector_bytes), words[1]);
                            } else {
                                S::store_i(to.add(part * VECTORS * vector_bytes), codes[part]);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Lines of memory.
#[repr(align(64))]
struct Lines([[u8; LINE]; 16]);

/// Where in the panel the codes of eight columns begin.
#[inline(always)]
fn panel_at<S: Simd, N: Numbers>(eight: usize) -> usize {
    8 * eight * VECTORS * S::LANES * if N::WORDS { 2 } else { 1 }
}

/// How many of so many rows of activations are multiplied next: of equal parts one. Their sums are
/// to stay in registers.
#[inline(always)]
fn at_once<S: Simd, N: Numbers>(rows: usize) -> usize {
    let most = if S::REGISTERS >= 32 {
        MOST_ROWS
    } else if S::PAIRS && !N::WORDS {
        if N::BYTES == 1 { 4 } else { 3 }
    } else {
        6
    };
    rows.div_ceil(rows.div_ceil(most))
}

/// [`Multiply`] for the rows from `first`, or a few more, as not every number of rows has code of
/// its own; gives their number back.
#[inline(always)]
unsafe fn pass<S: Simd, C: Nibbles, N: Numbers>(span: Span, first: usize) -> usize {
    let rows = at_once::<S, N>(span.tile.x.len() - first);
    if S::PAIRS && N::BYTES == 2 && !N::WORDS {
        return match rows {
            3 => multiply::<S, C, N, 3>(span, first),
            _ => multiply::<S, C, N, 2>(span, first),
        };
    }
    match rows {
        7 | 8 => multiply::<S, C, N, 8>(span, first),
        5 | 6 => multiply::<S, C, N, 6>(span, first),
        3 | 4 => multiply::<S, C, N, 4>(span, first),
        _ => multiply::<S, C, N, 2>(span, first),
    }
}

/// [`Multiply`]; gives the number of rows back.
#[inline(always)]
unsafe fn multiply<S: Simd, C: Nibbles, N: Numbers, const M: usize>(
    span: Span,
    first: usize,
) -> usize {
    S::enter(Multiply::<C, N, M> { span, first, kinds: PhantomData });
    M
}

/// Adds the products of the codes of four columns, of eight those at even or at odd places, with the
/// high or the low bytes of `M` rows of activations.
#[inline(always)]
unsafe fn add_four<S: Simd, N: Numbers, const M: usize>(
    dots: &mut [[S::I; VECTORS]; M],
    codes: *const u8,
    (eight, half): (usize, usize),
    x: &[*const i8; M],
    at: usize,
) {
    let codes = codes.add(panel_at::<S, N>(eight) + 4 * half * VECTORS * S::LANES);
    let codes = [S::load_i(codes), S::load_i(codes.add(4 * S::LANES))];
    let at = at + 4 * eight + half * BLOCK;
    for m in 0..M {
        let x = S::splat_i(x[m].add(at).cast::<i32>().read_unaligned());
        for r in 0..VECTORS {
            dots[m][r] = if S::PAIRS {
                S::add_pairs(dots[m][r], codes[r], x)
            } else {
                S::dot4::<false>(dots[m][r], codes[r], x)
            };
        }
    }
}

/// The same with the codes of a unit.
#[inline(always)]
unsafe fn add<S: Simd, C: Nibbles, N: Numbers, const M: usize>(
    dots: &mut [[S::I; VECTORS]; M],
    codes: *const u8,
    unit: usize,
    x: &[*const i8; M],
    at: usize,
) {
    if !S::PAIRS {
        for eight in 0..unit / 8 {
            add_four::<S, N, M>(dots, codes, (eight, 0), x, at);
            add_four::<S, N, M>(dots, codes, (eight, 1), x, at);
        }
        return;
    }
    // Sums of 16 bits are widened before they can be too large. Units are whole runs.
    for from in (0..unit / 8).step_by(C::RUN / 2) {
        let mut sums = [[S::zero_i(); VECTORS]; M];
        for eight in from..from + C::RUN / 2 {
            add_four::<S, N, M>(&mut sums, codes, (eight, 0), x, at);
            add_four::<S, N, M>(&mut sums, codes, (eight, 1), x, at);
        }
        for m in 0..M {
            for r in 0..VECTORS {
                dots[m][r] = S::add_sums(dots[m][r], sums[m][r]);
            }
        }
    }
}

/// Adds the products of the codes of a unit, as words, with `M` rows of activations.
#[inline(always)]
unsafe fn add_words<S: Simd, const M: usize>(
    dots: &mut [[S::I; VECTORS]; M],
    codes: *const u8,
    unit: usize,
    x: &[*const i8; M],
    at: usize,
) {
    for pair in 0..unit / 2 {
        let codes = codes.add(4 * pair * VECTORS * S::LANES);
        let codes = [S::load_i(codes), S::load_i(codes.add(4 * S::LANES))];
        for m in 0..M {
            let x = S::splat_i(x[m].add(at + 4 * pair).cast::<i32>().read_unaligned());
            for r in 0..VECTORS {
                dots[m][r] = S::dot2(dots[m][r], codes[r], x);
            }
        }
    }
}

/// Multiplies up to `M` rows of activations, from `first`. A kernel of its own, so that it has all
/// registers to itself.
struct Multiply<'a, C, N, const M: usize> {
    span: Span<'a>,
    first: usize,
    kinds: PhantomData<(C, N)>,
}

impl<C: Nibbles, N: Numbers, const M: usize> Kernel for Multiply<'_, C, N, M> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Span { tile, start, units } = self.span;
        let Tile { weights, x_units, from, scales, biases, panel, sums, .. } = tile;
        let (unit, width) = (weights.format.unit(), VECTORS * S::LANES);
        // Less than `M` rows are filled up with the first one; nobody reads their sums.
        let rows = &tile.x[self.first..];
        let mut x = [rows[0]; M];
        for (x, row) in x.iter_mut().zip(rows) {
            *x = *row;
        }
        let sums = sums.add(self.first * width);
        let stride = tile.stride::<S>();
        let ahead = ahead(tile, from + start);
        for u in 0..units {
            let column = (from + start + u) * unit;
            // By one pass, and a little at a time: of many lines that are asked for at once
            // processors ignore most.
            if self.first == 0 {
                for (next, bytes) in ahead {
                    prefetch_all::<S>(next.wrapping_add(u * bytes), bytes);
                }
            }
            let codes = panel.add(panel_at::<S, N>(u * unit / 8));
            let mut dots = [[S::zero_i(); VECTORS]; M];
            if N::WORDS {
                add_words::<S, M>(&mut dots, codes, unit, &x, 2 * column);
            } else {
                // Of two blocks those at even places, those at odd ones, and the low bytes.
                let pair = 2 * BLOCK * N::BYTES;
                let at = column / COLUMNS * pair + column % COLUMNS / 2;
                add::<S, C, N, M>(&mut dots, codes, unit, &x, at);
                if N::BYTES == 2 {
                    for row in &mut dots {
                        for dot in row {
                            *dot = S::times_256(*dot);
                        }
                    }
                    add::<S, C, N, M>(&mut dots, codes, unit, &x, at + 2 * BLOCK);
                }
            }
            let (mut scale, mut bias) = ([S::splat(0.0); VECTORS], [S::splat(0.0); VECTORS]);
            for r in 0..VECTORS {
                scale[r] = S::load(scales.add(r * stride + (start + u) * S::LANES));
                bias[r] = S::load(biases.add(r * stride + (start + u) * S::LANES));
            }
            for m in 0..M {
                let x_scales = x[m].cast::<f32>().sub(2 * x_units).add(from + start + u);
                let (x_scale, x_sum) = (S::splat(*x_scales), S::splat(*x_scales.add(x_units)));
                for r in 0..VECTORS {
                    let sum = sums.add(m * width + r * S::LANES);
                    let dot = S::mul(S::to_f32(dots[m][r]), x_scale);
                    S::store(sum, S::fma(dot, scale[r], S::fma(bias[r], x_sum, S::load(sum))));
                }
            }
        }
    }
}
