//! Scores and weighted sums of many rows: keys are transposed and values made f32 once for all, so
//! that every product is one of a panel.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use super::BLOCK;
use super::products::{Block, Lines, Next};
use crate::floats::Element;
use crate::gemm::{self, Product, VECTORS};
use crate::simd::{Kernel, Simd};

/// From so many rows on panels pay.
pub const MANY: usize = 12;

/// Features of rows of queries that lie together: rows are so many floats apart, which is known
/// when the code is made, so that one pointer leads to several.
pub const FEATURES: usize = 64;

/// Turns keys into panels, `[keys / (VECTORS · LANES), dim, VECTORS · LANES]`, where `dim` is
/// rounded up to whole vectors.
pub struct KeyPanels<'a> {
    pub keys: Block<'a>,
    /// What is read after it.
    pub next: Block<'a>,
    /// Room for a vector of keys.
    pub lines: *mut f32,
    pub panels: *mut f32,
}

impl Kernel for KeyPanels<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        self.keys.read::<S>(self);
    }
}

impl Lines for KeyPanels<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd, E: Element>(self, keys: *const E, stride: usize, dim: usize) {
        let Self { keys: Block { count, .. }, next, lines, panels } = self;
        let next = Next::new(next);
        // The last key takes the places that are left in the last panel.
        let places = count.next_multiple_of(VECTORS * S::LANES);
        for first in (0..places).step_by(S::LANES) {
            for lane in 0..S::LANES {
                let i = (first + lane).min(count - 1);
                next.fetch::<S>(first + lane, first + lane + 1);
                for at in (0..dim).step_by(S::LANES) {
                    let features = E::load::<S>(keys.add(i * stride + at));
                    S::store(lines.add(lane * dim + at), features);
                }
            }
            let panel = first / (VECTORS * S::LANES);
            let panel = panels.add(panel * dim * VECTORS * S::LANES);
            let vector = first / S::LANES % VECTORS;
            gemm::fill::<S>(lines.cast(), dim, dim, panel.cast(), vector);
        }
    }
}

/// `scores[row][i] = q[row] · key[i]` for `count` keys; rows of `scores` are [`BLOCK`] floats apart.
pub struct Scores {
    pub panels: *const f32,
    /// Keys.
    pub count: usize,
    /// Features, rounded up to whole vectors.
    pub wide: usize,
    /// `[features / FEATURES, rows, FEATURES]`.
    pub q: *const f32,
    pub rows: usize,
    pub scores: *mut f32,
}

impl Kernel for Scores {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { panels, count, wide, q, rows, scores } = self;
        let width = VECTORS * S::LANES;
        for first in (0..count).step_by(width) {
            for from in (0..wide).step_by(FEATURES) {
                let product = Product {
                    panel: panels.add(first * wide + from * width),
                    stride: width,
                    k: FEATURES.min(wide - from),
                    count: rows,
                    n: width,
                    add: from > 0,
                };
                let q = q.add(from * rows);
                product.run::<S>(
                    |i| q.wrapping_add(i * FEATURES),
                    |i| scores.wrapping_add(i * BLOCK + first),
                );
            }
        }
    }
}

/// Turns values into a panel, `[values, wide]`, with anything behind their features.
pub struct ValuePanel<'a> {
    pub values: Block<'a>,
    /// What is read after it.
    pub next: Block<'a>,
    pub wide: usize,
    pub panel: *mut f32,
}

impl Kernel for ValuePanel<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        self.values.read::<S>(self);
    }
}

impl Lines for ValuePanel<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd, E: Element>(self, values: *const E, stride: usize, dim: usize) {
        let next = Next::new(self.next);
        for i in 0..self.values.count {
            next.fetch::<S>(i, i + 1);
            for at in (0..dim).step_by(S::LANES) {
                let features = E::load::<S>(values.add(i * stride + at));
                S::store(self.panel.add(i * self.wide + at), features);
            }
        }
    }
}

/// `sums[row] += Σᵢ weights[row][i] · value[i]` for `count` values; rows of `weights` are [`BLOCK`]
/// floats apart, those of `sums` `wide`, a multiple of the width of a panel.
pub struct Sums {
    pub panel: *const f32,
    /// Values.
    pub count: usize,
    pub weights: *const f32,
    pub wide: usize,
    pub rows: usize,
    pub sums: *mut f32,
}

impl Kernel for Sums {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { panel, count, weights, wide, rows, sums } = self;
        let width = VECTORS * S::LANES;
        for at in (0..wide).step_by(width) {
            let panel = panel.add(at);
            let product =
                Product { panel, stride: wide, k: count, count: rows, n: width, add: true };
            product.run::<S>(
                |i| weights.wrapping_add(i * BLOCK),
                |i| sums.wrapping_add(i * wide + at),
            );
        }
    }
}
