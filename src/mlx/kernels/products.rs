//! Products with weights.

use std::ffi::CStr;

use super::super::fast::NormedSum;
use super::super::primitive::{Input, Kernel, Output, custom, custom_one};
use super::super::quantized::{Mode, Packed};
use super::super::{Array, Dtype};
use super::{add_and_norm, exec, floats, norm_rows, readable};
use crate::cpu::activation::{Activation, gated};
use crate::cpu::quant::{self, Scales};
use crate::cpu::scratch::Scratch;
use crate::cpu::{Exec, Isa, dense};
use crate::error::Result;

/// The memory of 32-bit words as bytes.
fn bytes(words: &[u32]) -> &[u8] {
    // SAFETY: every byte of a word is a byte.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), 4 * words.len()) }
}

/// `shape` with another last axis.
pub(super) fn with_last(x: &Array, last: i32) -> Vec<i32> {
    let mut shape = x.shape().to_vec();
    if let Some(dim) = shape.last_mut() {
        *dim = last;
    }
    shape
}

/// The shape of a packed matrix, or of several.
#[derive(Clone, Copy)]
pub(super) struct PackedShape {
    format: quant::Format,
    slabs: usize,
    /// Outputs of each.
    pub(super) rows: usize,
    cols: usize,
}

impl PackedShape {
    /// That of `w`, which is `[outputs, words]`, or `[experts, outputs, words]`.
    pub(super) fn of(w: &Packed) -> Self {
        let (bits, group) = (w.format.bits as usize, w.format.group_size as usize);
        let format = match w.format.mode {
            Mode::Affine => quant::Format::Affine { bits, group },
            Mode::Mxfp4 => quant::Format::Mxfp4,
            Mode::Mxfp8 => quant::Format::Mxfp8,
            Mode::Nvfp4 => quant::Format::Nvfp4,
        };
        let slabs = if w.weight.ndim() == 3 { w.weight.dim(0) as usize } else { 1 };
        let (rows, words) = (w.weight.dim(-2) as usize, w.weight.dim(-1) as usize);
        Self { format, slabs, rows, cols: words * 32 / bits }
    }

    /// The weights, from inputs that hold codes, scales and perhaps biases.
    pub(super) fn weights<'a>(&self, inputs: &[Input<'a>]) -> Result<quant::Weights<'a>> {
        let Self { format, slabs, rows, cols } = *self;
        let scales = match format {
            quant::Format::Affine { .. } => Scales::Floats(floats(&inputs[1])?),
            quant::Format::Mxfp4 | quant::Format::Mxfp8 => Scales::E8m0(inputs[1].slice()?),
            quant::Format::Nvfp4 => Scales::E4m3(inputs[1].slice()?),
        };
        let biases = inputs.get(2).map(floats).transpose()?;
        let packed = bytes(inputs[0].slice()?);
        Ok(quant::Weights { format, packed, scales, biases, slabs, rows, cols })
    }
}

/// The norm of the rows that are multiplied, but for the arrays.
#[derive(Clone, Copy)]
struct NormFirst {
    /// Whether something is added before.
    delta: bool,
    /// Whether there is a weight.
    weight: bool,
    eps: f32,
}

/// Inputs are x, with a norm perhaps what is added before and a weight, then codes, scales and perhaps biases of each matrix.
struct QuantizedMatmuls {
    norm: Option<NormFirst>,
    shapes: Vec<PackedShape>,
    exec: Exec,
}

impl QuantizedMatmuls {
    fn of(matrices: &[&Packed]) -> Self {
        let shapes = matrices.iter().map(|w| PackedShape::of(w)).collect();
        Self { norm: None, shapes, exec: exec() }
    }

    fn normed(rows: &NormedSum, matrices: &[&Packed]) -> Self {
        let NormedSum { delta, weight, eps, .. } = *rows;
        let norm = NormFirst { delta: delta.is_some(), weight: weight.is_some(), eps };
        Self { norm: Some(norm), ..Self::of(matrices) }
    }

    fn inputs<'a>(x: &'a Array, matrices: &[&'a Packed]) -> Vec<&'a Array> {
        [x].into_iter().chain(matrices.iter().flat_map(|w| w.arrays())).collect()
    }

    fn normed_inputs<'a>(rows: &NormedSum<'a>, matrices: &[&'a Packed]) -> Vec<&'a Array> {
        let rows = [rows.x].into_iter().chain(rows.delta).chain(rows.weight);
        rows.chain(matrices.iter().flat_map(|w| w.arrays())).collect()
    }

    /// How many sums are outputs, before the products.
    fn sums(&self) -> usize {
        usize::from(self.norm.is_some_and(|norm| norm.delta))
    }

    /// The products, and the sum where there is something to be added.
    fn products(
        &self,
        inputs: &[Input],
        sum: &mut [Output],
        products: &mut [&mut [f32]],
    ) -> Result<()> {
        let (x, rest) = inputs.split_at(1);
        let x = &x[0];
        let Some(first) = self.norm else { return self.multiply(&x.values()?, rest, products) };
        let (delta, rest) = rest.split_at(usize::from(first.delta));
        let (weight, matrices) = rest.split_at(usize::from(first.weight));
        let mut memory = Scratch::new(x.shape().iter().product::<i32>() as usize);
        let normed = memory.floats();
        match (delta, sum) {
            ([delta], [sum]) => {
                add_and_norm(x, delta, weight.first(), first.eps, sum.slice()?, normed)?;
            }
            _ => norm_rows(x, weight.first(), first.eps, normed)?,
        }
        self.multiply(normed, matrices, products)
    }

    fn multiply(&self, x: &[f32], matrices: &[Input], products: &mut [&mut [f32]]) -> Result<()> {
        let weights = self.shapes.iter().zip(matrices.chunks(matrices.len() / self.shapes.len()));
        let weights = weights.map(|(shape, inputs)| shape.weights(inputs));
        quant::matmul_each(&weights.collect::<Result<Vec<_>>>()?, x, products, self.exec)
    }

    /// The products' shapes, for rows like `x`.
    fn outputs(&self, x: &Array) -> Vec<Vec<i32>> {
        self.shapes.iter().map(|w| with_last(x, w.rows as i32)).collect()
    }
}

impl Kernel for QuantizedMatmuls {
    const NAME: &'static CStr = c"QuantizedMatmul";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        let (sum, outputs) = outputs.split_at_mut(self.sums());
        let outputs = outputs.iter_mut().map(Output::slice);
        self.products(inputs, sum, &mut outputs.collect::<Result<Vec<_>>>()?)
    }
}

/// Rows of a matrix as numbers.
struct QuantizedRows(PackedShape);

impl Kernel for QuantizedRows {
    const NAME: &'static CStr = c"QuantizedRows";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        let weights = self.0.weights(&inputs[1..])?;
        quant::rows(&weights, &inputs[0].elements::<u32>()?, outputs[0].slice()?)
    }
}

/// The rows of a matrix that `chosen` names, `[…]`, as numbers: `[…, inputs]`.
pub(in crate::mlx) fn quantized_rows(w: &Packed, chosen: &Array) -> Result<Array> {
    let kernel = QuantizedRows(PackedShape::of(w));
    let mut shape = chosen.shape().to_vec();
    shape.push(kernel.0.cols as i32);
    custom_one(kernel, &QuantizedMatmuls::inputs(chosen, &[w]), &shape, Dtype::Float32)
}

/// Whether matrices may be multiplied with the same rows at once.
fn alike(matrices: &[&Packed]) -> bool {
    let kind = |w: &Packed| (w.format, w.weight.dim(-1), w.biases.is_some());
    matrices.windows(2).all(|pair| kind(pair[0]) == kind(pair[1]))
}

/// x · wᵀ with each of several matrices, at once where they are alike.
pub(in crate::mlx) fn quantized_matmuls(x: &Array, matrices: &[&Packed]) -> Result<Vec<Array>> {
    if !alike(matrices) {
        let each = matrices.iter().map(|w| quantized_matmuls(x, &[w]));
        return Ok(each.collect::<Result<Vec<_>>>()?.concat());
    }
    let kernel = QuantizedMatmuls::of(matrices);
    let shapes = kernel.outputs(x);
    let outputs: Vec<_> = shapes.iter().map(|shape| (&shape[..], Dtype::Float32)).collect();
    custom(kernel, &QuantizedMatmuls::inputs(x, matrices), &outputs)
}

/// The sum, and its norm's products with each of several matrices; `None` for matrices that are not alike.
pub(in crate::mlx) fn normed_matmuls(
    rows: &NormedSum,
    matrices: &[&Packed],
) -> Result<Option<(Array, Vec<Array>)>> {
    if !alike(matrices) {
        return Ok(None);
    }
    let kernel = QuantizedMatmuls::normed(rows, matrices);
    let shapes = kernel.outputs(rows.x);
    let inputs = QuantizedMatmuls::normed_inputs(rows, matrices);
    add_normed(rows, kernel, &inputs, &shapes).map(Some)
}

/// Adds a kernel whose outputs are the sum of the rows, if there is one, and arrays of these shapes.
fn add_normed(
    rows: &NormedSum,
    kernel: impl Kernel,
    inputs: &[&Array],
    shapes: &[Vec<i32>],
) -> Result<(Array, Vec<Array>)> {
    let sum = rows.delta.map(|_| rows.x.shape());
    let outputs = sum.into_iter().chain(shapes.iter().map(|shape| &shape[..]));
    let outputs: Vec<_> = outputs.map(|shape| (shape, Dtype::Float32)).collect();
    let mut arrays = custom(kernel, inputs, &outputs)?;
    let sum = if sum.is_some() { arrays.remove(0) } else { rows.x.clone() };
    Ok((sum, arrays))
}

/// A matrix with whose product a kernel ends; its arrays are the last inputs.
pub(super) struct LastProduct {
    shape: PackedShape,
    arrays: usize,
    exec: Exec,
}

impl LastProduct {
    pub(super) fn with(w: &Packed) -> Self {
        Self { shape: PackedShape::of(w), arrays: w.arrays().count(), exec: exec() }
    }

    /// The other inputs, and its own.
    pub(super) fn split<'a, 'b>(
        &self,
        inputs: &'b [Input<'a>],
    ) -> (&'b [Input<'a>], &'b [Input<'a>]) {
        inputs.split_at(inputs.len() - self.arrays)
    }

    /// Features of a row of what it is multiplied with, for outputs of so many elements.
    pub(super) fn factors(&self, outputs: usize) -> usize {
        outputs / self.shape.rows.max(1) * self.shape.cols
    }

    /// x · wᵀ, with its own inputs.
    pub(super) fn multiply(&self, own: &[Input], x: &[f32], y: &mut [f32]) -> Result<()> {
        quant::matmul(&self.shape.weights(own)?, x, y, self.exec)
    }
}

/// activation(x · gateᵀ) · (x · upᵀ).
struct GatedProducts {
    products: QuantizedMatmuls,
    activation: Activation,
}

impl GatedProducts {
    fn compute(&self, inputs: &[Input], sum: &mut [Output], y: &mut [f32]) -> Result<()> {
        let mut memory = Scratch::new(2 * y.len());
        let (gate, up) = memory.floats().split_at_mut(y.len());
        self.products.products(inputs, sum, &mut [gate, up])?;
        gated(self.activation, gate, up, y, self.products.exec.isa)
    }
}

impl Kernel for GatedProducts {
    const NAME: &'static CStr = c"GatedProducts";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        self.compute(inputs, &mut [], outputs[0].slice()?)
    }
}

/// down(activation(x · gateᵀ) · (x · upᵀ)) of the norm x.
struct NormedMlp {
    gated: GatedProducts,
    down: LastProduct,
}

impl Kernel for NormedMlp {
    const NAME: &'static CStr = c"NormedMlp";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        let (sum, outputs) = outputs.split_at_mut(self.gated.products.sums());
        let (inputs, down) = self.down.split(inputs);
        let y = outputs[0].slice()?;
        let mut hidden = Scratch::new(self.down.factors(y.len()));
        self.gated.compute(inputs, sum, hidden.floats())?;
        self.down.multiply(down, hidden.floats(), y)
    }
}

/// Rows of x up to which it is worth computing a gate and what it gates at once: with more, the work between is little beside the products.
pub(super) const GATED_ROWS: usize = 16;

/// Whether a gate and what it gates are best computed at once.
fn gated_at_once(x: &Array, products: &QuantizedMatmuls, matrices: &[&Packed]) -> bool {
    let [gate, up] = &products.shapes[..] else { return false };
    x.size() <= GATED_ROWS * gate.cols && alike(matrices) && gate.rows == up.rows
}

/// activation(x · gateᵀ) · (x · upᵀ); `None` for many rows, and for matrices that are not alike.
pub(in crate::mlx) fn gated_products(
    x: &Array,
    matrices: [&Packed; 2],
    activation: Activation,
) -> Result<Option<Array>> {
    let products = QuantizedMatmuls::of(&matrices);
    if !gated_at_once(x, &products, &matrices) {
        return Ok(None);
    }
    let shape = products.outputs(x).remove(0);
    let inputs = QuantizedMatmuls::inputs(x, &matrices);
    custom_one(GatedProducts { products, activation }, &inputs, &shape, Dtype::Float32).map(Some)
}

/// The sum, and of its norm the product with `down` of the [`gated_products`].
pub(in crate::mlx) fn normed_mlp(
    rows: &NormedSum,
    gate_up: [&Packed; 2],
    down: &Packed,
    activation: Activation,
) -> Result<Option<(Array, Array)>> {
    let products = QuantizedMatmuls::normed(rows, &gate_up);
    let last = LastProduct::with(down);
    if !gated_at_once(rows.x, &products, &gate_up) || last.shape.cols != products.shapes[0].rows {
        return Ok(None);
    }
    let shape = with_last(rows.x, last.shape.rows as i32);
    let mut inputs = QuantizedMatmuls::normed_inputs(rows, &gate_up);
    inputs.extend(down.arrays());
    let kernel = NormedMlp { gated: GatedProducts { products, activation }, down: last };
    let (sum, mut outputs) = add_normed(rows, kernel, &inputs, &[shape])?;
    Ok(Some((sum, outputs.remove(0))))
}

struct Linear {
    rows: usize,
    cols: usize,
}

impl Kernel for Linear {
    const NAME: &'static CStr = c"Linear";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        let values = floats(&inputs[1])?;
        let weights = dense::Weights { values, slabs: 1, rows: self.rows, cols: self.cols };
        dense::matmul(&weights, &inputs[0].values()?, outputs[0].slice()?, Isa::best())
    }
}

/// Whether [`linear`] can take this weight.
pub(in crate::mlx) fn takes_weight(weight: &Array) -> bool {
    readable(weight) && weight.ndim() == 2
}

/// x · wᵀ for a weight `[outputs, inputs]` of any float type.
pub(in crate::mlx) fn linear(x: &Array, weight: &Array) -> Result<Array> {
    let (rows, cols) = (weight.dim(0), weight.dim(1));
    let kernel = Linear { rows: rows as usize, cols: cols as usize };
    custom_one(kernel, &[x, weight], &with_last(x, rows), Dtype::Float32)
}
