//! Products with matrices in MLX's quantized formats, read as they lie in the checkpoint.
//!
//! A row is a little-endian stream of codes. Affine: `w = scale · code + bias` for each group; mxfp4, nvfp4 and mxfp8: `w = scale · value(code)`.
//!
//! With [`Precision::Fast`] activations are rounded to integers of 15 bits and a sign, one scale for each group (of at most 64), and multiplied as two signed bytes.
//! Eight bits would be twice as fast again where the arithmetic is the limit, but their error, 0.6 % of every product, is one that is seen in the logits; that
//! of 16 bits, 0.003 %, drowns in that of the weights. With [`Precision::Exact`], and for mxfp8, everything is f32. A row of activations that holds a NaN or
//! an infinity is always computed in f32.

mod activations;
mod codes;
mod dots;
mod lanes;
mod tiles;

#[cfg(test)]
mod tests;

use super::floats::Floats;
use super::gemm::{self, VECTORS};
use super::pool::{Shared, parallel_for};
use super::routes::{Plan, Route, TILED, Task, few};
use super::simd::{Isa, Kernel, Simd};
use super::{Exec, Precision};
use crate::error::{Error, Result};
use activations::{Activations, Form, Row};
use codes::{Codes, Fp4, Fp8, Int};
use dots::{Halves, Integers, Rows};
use lanes::Lanes;

/// A quantized format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `scale · code + bias`; 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128.
    Affine {
        /// Bits of a code.
        bits: usize,
        /// Codes that share a scale.
        group: usize,
    },
    /// e2m1 values, 32 of them with a scale that is a power of two (e8m0).
    Mxfp4,
    /// e2m1 values, 16 of them with an e4m3 scale.
    Nvfp4,
    /// e4m3 values, 32 of them with a scale that is a power of two (e8m0).
    Mxfp8,
}

impl Format {
    /// Bits of a code.
    pub fn bits(self) -> usize {
        match self {
            Self::Affine { bits, .. } => bits,
            Self::Mxfp4 | Self::Nvfp4 => 4,
            Self::Mxfp8 => 8,
        }
    }

    /// Codes that share a scale.
    pub fn group(self) -> usize {
        match self {
            Self::Affine { group, .. } => group,
            Self::Mxfp4 | Self::Mxfp8 => 32,
            Self::Nvfp4 => 16,
        }
    }

    /// Codes for which activations get a scale of their own.
    fn unit(self) -> usize {
        self.group().min(64)
    }
}

/// The scales of a quantized matrix.
#[derive(Clone, Copy, Debug)]
pub enum Scales<'a> {
    /// Of an affine format.
    Floats(Floats<'a>),
    /// Powers of two with a biased exponent: mxfp4 and mxfp8.
    E8m0(&'a [u8]),
    /// Floats of 8 bits: nvfp4.
    E4m3(&'a [u8]),
}

impl Scales<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Floats(floats) => floats.len(),
            Self::E8m0(bytes) | Self::E4m3(bytes) => bytes.len(),
        }
    }
}

/// `slabs` quantized matrices `[rows, cols]`, one after the other (more than one for experts).
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// The format.
    pub format: Format,
    /// The codes, `[slabs, rows, cols * bits / 8]` bytes.
    pub packed: &'a [u8],
    /// `[slabs, rows, cols / group]`.
    pub scales: Scales<'a>,
    /// `[slabs, rows, cols / group]`, for an affine format.
    pub biases: Option<Floats<'a>>,
    /// Number of matrices.
    pub slabs: usize,
    /// Outputs of one.
    pub rows: usize,
    /// Inputs of one.
    pub cols: usize,
}

impl Weights<'_> {
    fn row_bytes(&self) -> usize {
        self.cols * self.format.bits() / 8
    }

    fn groups(&self) -> usize {
        self.cols / self.format.group()
    }

    /// Where scales and biases begin. With groups of 128 two units share one: it is then half as many bytes that
    /// are counted for each unit.
    fn scale_bytes(&self) -> [(*const u8, usize); 2] {
        let scales = match self.scales {
            Scales::Floats(floats) => (floats.as_ptr(), floats.element_size()),
            Scales::E8m0(bytes) | Scales::E4m3(bytes) => (bytes.as_ptr(), 1),
        };
        let biases = self.biases.map_or(scales, |biases| (biases.as_ptr(), biases.element_size()));
        let double = self.format.group() / self.format.unit();
        [scales, biases].map(|(start, size)| (start, size / double))
    }

    fn validate(&self) -> Result<()> {
        let fail = |message: String| Err(Error::argument("quantized weights", message));
        let format = self.format;
        if let Format::Affine { bits, group } = format
            && (!matches!(bits, 2 | 3 | 4 | 5 | 6 | 8) || !matches!(group, 32 | 64 | 128))
        {
            return fail(format!("there is no format of {bits} bits in groups of {group}"));
        }
        if self.cols == 0 || !self.cols.is_multiple_of(format.group()) {
            return fail(format!("{} inputs are no whole groups of {}", self.cols, format.group()));
        }
        let rows = self.slabs.checked_mul(self.rows);
        let expect =
            |what: &str, len: usize, each: usize| match rows.and_then(|n| n.checked_mul(each)) {
                Some(expected) if expected == len => Ok(()),
                _ => fail(format!(
                    "{what} has {len} elements, and [{}, {}, {each}] were expected",
                    self.slabs, self.rows
                )),
            };
        expect("packed", self.packed.len(), self.row_bytes())?;
        expect("scales", self.scales.len(), self.groups())?;
        match (format, self.scales, self.biases) {
            (Format::Affine { .. }, Scales::Floats(_), Some(biases)) => {
                expect("biases", biases.len(), self.groups())
            }
            (Format::Mxfp4 | Format::Mxfp8, Scales::E8m0(_), None)
            | (Format::Nvfp4, Scales::E4m3(_), None) => Ok(()),
            _ => fail(format!("{format:?} does not go with these scales and biases")),
        }
    }
}

/// `y = x Wᵀ`: `x` is `[m, cols]`, `y` is `[m, rows]`.
///
/// # Errors
/// `INVALID_ARGUMENT` when a length or the format does not fit.
pub fn matmul(weights: &Weights, x: &[f32], y: &mut [f32], exec: Exec) -> Result<()> {
    matmul_each(&[*weights], x, &mut [y], exec)
}

/// [`matmul`] with each of several matrices of one format, with as many outputs: the work on `x` is done once, and threads meet once.
///
/// # Errors
/// `INVALID_ARGUMENT` when a length or a format does not fit.
pub fn matmul_each(weights: &[Weights], x: &[f32], y: &mut [&mut [f32]], exec: Exec) -> Result<()> {
    let Some(first) = weights.first() else { return Ok(()) };
    for weights in weights {
        weights.validate()?;
        if weights.slabs != 1 {
            return Err(Error::argument("quantized weights", "several matrices need routes"));
        }
        if (weights.format, weights.cols) != (first.format, first.cols) {
            return Err(Error::argument("quantized weights", "the matrices differ in kind"));
        }
    }
    if !x.len().is_multiple_of(first.cols) {
        return Err(Error::argument(
            "x",
            format!("{} elements are no whole rows of {}", x.len(), first.cols),
        ));
    }
    run(weights, x, &Route::straight(x.len() / first.cols), y, exec)
}

/// `y[i] = x[routes[i].x] W[routes[i].slab]ᵀ`: `x` is `[any, cols]`, `y` is `[routes, rows]`. Only the matrices that are named are read, each once.
///
/// # Errors
/// `INVALID_ARGUMENT` when a length, a route or the format does not fit.
pub fn gather_matmul(
    weights: &Weights,
    x: &[f32],
    routes: &[Route],
    y: &mut [f32],
    exec: Exec,
) -> Result<()> {
    weights.validate()?;
    let rows = x.len() / weights.cols;
    if let Some(route) = routes.iter().find(|r| r.x >= rows || r.slab >= weights.slabs) {
        return Err(Error::argument(
            "routes",
            format!("{route:?} leads outside {rows} rows and {} matrices", weights.slabs),
        ));
    }
    run(&[*weights], x, routes, &mut [y], exec)
}

/// A product of each of `weights`, which are alike but for their rows, with the same rows of `x`.
fn run(
    weights: &[Weights],
    x: &[f32],
    routes: &[Route],
    y: &mut [&mut [f32]],
    exec: Exec,
) -> Result<()> {
    for (weights, y) in weights.iter().zip(&*y) {
        if y.len() != routes.len() * weights.rows {
            return Err(Error::argument(
                "y",
                format!(
                    "{} elements, and [{}, {}] were expected",
                    y.len(),
                    routes.len(),
                    weights.rows
                ),
            ));
        }
    }
    if weights.len() != y.len() {
        let message = format!("{} outputs of {} matrices", y.len(), weights.len());
        return Err(Error::argument("y", message));
    }
    if routes.is_empty() {
        return Ok(());
    }
    let first = &weights[0];
    let integer = exec.precision == Precision::Fast && first.format != Format::Mxfp8;
    let tile = exec.isa.run(gemm::Width);
    let lanes = tile / VECTORS;
    let x = Activations::new(first, x, form(weights, routes, integer, lanes), exec.isa);
    let kind = |route: &Route| integer && x.finite(route.x);
    let plan = |w: &Weights| {
        let few = few(w.row_bytes());
        let step = |count, kind| match Way::new(w, &x, lanes, count, kind) {
            Way::Dots => few,
            Way::Lanes => few.next_multiple_of(lanes),
            Way::Tiles => tile,
        };
        Plan::new(routes, kind, w.rows, step)
    };
    let plans: Vec<_> = weights.iter().map(plan).collect();
    let y: Vec<_> = y.iter_mut().map(|y| Shared::new(y)).collect();
    let tasks: Vec<_> =
        (0..weights.len()).flat_map(|i| plans[i].tasks.iter().map(move |task| (i, task))).collect();
    parallel_for(tasks.len(), |task| {
        let (i, task) = tasks[task];
        let order = &plans[i].order[task.routes.clone()];
        Piece { weights: &weights[i], x: &x, routes, order, task, y: y[i] }.compute(exec.isa);
    });
    Ok(())
}

/// Halves for codes of 4 bits, but not where rows are so many that tiles are made of them, nor in units that are too small.
fn form(weights: &[Weights], routes: &[Route], integer: bool, lanes: usize) -> Form {
    let first = &weights[0];
    let many = || {
        let most = if weights.iter().all(|w| w.rows >= lanes) { lanes::MANY } else { TILED };
        let mut counts = vec![0; first.slabs];
        routes.iter().any(|route| {
            counts[route.slab] += 1;
            counts[route.slab] >= most
        })
    };
    match first.format {
        _ if !integer => Form::Floats,
        Format::Affine { bits: 4, .. } | Format::Mxfp4 if !many() => Form::Halves,
        _ => Form::Integers,
    }
}

/// How a few or many rows are multiplied with a matrix.
enum Way {
    /// [`dots`].
    Dots,
    /// [`lanes`].
    Lanes,
    /// [`tiles`].
    Tiles,
}

impl Way {
    /// For `count` rows of activations of one kind.
    fn new(weights: &Weights, x: &Activations, lanes: usize, count: usize, kind: bool) -> Self {
        // Where one row of activations is all there is, the memory is the limit either way, and there it is read in its order.
        if kind && x.form() == Form::Halves && weights.rows >= lanes && count > 1 {
            Self::Lanes
        } else if count >= TILED {
            Self::Tiles
        } else {
            Self::Dots
        }
    }
}

/// Whether tiles of integers are faster than tiles of f32.
struct FastDot;

impl Kernel for FastDot {
    type Output = bool;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> bool {
        S::FAST_DOT
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
    y: Shared<f32>,
}

impl<'a> Piece<'a> {
    /// Computes the piece with the kernel for the format.
    fn compute(self, isa: Isa) {
        let lanes = isa.run(gemm::Width) / VECTORS;
        match Way::new(self.weights, self.x, lanes, self.order.len(), self.task.kind) {
            Way::Dots => self.dots(isa),
            Way::Lanes if self.weights.format == Format::Mxfp4 => {
                isa.run(Lanes::<Fp4>::new(self));
            }
            Way::Lanes => isa.run(Lanes::<Int<4>>::new(self)),
            Way::Tiles if self.task.kind && isa.run(FastDot) => isa.run(tiles::Integer(self)),
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
        // SAFETY: no two tasks have the same output of the same route; the slice outlives the tasks.
        unsafe { self.y.slice(from, outputs.len()) }
    }
}
