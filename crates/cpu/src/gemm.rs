//! The inner part of f32 matrix products: rows of activations times a panel of weights.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use super::simd::{Kernel, Simd};

/// Vectors side by side in a panel.
pub const VECTORS: usize = 2;

/// The width of a panel.
pub struct Width;

impl Kernel for Width {
    type Output = usize;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> usize {
        VECTORS * S::LANES
    }
}

/// Stores, or with `add` adds, the first `n` of the floats of `tile`.
#[inline(always)]
pub unsafe fn put<S: Simd, const R: usize>(tile: [S::F; R], to: *mut f32, n: usize, add: bool) {
    if n == R * S::LANES {
        for (r, &value) in tile.iter().enumerate() {
            let to = to.add(r * S::LANES);
            S::store(to, if add { S::add(S::load(to), value) } else { value });
        }
        return;
    }
    let mut floats = [0.0; 64];
    for (r, &value) in tile.iter().enumerate() {
        S::store(floats.as_mut_ptr().add(r * S::LANES), value);
    }
    for (i, value) in floats.into_iter().enumerate().take(n) {
        let to = to.add(i);
        *to = if add { *to + value } else { value };
    }
}

/// A product of rows of activations with a panel: `y(i)[..n] (+)= x(i) · panel`.
#[derive(Clone, Copy)]
pub struct Product {
    /// `k` rows of `VECTORS * LANES` floats.
    pub panel: *const f32,
    /// Floats from one row to the next.
    pub stride: usize,
    /// Rows of the panel, and what `x(i)` points to.
    pub k: usize,
    /// Rows of activations.
    pub count: usize,
    /// Floats of `y(i)`.
    pub n: usize,
    /// Whether to add to `y`.
    pub add: bool,
}

impl Product {
    /// Computes it.
    #[inline(always)]
    pub unsafe fn run<S: Simd>(
        self,
        x: impl Fn(usize) -> *const f32,
        y: impl Fn(usize) -> *mut f32,
    ) {
        let mut i = 0;
        if S::REGISTERS >= 32 {
            while i + 12 <= self.count {
                self.rows::<S, 12>(i, &x, &y);
                i += 12;
            }
            while i + 8 <= self.count {
                self.rows::<S, 8>(i, &x, &y);
                i += 8;
            }
        }
        while i + 6 <= self.count {
            self.rows::<S, 6>(i, &x, &y);
            i += 6;
        }
        while i + 4 <= self.count {
            self.rows::<S, 4>(i, &x, &y);
            i += 4;
        }
        while i + 2 <= self.count {
            self.rows::<S, 2>(i, &x, &y);
            i += 2;
        }
        if i < self.count {
            self.rows::<S, 1>(i, &x, &y);
        }
    }

    #[inline(always)]
    unsafe fn rows<S: Simd, const M: usize>(
        self,
        first: usize,
        x: &impl Fn(usize) -> *const f32,
        y: &impl Fn(usize) -> *mut f32,
    ) {
        let mut x_rows = [std::ptr::null(); M];
        for (m, x_row) in x_rows.iter_mut().enumerate() {
            *x_row = x(first + m);
        }
        let mut acc = [[S::splat(0.0); VECTORS]; M];
        for k in 0..self.k {
            let row = self.panel.add(k * self.stride);
            let w: [S::F; VECTORS] = [S::load(row), S::load(row.add(S::LANES))];
            for m in 0..M {
                let x = S::splat(*x_rows[m].add(k));
                for r in 0..VECTORS {
                    acc[m][r] = S::fma(x, w[r], acc[m][r]);
                }
            }
        }
        for (m, acc) in acc.into_iter().enumerate() {
            put::<S, VECTORS>(acc, y(first + m), self.n, self.add);
        }
    }
}

/// Turns `LANES` rows of `k` 32-bit elements (a multiple of `LANES`), `stride` elements
/// apart, into column `vector` of a panel.
#[inline(always)]
pub unsafe fn fill<S: Simd>(
    rows: *const u8,
    stride: usize,
    k: usize,
    panel: *mut u8,
    vector: usize,
) {
    let width = VECTORS * S::LANES;
    for c in (0..k).step_by(S::LANES) {
        let to = panel.add(4 * (c * width + vector * S::LANES));
        S::transpose(rows.add(4 * c), 4 * stride, to, 4 * width);
    }
}
