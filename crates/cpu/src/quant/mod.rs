//! Products with matrices in MLX's quantized formats, read as they lie in the checkpoint.
//!
//! A row is a little-endian stream of codes. Affine: `w = scale · code + bias` for each group;
//! mxfp4, nvfp4 and mxfp8: `w = scale · value(code)`.
//!
//! With [`Precision::Fast`] activations are rounded to integers of 15 bits and a sign, one scale
//! for each group (of at most 64), and multiplied as two signed bytes. Eight bits would be twice as
//! fast again where the arithmetic is the limit, but their error, 0.6 % of every product, is one
//! that is seen in the logits; that of 16 bits, 0.003 %, drowns in that of the weights. With
//! [`Precision::Fastest`] those eight bits are taken where tiles or panels are, which is where
//! they pay. With [`Precision::Exact`], and for mxfp8, everything is f32. A row of activations that
//! holds a NaN or an infinity is always computed in f32.

mod activations;
mod codes;
mod dots;
mod lanes;
mod panels;
mod rows;
mod tiles;
mod weights;

#[cfg(test)]
mod tests;

use super::gemm::{self, VECTORS};
use super::pool::{self, DisjointSliceMut, Matrices, parallel_for};
use super::routes::{Plan, Route, TILED, Task, few};
use super::simd::{Isa, Kernel, Simd};
use super::{ExecOptions, Precision};
use crate::error::{Error, Result};
use activations::{Activations, Form, Row};
use codes::{Codes, Fp4, Fp8, Int};
use dots::{Halves, Integers, Rows};
use lanes::Lanes;
use panels::Panels;
pub use rows::rows;
pub use weights::{Format, Scales, Weights};

/// `y = x Wᵀ`: `x` is `[m, cols]`, `y` is `[m, rows]`.
///
/// # Errors
/// `INVALID_ARGUMENT` when a length or the format does not fit.
pub fn matmul(weights: &Weights, x: &[f32], y: &mut [f32], exec: ExecOptions) -> Result<()> {
    matmul_each(&[*weights], x, &mut [y], exec)
}

/// [`matmul`] with each of several matrices of one format, with as many outputs: the work on `x` is
/// done once, and threads meet once.
///
/// # Errors
/// `INVALID_ARGUMENT` when a length or a format does not fit.
pub fn matmul_each(
    weights: &[Weights],
    x: &[f32],
    y: &mut [&mut [f32]],
    exec: ExecOptions,
) -> Result<()> {
    let Some(first) = weights.first() else { return Ok(()) };
    if first.slabs != 1 {
        return Err(Error::argument("quantized weights", "several matrices need routes"));
    }
    let rows = x.len().checked_div(first.cols).unwrap_or(0);
    gather_matmul_each(weights, x, &Route::straight(rows), y, exec)
}

/// `y[i] = x[routes[i].x] W[routes[i].slab]ᵀ`: `x` is `[any, cols]`, `y` is `[routes, rows]`. Only
/// the matrices that are named are read, each once.
///
/// # Errors
/// `INVALID_ARGUMENT` when a length, a route or the format does not fit.
pub fn gather_matmul(
    weights: &Weights,
    x: &[f32],
    routes: &[Route],
    y: &mut [f32],
    exec: ExecOptions,
) -> Result<()> {
    gather_matmul_each(&[*weights], x, routes, &mut [y], exec)
}

/// [`gather_matmul`] with each of several stacks of matrices of one format, as many and with as
/// many inputs.
///
/// # Errors
/// `INVALID_ARGUMENT` when a length, a route or a format does not fit.
pub fn gather_matmul_each(
    weights: &[Weights],
    x: &[f32],
    routes: &[Route],
    y: &mut [&mut [f32]],
    exec: ExecOptions,
) -> Result<()> {
    let Some(first) = weights.first() else { return Ok(()) };
    for weights in weights {
        weights.validate()?;
        if weights.kind() != first.kind() {
            return Err(Error::argument("quantized weights", "the matrices differ in kind"));
        }
    }
    let rows = x.len() / first.cols;
    if !x.len().is_multiple_of(first.cols) {
        let message = format!("{} elements are no whole rows of {}", x.len(), first.cols);
        return Err(Error::argument("x", message));
    }
    if let Some(route) = routes.iter().find(|r| r.x >= rows || r.slab >= first.slabs) {
        return Err(Error::argument(
            "routes",
            format!("{route:?} leads outside {rows} rows and {} matrices", first.slabs),
        ));
    }
    for (weights, y) in weights.iter().zip(&*y) {
        let (len, count, rows) = (y.len(), routes.len(), weights.rows);
        if len != count * rows {
            let message = format!("{len} elements, and [{count}, {rows}] were expected");
            return Err(Error::argument("y", message));
        }
    }
    if weights.len() != y.len() {
        let message = format!("{} outputs of {} matrices", y.len(), weights.len());
        return Err(Error::argument("y", message));
    }
    if routes.is_empty() {
        return Ok(());
    }
    let integer = exec.precision != Precision::Exact && first.format != Format::Mxfp8;
    let tile = exec.isa.run(gemm::Width);
    let lanes = tile / VECTORS;
    let form = form(first, routes, integer, exec);
    // Tiles of f32 need no integers, but a matrix with few rows may, beside others with many.
    let values = form == Form::Integers && !exec.isa.run(IntegerTiles(form, first.format));
    let x = Activations::new(first, x, form, values, exec.isa);
    let kind = |route: &Route| integer && x.finite(route.x);
    let plan = |w: &Weights| {
        let few = few(w.row_bytes());
        let step = |count, kind| match Way::new(w, &x, exec.isa, count, kind) {
            Way::Dots => few,
            Way::Lanes => few.next_multiple_of(lanes),
            Way::Panels | Way::Tiles => tile,
        };
        Plan::new(routes, kind, w.rows, step)
    };
    let plans: Vec<_> = weights.iter().map(plan).collect();
    if plans[0].few() {
        pool::reads(Matrices::new(weights.iter().map(Weights::place)));
    }
    let y: Vec<_> = y.iter_mut().map(|y| DisjointSliceMut::new(y)).collect();
    parallel_for(plans.iter().map(Plan::tasks).sum(), |mut task| {
        let mut i = 0;
        while task >= plans[i].tasks() {
            task -= plans[i].tasks();
            i += 1;
        }
        let task = &plans[i].task(task);
        let order = &plans[i].order[task.routes.clone()];
        Piece { weights: &weights[i], x: &x, routes, order, task, y: y[i] }.compute(exec.isa);
    });
    Ok(())
}

/// Halves or words for codes of 4 bits, but not where rows are so many that tiles are made of them.
/// Where the precision allows it, bytes for tiles and panels.
fn form(weights: &Weights, routes: &[Route], integer: bool, exec: ExecOptions) -> Form {
    let halves = matches!(weights.format, Format::Affine { bits: 4, .. } | Format::Mxfp4);
    let fastest = exec.precision == Precision::Fastest;
    if !integer || !halves && !fastest {
        // How many rows a matrix has decides nothing.
        return if integer { Form::Integers } else { Form::Floats };
    }
    let mut counts = vec![0; weights.slabs];
    for route in routes {
        counts[route.slab] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or_default();
    let least = counts.into_iter().filter(|&count| count > 0).min().unwrap_or_default();
    let tiled = if halves { exec.isa.run(panels::Rows).end } else { TILED };
    match halves {
        _ if fastest && most >= tiled => Form::Bytes,
        true if fastest && most >= panels::BYTES => Form::ByteHalves,
        true if least >= exec.isa.run(panels::Words) => Form::Words,
        true if most < tiled => Form::Halves,
        _ => Form::Integers,
    }
}

/// How a few or many rows are multiplied with a matrix.
enum Way {
    /// [`dots`].
    Dots,
    /// [`lanes`].
    Lanes,
    /// [`panels`].
    Panels,
    /// [`tiles`].
    Tiles,
}

impl Way {
    /// For `count` rows of activations of one kind.
    fn new(weights: &Weights, x: &Activations, isa: Isa, count: usize, kind: bool) -> Self {
        let lanes = isa.run(gemm::Width) / VECTORS;
        let panels = isa.run(panels::Rows);
        match x.form() {
            // Where one row of activations is all there is, the memory is the limit either way,
            // and there it is read in its order.
            Form::Halves if kind && count == 1 => Self::Dots,
            Form::Halves | Form::ByteHalves
                if kind && count < panels.start && weights.rows >= lanes =>
            {
                Self::Lanes
            }
            Form::Halves if kind && count >= TILED => Self::Panels,
            Form::ByteHalves | Form::Words if kind => Self::Panels,
            Form::Bytes if kind => Self::Tiles,
            _ if count >= TILED => Self::Tiles,
            _ => Self::Dots,
        }
    }
}

/// Whether tiles of integers are faster than tiles of f32. Bytes are integers in any case: what is
/// computed shall not depend on the machine.
struct IntegerTiles(Form, Format);

impl Kernel for IntegerTiles {
    type Output = bool;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> bool {
        let Self(form, format) = self;
        S::FAST_DOT || form == Form::Bytes || S::PAIRS && tiles::run_of(format) == tiles::LONG_RUN
    }
}

/// What a task needs.
#[derive(Clone, Copy)]
struct Piece<'a> {
    weights: &'a Weights<'a>,
    x: &'a Activations,
    routes: &'a [Route],
    order: &'a [usize],
    task: &'a Task,
    y: DisjointSliceMut<f32>,
}

impl<'a> Piece<'a> {
    /// Computes the piece with the kernel for the format.
    fn compute(self, isa: Isa) {
        match Way::new(self.weights, self.x, isa, self.order.len(), self.task.kind) {
            Way::Dots => self.dots(isa),
            Way::Lanes if self.weights.format == Format::Mxfp4 => {
                isa.run(Lanes::<Fp4>::new(self));
            }
            Way::Lanes => isa.run(Lanes::<Int<4>>::new(self)),
            Way::Panels if self.weights.format == Format::Mxfp4 => {
                isa.run(Panels::<Fp4>::new(self));
            }
            Way::Panels => isa.run(Panels::<Int<4>>::new(self)),
            Way::Tiles
                if self.task.kind && isa.run(IntegerTiles(self.x.form(), self.weights.format)) =>
            {
                isa.run(tiles::Integer(self));
            }
            Way::Tiles => isa.run(tiles::Exact(self)),
        }
    }

    /// Computes it row by row.
    fn dots(self, isa: Isa) {
        let halves = self.task.kind && self.x.form() == Form::Halves;
        match self.weights.format {
            Format::Mxfp4 if halves => isa.run(Rows::<Halves<Fp4, 4>>::new(self)),
            Format::Mxfp4 => self.compute_as::<Fp4, 2>(isa),
            Format::Nvfp4 => self.compute_as::<Fp4, 4>(isa),
            Format::Mxfp8 => self.compute_as::<Fp8, 2>(isa),
            Format::Affine { group: 32, .. } if halves => {
                isa.run(Rows::<Halves<Int<4>, 4>>::new(self));
            }
            Format::Affine { .. } if halves => isa.run(Rows::<Halves<Int<4>, 2>>::new(self)),
            Format::Affine { bits, group: 32 } => match bits {
                2 => self.compute_as::<Int<2>, 2>(isa),
                3 => self.compute_as::<Int<3>, 2>(isa),
                4 => self.compute_as::<Int<4>, 2>(isa),
                5 => self.compute_as::<Int<5>, 2>(isa),
                6 => self.compute_as::<Int<6>, 2>(isa),
                _ => self.compute_as::<Int<8>, 2>(isa),
            },
            Format::Affine { bits, .. } => match bits {
                2 => self.compute_as::<Int<2>, 1>(isa),
                3 => self.compute_as::<Int<3>, 1>(isa),
                4 => self.compute_as::<Int<4>, 1>(isa),
                5 => self.compute_as::<Int<5>, 1>(isa),
                6 => self.compute_as::<Int<6>, 1>(isa),
                _ => self.compute_as::<Int<8>, 1>(isa),
            },
        }
    }

    fn compute_as<C: Codes, const GROUPS: usize>(self, isa: Isa) {
        if C::INTEGER && self.task.kind {
            isa.run(Rows::<Integers<C, GROUPS>>::new(self));
        } else {
            isa.run(Rows::<dots::Floats<C, GROUPS>>::new(self));
        }
    }

    /// The prepared activations of sorted route `i`.
    fn row(&self, i: usize) -> Row {
        self.x.row(self.routes[self.order[i]].x)
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
