//! Products with weights.

use std::ffi::CStr;

use super::super::norm::AddRmsNorm;
use super::norm::{add_and_norm, norm_rows};
use super::{CpuKernel, NodeOptions, floats, readable, with_last};
use crate::cpu::activation::{Activation, gated};
use crate::cpu::quant::{self, Scales};
use crate::cpu::scratch::Scratch;
use crate::cpu::{ExecOptions, dense};
use crate::error::Result;
use crate::mlx::Array;
use crate::mlx::primitive::{Input, Output};
use crate::mlx::quantized::{Mode, QuantizedTensor};

/// The shape of a quantized matrix, or of several.
#[derive(Clone, Copy)]
pub(super) struct QuantizedShape {
    format: quant::Format,
    slabs: usize,
    /// Outputs of each.
    pub(super) rows: usize,
    cols: usize,
}

impl QuantizedShape {
    /// That of `w`, which is `[outputs, words]`, or `[experts, outputs, words]`.
    pub(super) fn of(w: &QuantizedTensor) -> Self {
        let (bits, group) = (w.params.bits as usize, w.params.group_size as usize);
        let format = match w.params.mode {
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
        let packed = inputs[0].words_as_bytes()?;
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

/// Inputs are x, with a norm perhaps what is added before and a weight, then codes, scales and
/// perhaps biases of each matrix.
struct QuantizedMatmuls {
    norm: Option<NormFirst>,
    shapes: Vec<QuantizedShape>,
}

impl QuantizedMatmuls {
    fn of(matrices: &[&QuantizedTensor]) -> Self {
        let shapes = matrices.iter().map(|w| QuantizedShape::of(w)).collect();
        Self { norm: None, shapes }
    }

    fn normed(rows: &AddRmsNorm, matrices: &[&QuantizedTensor]) -> Self {
        let AddRmsNorm { delta, weight, eps, .. } = *rows;
        let norm = NormFirst { delta: delta.is_some(), weight: weight.is_some(), eps };
        Self { norm: Some(norm), ..Self::of(matrices) }
    }

    fn inputs<'a>(x: &'a Array, matrices: &[&'a QuantizedTensor]) -> Vec<&'a Array> {
        [x].into_iter().chain(matrices.iter().flat_map(|w| w.arrays())).collect()
    }

    fn normed_inputs<'a>(
        rows: &AddRmsNorm<'a>,
        matrices: &[&'a QuantizedTensor],
    ) -> Vec<&'a Array> {
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
        exec: ExecOptions,
    ) -> Result<()> {
        let (x, rest) = inputs.split_at(1);
        let x = &x[0];
        let Some(first) = self.norm else {
            return self.multiply(&x.values()?, rest, products, exec);
        };
        let (delta, rest) = rest.split_at(usize::from(first.delta));
        let (weight, matrices) = rest.split_at(usize::from(first.weight));
        let mut memory = Scratch::new(x.shape().iter().product::<i32>() as usize);
        let normed = memory.floats();
        match (delta, sum) {
            ([delta], [sum]) => {
                let outputs = [sum.slice()?, &mut *normed];
                add_and_norm([x, delta], weight.first(), first.eps, outputs, exec.isa)?;
            }
            _ => norm_rows(x, weight.first(), first.eps, normed, exec.isa)?,
        }
        self.multiply(normed, matrices, products, exec)
    }

    fn multiply(
        &self,
        x: &[f32],
        matrices: &[Input],
        products: &mut [&mut [f32]],
        exec: ExecOptions,
    ) -> Result<()> {
        let weights = self.shapes.iter().zip(matrices.chunks(matrices.len() / self.shapes.len()));
        let weights = weights.map(|(shape, inputs)| shape.weights(inputs));
        Ok(quant::matmul_each(&weights.collect::<Result<Vec<_>>>()?, x, products, exec)?)
    }

    /// The products' shapes, for rows like `x`.
    fn outputs(&self, x: &Array) -> Vec<Vec<i32>> {
        self.shapes.iter().map(|w| with_last(x, w.rows as i32)).collect()
    }
}

impl CpuKernel for QuantizedMatmuls {
    const NAME: &'static CStr = c"QuantizedMatmul";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let (sum, outputs) = outputs.split_at_mut(self.sums());
        let outputs = outputs.iter_mut().map(Output::slice);
        self.products(inputs, sum, &mut outputs.collect::<Result<Vec<_>>>()?, exec)
    }
}

/// Rows of a matrix as numbers.
struct QuantizedRows(QuantizedShape);

impl CpuKernel for QuantizedRows {
    const NAME: &'static CStr = c"QuantizedRows";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], _: ExecOptions) -> Result<()> {
        let weights = self.0.weights(&inputs[1..])?;
        Ok(quant::rows(&weights, &inputs[0].elements::<u32>()?, outputs[0].slice()?)?)
    }
}

/// The rows of a matrix that `chosen` names, `[…]`, as numbers: `[…, inputs]`.
pub fn quantized_rows(options: NodeOptions, w: &QuantizedTensor, chosen: &Array) -> Result<Array> {
    let kernel = QuantizedRows(QuantizedShape::of(w));
    let mut shape = chosen.shape().to_vec();
    shape.push(kernel.0.cols as i32);
    options.build_one(kernel, &QuantizedMatmuls::inputs(chosen, &[w]), &shape)
}

/// Whether matrices may be multiplied with the same rows at once.
pub fn alike(matrices: &[&QuantizedTensor]) -> bool {
    let kind = |w: &QuantizedTensor| (w.params, w.weight.dim(-1), w.biases.is_some());
    matrices.windows(2).all(|pair| kind(pair[0]) == kind(pair[1]))
}

/// x · wᵀ.
pub fn quantized_matmul(options: NodeOptions, x: &Array, w: &QuantizedTensor) -> Result<Array> {
    let kernel = QuantizedMatmuls::of(&[w]);
    let shape = with_last(x, kernel.shapes[0].rows as i32);
    options.build_one(kernel, &QuantizedMatmuls::inputs(x, &[w]), &shape)
}

/// x · wᵀ with each of several matrices, at once where they are alike.
pub fn quantized_matmuls(
    options: NodeOptions,
    x: &Array,
    matrices: &[&QuantizedTensor],
) -> Result<Vec<Array>> {
    if !alike(matrices) {
        return matrices.iter().map(|w| quantized_matmul(options, x, w)).collect();
    }
    let kernel = QuantizedMatmuls::of(matrices);
    let shapes = kernel.outputs(x);
    let shapes: Vec<_> = shapes.iter().map(|shape| &shape[..]).collect();
    options.build(kernel, &QuantizedMatmuls::inputs(x, matrices), &shapes)
}

/// The sum, and its norm's products with each of several matrices that are [`alike`].
pub fn norm_matmuls(
    options: NodeOptions,
    rows: &AddRmsNorm,
    matrices: &[&QuantizedTensor],
) -> Result<(Array, Vec<Array>)> {
    let kernel = QuantizedMatmuls::normed(rows, matrices);
    let shapes = kernel.outputs(rows.x);
    let inputs = QuantizedMatmuls::normed_inputs(rows, matrices);
    build_normed(options, rows, kernel, &inputs, &shapes)
}

/// A node whose outputs are the sum of the rows, if there is one, and arrays of these shapes.
fn build_normed(
    options: NodeOptions,
    rows: &AddRmsNorm,
    kernel: impl CpuKernel,
    inputs: &[&Array],
    shapes: &[Vec<i32>],
) -> Result<(Array, Vec<Array>)> {
    let sum = rows.delta.map(|_| rows.x.shape());
    let outputs: Vec<_> = sum.into_iter().chain(shapes.iter().map(|shape| &shape[..])).collect();
    let mut arrays = options.build(kernel, inputs, &outputs)?;
    let sum = if sum.is_some() { arrays.remove(0) } else { rows.x.clone() };
    Ok((sum, arrays))
}

/// The product that a kernel ends with; its matrix's arrays are the last inputs.
pub(super) struct DownProjection {
    shape: QuantizedShape,
    arrays: usize,
}

impl DownProjection {
    pub(super) fn with(w: &QuantizedTensor) -> Self {
        Self { shape: QuantizedShape::of(w), arrays: w.arrays().count() }
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
    pub(super) fn multiply(
        &self,
        own: &[Input],
        x: &[f32],
        y: &mut [f32],
        exec: ExecOptions,
    ) -> Result<()> {
        Ok(quant::matmul(&self.shape.weights(own)?, x, y, exec)?)
    }
}

/// activation(x · gateᵀ) · (x · upᵀ).
struct GatedMatmuls {
    products: QuantizedMatmuls,
    activation: Activation,
}

impl GatedMatmuls {
    fn compute(
        &self,
        inputs: &[Input],
        sum: &mut [Output],
        y: &mut [f32],
        exec: ExecOptions,
    ) -> Result<()> {
        let mut memory = Scratch::new(2 * y.len());
        let (gate, up) = memory.floats().split_at_mut(y.len());
        self.products.products(inputs, sum, &mut [gate, up], exec)?;
        Ok(gated(self.activation, gate, up, y, exec.isa)?)
    }
}

impl CpuKernel for GatedMatmuls {
    const NAME: &'static CStr = c"GatedMatmuls";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        self.compute(inputs, &mut [], outputs[0].slice()?, exec)
    }
}

/// down(activation(x · gateᵀ) · (x · upᵀ)) of the norm x.
struct NormMlp {
    gated: GatedMatmuls,
    down: DownProjection,
}

impl CpuKernel for NormMlp {
    const NAME: &'static CStr = c"NormMlp";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let (sum, outputs) = outputs.split_at_mut(self.gated.products.sums());
        let (inputs, down) = self.down.split(inputs);
        let y = outputs[0].slice()?;
        let mut hidden = Scratch::new(self.down.factors(y.len()));
        self.gated.compute(inputs, sum, hidden.floats(), exec)?;
        self.down.multiply(down, hidden.floats(), y, exec)
    }
}

/// Rows of x up to which it is worth computing a gate and what it gates at once: with more, the
/// work between is little beside the products.
pub(super) const GATED_ROWS: usize = 16;

/// Whether a gate and what it gates are best computed at once for rows like `x`.
pub fn gated_at_once(x: &Array, [gate, up]: [&QuantizedTensor; 2]) -> bool {
    let [gate_shape, up_shape] = [gate, up].map(QuantizedShape::of);
    x.size() <= GATED_ROWS * gate_shape.cols
        && alike(&[gate, up])
        && gate_shape.rows == up_shape.rows
}

/// Whether a matrix takes as many inputs as another has outputs.
pub fn follows(second: &QuantizedTensor, first: &QuantizedTensor) -> bool {
    QuantizedShape::of(second).cols == QuantizedShape::of(first).rows
}

/// activation(x · gateᵀ) · (x · upᵀ), of matrices that go [together](gated_at_once).
pub fn gated_matmuls(
    options: NodeOptions,
    x: &Array,
    matrices: [&QuantizedTensor; 2],
    activation: Activation,
) -> Result<Array> {
    let products = QuantizedMatmuls::of(&matrices);
    let shape = products.outputs(x).remove(0);
    let inputs = QuantizedMatmuls::inputs(x, &matrices);
    options.build_one(GatedMatmuls { products, activation }, &inputs, &shape)
}

/// The sum, and of its norm the product of the [`gated_matmuls`] with `down`, which
/// [follows](follows) them.
pub fn norm_mlp(
    options: NodeOptions,
    rows: &AddRmsNorm,
    gate_up: [&QuantizedTensor; 2],
    down: &QuantizedTensor,
    activation: Activation,
) -> Result<(Array, Array)> {
    let products = QuantizedMatmuls::normed(rows, &gate_up);
    let shape = with_last(rows.x, down.weight.dim(-2));
    let mut inputs = QuantizedMatmuls::normed_inputs(rows, &gate_up);
    inputs.extend(down.arrays());
    let gated = GatedMatmuls { products, activation };
    let kernel = NormMlp { gated, down: DownProjection::with(down) };
    let (sum, mut outputs) = build_normed(options, rows, kernel, &inputs, &[shape])?;
    Ok((sum, outputs.remove(0)))
}

struct Linear {
    rows: usize,
    cols: usize,
}

impl CpuKernel for Linear {
    const NAME: &'static CStr = c"Linear";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let values = floats(&inputs[1])?;
        let weights = dense::Weights { values, slabs: 1, rows: self.rows, cols: self.cols };
        Ok(dense::matmul(&weights, &inputs[0].values()?, outputs[0].slice()?, exec.isa)?)
    }
}

/// Whether [`matmul`] reads this weight.
pub fn reads(weight: &Array) -> bool {
    readable(weight) && weight.ndim() == 2
}

/// x · wᵀ for a weight `[outputs, inputs]` of any float type.
pub fn matmul(options: NodeOptions, x: &Array, weight: &Array) -> Result<Array> {
    let (rows, cols) = (weight.dim(0), weight.dim(1));
    let kernel = Linear { rows: rows as usize, cols: cols as usize };
    options.build_one(kernel, &[x, weight], &with_last(x, rows))
}
