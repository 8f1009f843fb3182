//! Scores and weighted sums: keys and values are read as they are, and multiplied with several rows
//! at once.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use super::{BLOCK, Cached};
use crate::floats::{Element, Floats};
use crate::scratch::Scratch;
use crate::simd::{Kernel, Simd, prefetch_all};

/// Rows that are taken at once.
const ROWS: usize = 4;

/// Keys or values of a block.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    pub cached: &'a Cached<'a>,
    /// Where it begins.
    pub from: usize,
    pub count: usize,
}

impl Block<'_> {
    /// Calls `go` with the block as it lies in memory or, where vectors would not end with its
    /// features, with a copy of it whose features are filled up with zeros.
    #[inline(always)]
    pub unsafe fn read<S: Simd>(self, go: impl Lines) {
        let Self { cached, from, count } = self;
        let (dim, stride) = (cached.shape[3], cached.strides[2]);
        if dim.is_multiple_of(S::LANES) {
            return match cached.values {
                Floats::F32(all) => go.run::<S, f32>(all.as_ptr().add(from), stride, dim),
                Floats::F16(all) => go.run::<S, half::f16>(all.as_ptr().add(from), stride, dim),
                Floats::Bf16(all) => go.run::<S, half::bf16>(all.as_ptr().add(from), stride, dim),
            };
        }
        let wide = dim.next_multiple_of(S::LANES);
        let mut lines = Scratch::new(count * wide);
        let lines = lines.floats().as_mut_ptr();
        for i in 0..count {
            let to = lines.add(i * wide);
            cached.values.read::<S>(from + i * stride, dim, to);
            std::ptr::write_bytes(to.add(dim), 0, wide - dim);
        }
        go.run::<S, f32>(lines, wide, wide);
    }
}

/// What is done with the lines of a block.
pub trait Lines {
    /// Lines of `dim` elements, whole vectors, are `stride` elements apart.
    unsafe fn run<S: Simd, E: Element>(self, lines: *const E, stride: usize, dim: usize);
}

/// Asks for the same of another block while one is worked on.
#[derive(Clone, Copy)]
pub struct Next {
    start: *const u8,
    stride: usize,
    bytes: usize,
}

impl Next {
    pub fn new(block: Block) -> Self {
        let Block { cached, from, .. } = block;
        let size = cached.values.element_size();
        Self {
            // Which need not be there.
            start: cached.values.as_ptr().wrapping_add(from * size),
            stride: cached.strides[2] * size,
            bytes: cached.shape[3] * size,
        }
    }

    /// Asks for lines `from..to`.
    #[inline(always)]
    pub unsafe fn fetch<S: Simd>(&self, from: usize, to: usize) {
        for i in from..to {
            prefetch_all::<S>(self.start.wrapping_add(i * self.stride), self.bytes);
        }
    }
}

/// `scores[row][i] = q[row] · key[i]`; rows of `q` are `wide` floats apart, with zeros behind their
/// features, those of `scores` [`BLOCK`].
pub struct Scores<'a> {
    pub keys: Block<'a>,
    /// What is read after it.
    pub next: Block<'a>,
    pub q: *const f32,
    pub wide: usize,
    pub rows: usize,
    pub scores: *mut f32,
}

impl Kernel for Scores<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        self.keys.read::<S>(self);
    }
}

impl Lines for Scores<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd, E: Element>(self, keys: *const E, stride: usize, dim: usize) {
        let count = self.keys.count;
        let next = Next::new(self.next);
        let mut i = 0;
        if S::REGISTERS >= 32 {
            while i + 4 <= count {
                next.fetch::<S>(i, i + 4);
                self.all_rows::<S, E, 4>(keys, stride, dim, i);
                i += 4;
            }
        }
        while i + 2 <= count {
            next.fetch::<S>(i, i + 2);
            self.all_rows::<S, E, 2>(keys, stride, dim, i);
            i += 2;
        }
        if i < count {
            self.all_rows::<S, E, 1>(keys, stride, dim, i);
        }
    }
}

impl Scores<'_> {
    /// The scores of `K` keys, from key `first`.
    #[inline(always)]
    unsafe fn all_rows<S: Simd, E: Element, const K: usize>(
        &self,
        keys: *const E,
        stride: usize,
        dim: usize,
        first: usize,
    ) {
        let mut row = 0;
        while row < self.rows {
            match self.rows - row {
                1 => self.some_rows::<S, E, K, 1>(keys, stride, dim, first, row),
                2 => self.some_rows::<S, E, K, 2>(keys, stride, dim, first, row),
                _ => self.some_rows::<S, E, K, ROWS>(keys, stride, dim, first, row),
            }
            row += ROWS;
        }
    }

    /// Those of `M` rows; where there are less, the last one is taken again.
    #[inline(always)]
    unsafe fn some_rows<S: Simd, E: Element, const K: usize, const M: usize>(
        &self,
        keys: *const E,
        stride: usize,
        dim: usize,
        first: usize,
        row: usize,
    ) {
        let Self { q, wide, rows, scores, .. } = *self;
        let mut of_q = [q; M];
        for (m, of_q) in of_q.iter_mut().enumerate() {
            *of_q = q.add((row + m).min(rows - 1) * wide);
        }
        let mut acc = [[S::splat(0.0); K]; M];
        for at in (0..dim).step_by(S::LANES) {
            let mut key = [S::splat(0.0); K];
            for (k, key) in key.iter_mut().enumerate() {
                *key = E::load::<S>(keys.add((first + k) * stride + at));
            }
            for m in 0..M {
                let q = S::load(of_q[m].add(at));
                for k in 0..K {
                    acc[m][k] = S::fma(key[k], q, acc[m][k]);
                }
            }
        }
        for (m, acc) in acc.iter().enumerate().take(rows - row) {
            let to = scores.add((row + m) * BLOCK + first);
            if K == 4 {
                let sums = S::sums([acc[0], acc[1], acc[2], acc[3]]);
                to.cast::<[f32; 4]>().write_unaligned(sums);
            } else {
                for (k, &acc) in acc.iter().enumerate() {
                    *to.add(k) = S::sum(acc);
                }
            }
        }
    }
}

/// `sums[row] += Σᵢ weights[row][i] · value[i]`; rows of `weights` are [`BLOCK`] floats apart,
/// those of `sums` `wide`, whole vectors.
pub struct Sums<'a> {
    pub values: Block<'a>,
    /// What is read after it.
    pub next: Block<'a>,
    pub weights: *const f32,
    pub wide: usize,
    pub rows: usize,
    pub sums: *mut f32,
}

impl Kernel for Sums<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        self.values.read::<S>(self);
    }
}

impl Lines for Sums<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd, E: Element>(self, values: *const E, stride: usize, dim: usize) {
        let mut row = 0;
        while row < self.rows {
            match self.rows - row {
                1 => self.some_rows::<S, E, 1>(values, stride, dim, row),
                2 => self.some_rows::<S, E, 2>(values, stride, dim, row),
                3 => self.some_rows::<S, E, 3>(values, stride, dim, row),
                _ => self.some_rows::<S, E, ROWS>(values, stride, dim, row),
            }
            row += ROWS;
        }
    }
}

impl Sums<'_> {
    #[inline(always)]
    unsafe fn some_rows<S: Simd, E: Element, const M: usize>(
        &self,
        values: *const E,
        stride: usize,
        dim: usize,
        row: usize,
    ) {
        let mut at = 0;
        if S::REGISTERS >= 32 {
            while at + 4 * S::LANES <= dim {
                self.columns::<S, E, M, 4>(values, stride, row, at);
                at += 4 * S::LANES;
            }
        }
        while at + 2 * S::LANES <= dim {
            self.columns::<S, E, M, 2>(values, stride, row, at);
            at += 2 * S::LANES;
        }
        if at < dim {
            self.columns::<S, E, M, 1>(values, stride, row, at);
        }
    }

    /// `V` vectors from feature `at`.
    #[inline(always)]
    unsafe fn columns<S: Simd, E: Element, const M: usize, const V: usize>(
        &self,
        values: *const E,
        stride: usize,
        row: usize,
        at: usize,
    ) {
        let next = Next::new(self.next);
        let (weights, sums) = (self.weights.add(row * BLOCK), self.sums.add(row * self.wide + at));
        let mut acc = [[S::splat(0.0); V]; M];
        for m in 0..M {
            for v in 0..V {
                acc[m][v] = S::load(sums.add(m * self.wide + v * S::LANES));
            }
        }
        for i in 0..self.values.count {
            if (row, at) == (0, 0) {
                next.fetch::<S>(i, i + 1);
            }
            let value = values.add(i * stride + at);
            let mut lanes = [S::splat(0.0); V];
            for (v, lanes) in lanes.iter_mut().enumerate() {
                *lanes = E::load::<S>(value.add(v * S::LANES));
            }
            for m in 0..M {
                let weight = S::splat(*weights.add(m * BLOCK + i));
                for v in 0..V {
                    acc[m][v] = S::fma(weight, lanes[v], acc[m][v]);
                }
            }
        }
        for m in 0..M {
            for v in 0..V {
                S::store(sums.add(m * self.wide + v * S::LANES), acc[m][v]);
            }
        }
    }
}
