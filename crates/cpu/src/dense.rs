//! Products with matrices of floats.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use super::floats::{Element, Floats};
use super::gemm::{self, VECTORS};
use super::pool::{self, DisjointSliceMut, Matrices, Matrix, parallel_for};
use super::routes::{Plan, Route, TILED, Task, few};
use super::scratch::Scratch;
use super::simd::{Isa, Kernel, Simd, prefetch_all};
use crate::error::{Error, Result};

/// Columns of a panel.
const COLUMNS: usize = 1024;

/// How far ahead of what is multiplied weights are asked for, in bytes.
const AHEAD: usize = 8192;

/// `slabs` matrices `[rows, cols]`, one after the other (more than one for experts).
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// The elements.
    pub values: Floats<'a>,
    /// Number of matrices.
    pub slabs: usize,
    /// Outputs of one.
    pub rows: usize,
    /// Inputs of one.
    pub cols: usize,
}

/// `y = x Wᵀ`: `x` is `[m, cols]`, `y` is `[m, rows]`.
///
/// # Errors
/// `INVALID_ARGUMENT` when a length does not fit.
pub fn matmul(weights: &Weights, x: &[f32], y: &mut [f32], isa: Isa) -> Result<()> {
    let rows = x.len().checked_div(weights.cols).unwrap_or(0);
    if weights.slabs != 1 || rows * weights.cols != x.len() {
        let message = format!("{} elements for {} inputs", x.len(), weights.cols);
        return Err(Error::argument("x", message));
    }
    gather_matmul(weights, x, &Route::straight(rows), y, isa)
}

/// `y[i] = x[routes[i].x] W[routes[i].slab]ᵀ`: `x` is `[any, cols]`, `y` is `[routes, rows]`.
///
/// # Errors
/// `INVALID_ARGUMENT` when a length or a route does not fit.
pub fn gather_matmul(
    weights: &Weights,
    x: &[f32],
    routes: &[Route],
    y: &mut [f32],
    isa: Isa,
) -> Result<()> {
    let Weights { values, slabs, rows, cols } = *weights;
    let size = slabs.checked_mul(rows).and_then(|n| n.checked_mul(cols));
    if cols == 0 || size != Some(values.len()) {
        let message = format!("{} elements, and [{slabs}, {rows}, {cols}] expected", values.len());
        return Err(Error::argument("weights", message));
    }
    let x_rows = x.len() / cols;
    if let Some(route) = routes.iter().find(|r| r.x >= x_rows || r.slab >= slabs) {
        let message = format!("{route:?} leads outside {x_rows} rows and {slabs} matrices");
        return Err(Error::argument("routes", message));
    }
    if routes.len().checked_mul(rows) != Some(y.len()) {
        let message = format!("{} elements, and [{}, {rows}] expected", y.len(), routes.len());
        return Err(Error::argument("y", message));
    }
    if y.is_empty() {
        return Ok(());
    }
    let tile = isa.run(gemm::Width);
    let row_bytes = cols * values.element_size();
    let step = |count, _| if count >= TILED { tile } else { few(row_bytes) };
    let plan = Plan::new(routes, |_| true, rows, step);
    if plan.few() {
        // Of several nobody knows beforehand which are read.
        let known = if slabs == 1 { rows } else { 0 };
        let streams = [(values.as_ptr(), row_bytes), (values.as_ptr(), 0), (values.as_ptr(), 0)];
        pool::reads(Matrices::new(std::iter::once(Matrix::new(known, streams))));
    }
    let y = DisjointSliceMut::new(y);
    parallel_for(plan.tasks(), |i| {
        let task = &plan.task(i);
        let order = &plan.order[task.routes.clone()];
        let piece = Piece { weights, x, routes, order, task, y };
        if order.len() >= TILED {
            isa.run(Tile(piece));
        } else {
            match values {
                Floats::F32(w) => isa.run(Dots(piece, w)),
                Floats::F16(w) => isa.run(Dots(piece, w)),
                Floats::Bf16(w) => isa.run(Dots(piece, w)),
            }
        }
    });
    Ok(())
}

/// What a task needs.
#[derive(Clone, Copy)]
struct Piece<'a> {
    weights: &'a Weights<'a>,
    x: &'a [f32],
    routes: &'a [Route],
    order: &'a [usize],
    task: &'a Task,
    y: DisjointSliceMut<f32>,
}

impl<'a> Piece<'a> {
    /// The activations of sorted route `i`.
    fn row(&self, i: usize) -> *const f32 {
        let cols = self.weights.cols;
        self.x[self.routes[self.order[i]].x * cols..][..cols].as_ptr()
    }

    /// The output of sorted route `i`: the part of its row that is the task's.
    ///
    /// # Safety
    /// One output of the piece is used at a time.
    unsafe fn output(&self, i: usize) -> &'a mut [f32] {
        let outputs = &self.task.outputs;
        let from = self.order[i] * self.weights.rows + outputs.start;
        // SAFETY: no two tasks have the same output of the same route; the slice outlives the
        // tasks.
        unsafe { self.y.slice(from, outputs.len()) }
    }
}

/// Few rows of activations: every row of weights is read once and multiplied with all of them.
struct Dots<'a, T>(Piece<'a>, &'a [T]);

impl<T: Element> Kernel for Dots<'_, T> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self(piece, values) = self;
        let Weights { rows, cols, .. } = *piece.weights;
        let count = piece.order.len();
        for (n, output) in piece.task.outputs.clone().enumerate() {
            let w = &values[(piece.task.slab * rows + output) * cols..][..cols];
            for i in (0..count).step_by(4) {
                if i + 1 == count {
                    piece.output(i)[n] = dots::<S, T, 1, 4>(w, [piece.row(i)])[0];
                } else {
                    let mut x = [piece.row(i); 4];
                    for m in 1..4 {
                        x[m] = piece.row((i + m).min(count - 1));
                    }
                    let dots = dots::<S, T, 4, 2>(w, x);
                    for (m, &dot) in dots.iter().enumerate().take(count - i) {
                        piece.output(i + m)[n] = dot;
                    }
                }
            }
        }
    }
}

/// The products of a row of weights with `M` rows of activations, `A` sums of each at a time.
#[inline(always)]
unsafe fn dots<S: Simd, T: Element, const M: usize, const A: usize>(
    w: &[T],
    x: [*const f32; M],
) -> [f32; M] {
    let mut acc = [[S::splat(0.0); A]; M];
    let step = A * S::LANES;
    let mut k = 0;
    while k + step <= w.len() {
        let from = w.as_ptr().add(k);
        prefetch_all::<S>(from.cast::<u8>().wrapping_add(AHEAD), step * size_of::<T>());
        for a in 0..A {
            let w = T::load::<S>(from.add(a * S::LANES));
            for m in 0..M {
                acc[m][a] = S::fma(w, S::load(x[m].add(k + a * S::LANES)), acc[m][a]);
            }
        }
        k += step;
    }
    while k + S::LANES <= w.len() {
        let w = T::load::<S>(w.as_ptr().add(k));
        for m in 0..M {
            acc[m][0] = S::fma(w, S::load(x[m].add(k)), acc[m][0]);
        }
        k += S::LANES;
    }
    let mut sums = [0.0; M];
    for m in 0..M {
        let mut sum = acc[m][0];
        for a in 1..A {
            sum = S::add(sum, acc[m][a]);
        }
        sums[m] = S::sum(sum);
        for k in k..w.len() {
            sums[m] += w[k].value() * *x[m].add(k);
        }
    }
    sums
}

/// Many rows of activations: weights are turned once into a panel that stays in the cache.
struct Tile<'a>(Piece<'a>);

impl Kernel for Tile<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let piece = self.0;
        let Weights { values, rows, cols, .. } = *piece.weights;
        let outputs = &piece.task.outputs;
        let width = VECTORS * S::LANES;
        let most = COLUMNS.min(cols.next_multiple_of(16));
        let mut panel = Scratch::new(most * width);
        let panel = panel.floats().as_mut_ptr();
        let mut lines = Scratch::new(most * S::LANES);
        let lines = lines.floats();
        for from in (0..cols).step_by(most) {
            let k = most.min(cols - from);
            for vector in 0..VECTORS {
                for lane in 0..S::LANES {
                    let at = vector * S::LANES + lane;
                    let line = &mut lines[lane * most..(lane + 1) * most];
                    if at >= outputs.len() {
                        line.fill(0.0);
                        continue;
                    }
                    let row = piece.task.slab * rows + outputs.start + at;
                    values.read::<S>(row * cols + from, k, line.as_mut_ptr());
                }
                let k = k.next_multiple_of(S::LANES);
                gemm::fill::<S>(lines.as_ptr().cast(), most, k, panel.cast(), vector);
            }
            let count = piece.order.len();
            let (stride, n, add) = (width, outputs.len(), from > 0);
            S::enter(Multiply {
                product: gemm::Product { panel, stride, k, count, n, add },
                piece,
                from,
            });
        }
    }
}

struct Multiply<'a> {
    product: gemm::Product,
    piece: Piece<'a>,
    from: usize,
}

impl Kernel for Multiply<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { product, piece, from } = self;
        product.run::<S>(
            |i| piece.row(i).wrapping_add(from),
            // SAFETY: one output is used at a time.
            |i| unsafe { piece.output(i).as_mut_ptr() },
        );
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::super::testing::{Random, assert_close};
    use super::*;

    fn expected(w: &[f32], x: &[f32], routes: &[Route], rows: usize, cols: usize) -> Vec<f64> {
        let dot = |route: &Route, row: usize| {
            let w = &w[(route.slab * rows + row) * cols..][..cols];
            let x = &x[route.x * cols..][..cols];
            w.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum()
        };
        routes.iter().flat_map(|r| (0..rows).map(move |row| dot(r, row))).collect()
    }

    #[test]
    fn products_match_the_reference_in_every_type() {
        let mut random = Random::new(11);
        for (rows, cols) in [(1, 1), (3, 7), (33, 16), (40, 129), (70, 1030), (5, 2049)] {
            let slabs = 3;
            let w: Vec<_> = (random.normals(slabs * rows * cols).into_iter())
                .map(|w| bf16::from_f32(f16::from_f32(w).to_f32()).to_f32())
                .collect();
            let half: Vec<_> = w.iter().map(|w| f16::from_f32(*w)).collect();
            let brain: Vec<_> = w.iter().map(|w| bf16::from_f32(*w)).collect();
            let x = random.normals(20 * cols);
            for count in [1, 2, 4, 5, 6, 13, 20] {
                let gathered: Vec<_> = (0..count)
                    .map(|_| Route { x: random.below(20), slab: random.below(slabs) })
                    .collect();
                for routes in [Route::straight(count), gathered] {
                    let expected = expected(&w, &x, &routes, rows, cols);
                    for isa in Isa::available() {
                        for values in [Floats::F32(&w), Floats::F16(&half), Floats::Bf16(&brain)] {
                            let weights = Weights { values, slabs, rows, cols };
                            let mut y = vec![f32::NAN; count * rows];
                            gather_matmul(&weights, &x, &routes, &mut y, isa).unwrap();
                            let size = (cols as f64).sqrt();
                            // Halves of numbers near 0 are subnormal and lose bits.
                            assert_close(&y, &expected, size, 1e-5, &(rows, cols, count, isa));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let values = Floats::F32(&[0.0; 12]);
        let good = Weights { values, slabs: 2, rows: 2, cols: 3 };
        let route = Route { x: 0, slab: 1 };
        let isa = Isa::best();
        gather_matmul(&good, &[0.0; 3], &[route], &mut [0.0; 2], isa).unwrap();
        let bad = |weights: Weights, x: &[f32], route: Route, y: usize| {
            let outcome = gather_matmul(&weights, x, &[route], &mut vec![0.0; y], isa);
            assert!(outcome.is_err());
        };
        bad(Weights { slabs: 3, ..good }, &[0.0; 3], route, 2);
        bad(Weights { cols: 0, ..good }, &[0.0; 3], route, 2);
        bad(Weights { rows: usize::MAX, ..good }, &[0.0; 3], route, 2);
        bad(good, &[0.0; 2], route, 2);
        bad(good, &[0.0; 3], Route { x: 0, slab: 2 }, 2);
        bad(good, &[0.0; 3], route, 3);
        let outcome = matmul(&good, &[0.0; 3], &mut [0.0; 2], isa);
        assert!(outcome.is_err());
    }
}
