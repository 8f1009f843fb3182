//! Products with the matrices of linear layers, one by one or several that read the same input.

use super::adapter::Additions;
use super::cpu;
use super::cuda::{self, product::Operand};
use super::device::{Backend, Device};
use super::norm::{AddNorm, add_norm};
use crate::error::Result;
use crate::mlx::quantized::{self, QuantizedTensor};
use crate::mlx::{Array, DeviceKind, Dtype, ops};

/// A matrix `[outputs, inputs]`.
#[derive(Debug, Clone)]
pub enum Matrix {
    /// Numbers.
    Dense {
        /// As it is stored.
        weight: Array,
        /// The same memory as `[inputs, outputs]`.
        transposed: Array,
    },
    /// Codes and scales.
    Quantized(QuantizedTensor),
    /// Codes and scales of another program, for inputs in another order or rotated, or outputs that
    /// are multiplied.
    Adjusted(Box<AdjustedMatrix>),
}

/// A quantized matrix whose inputs come in another order or are rotated, and whose outputs are
/// multiplied.
#[derive(Debug, Clone)]
pub struct AdjustedMatrix {
    /// The codes and scales.
    pub tensor: QuantizedTensor,
    /// What the inputs go through.
    pub rotation: Option<Rotation>,
    /// The input of each column, `[inputs]`, `uint32`.
    pub input_order: Option<Array>,
    /// `[1]` or `[outputs]`, `float32`.
    pub output_factors: Option<Array>,
}

/// A rotation that spreads outliers over the features of a block (Ashkboos et al. 2024, "QuaRot"):
/// H(signs · x) / √block with the Walsh–Hadamard transform H of each block.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Features of a block; divides their number.
    pub block: i32,
    /// 1 or −1 for each feature, `[features]`, `float32`.
    pub signs: Array,
}

impl Rotation {
    /// `[…, features]` to the same shape.
    fn forward(&self, x: &Array) -> Result<Array> {
        let signed = ops::multiply(&ops::astype(x, Dtype::Float32)?, &self.signs)?;
        ops::astype(&self.transform(&signed)?, x.dtype())
    }

    /// What [`Self::forward`] makes `x` of.
    fn backward(&self, x: &Array) -> Result<Array> {
        let rotated = self.transform(&ops::astype(x, Dtype::Float32)?)?;
        ops::astype(&ops::multiply(&rotated, &self.signs)?, x.dtype())
    }

    fn transform(&self, x: &Array) -> Result<Array> {
        let blocks = ops::reshape(x, &[-1, self.block])?;
        let transformed = ops::hadamard(&blocks, (self.block as f32).sqrt().recip())?;
        ops::reshape(&transformed, x.shape())
    }
}

impl AdjustedMatrix {
    /// Whether rows can be taken of it as they are packed.
    pub fn is_only_rotated(&self) -> bool {
        self.input_order.is_none() && self.output_factors.is_none()
    }

    /// Rows of such a matrix as numbers, `[…, inputs]`.
    pub(super) fn rows(&self, rows: &Array) -> Result<Array> {
        let rows = quantized_rows_plain(&self.tensor, rows)?;
        self.rotation.as_ref().map_or(Ok(rows.clone()), |rotation| rotation.backward(&rows))
    }

    fn product(&self, device: Device, x: &Array) -> Result<Array> {
        let sorted = self.input_order.as_ref().map(|order| ops::take(x, order, -1)).transpose()?;
        let x = sorted.as_ref().unwrap_or(x);
        let rotated = self.rotation.as_ref().map(|rotation| rotation.forward(x)).transpose()?;
        let x = rotated.as_ref().unwrap_or(x);
        let Some(factors) = &self.output_factors else {
            return quantized_matmul(device, x, &self.tensor);
        };
        // Without its factors a product may be beyond the greatest number of 16 bits.
        let wide = if x.dtype() == Dtype::Float16 { Dtype::Float32 } else { x.dtype() };
        let product = quantized_matmul(device, &ops::astype(x, wide)?, &self.tensor)?;
        let product = ops::multiply(&product, &ops::astype(factors, wide)?)?;
        ops::astype(&product, x.dtype())
    }

    /// The matrix as numbers, `[outputs, inputs]`.
    pub fn dequantize(&self) -> Result<Array> {
        let tensor = QuantizedTensor { dtype: Dtype::Float32, ..self.tensor.clone() };
        let mut weight = quantized::dequantize(&tensor)?;
        if let Some(rotation) = &self.rotation {
            weight = rotation.backward(&weight)?;
        }
        if let Some(order) = &self.input_order {
            weight = ops::take(&weight, &ops::argsort(order, 0)?, 1)?;
        }
        if let Some(factors) = &self.output_factors {
            weight = ops::multiply(&weight, &ops::expand_dims(factors, -1)?)?;
        }
        ops::astype(&weight, self.tensor.dtype)
    }
}

impl Matrix {
    /// A matrix of numbers, `[outputs, inputs]`.
    pub fn dense(weight: Array) -> Result<Self> {
        let transposed = ops::transpose(&weight, &[1, 0])?;
        Ok(Self::Dense { weight, transposed })
    }

    /// What kernels for NVIDIA cards multiply with; `None` for what they leave to the composition.
    pub fn operand(&self) -> Option<Operand<'_>> {
        match self {
            Self::Dense { weight, .. } => Some(Operand::Dense(weight)),
            Self::Quantized(tensor) => Some(Operand::Quantized(tensor)),
            Self::Adjusted(_) => None,
        }
    }

    /// Its numbers.
    pub fn dequantize(&self) -> Result<Array> {
        match self {
            Self::Dense { weight, .. } => Ok(weight.clone()),
            Self::Quantized(tensor) => quantized::dequantize(tensor),
            Self::Adjusted(adjusted) => adjusted.dequantize(),
        }
    }

    /// The codes and scales, if they are all of it.
    pub fn quantized(&self) -> Option<&QuantizedTensor> {
        match self {
            Self::Dense { .. } | Self::Adjusted(_) => None,
            Self::Quantized(tensor) => Some(tensor),
        }
    }
}

/// The weights of x · wᵀ + b.
#[derive(Debug, Clone)]
pub struct LinearWeights {
    /// `[outputs, inputs]`.
    pub matrix: Matrix,
    /// `[outputs]`.
    pub bias: Option<Array>,
    /// What adapters add.
    pub additions: Additions<LinearAddition>,
}

impl LinearWeights {
    /// Weights to which adapters add nothing.
    pub fn new(matrix: Matrix, bias: Option<Array>) -> Self {
        Self { matrix, bias, additions: Additions::default() }
    }

    /// The matrix, if it is all there is.
    pub(super) fn only_matrix(&self) -> Option<&Matrix> {
        Some(&self.matrix).filter(|_| self.bias.is_none() && self.additions.is_empty())
    }

    /// The matrix, if it is quantized and all there is: what the fused kernels multiply with.
    pub(super) fn only_quantized(&self) -> Option<&QuantizedTensor> {
        self.only_matrix()?.quantized()
    }
}

/// Rows of a quantized table, composed.
pub fn quantized_rows_plain(table: &QuantizedTensor, tokens: &Array) -> Result<Array> {
    let rows = |part: &Array| ops::take(part, tokens, 0);
    quantized::dequantize(&QuantizedTensor {
        weight: rows(&table.weight)?,
        scales: rows(&table.scales)?,
        biases: table.biases.as_ref().map(rows).transpose()?,
        ..*table
    })
}

/// x · wᵀ: `[…, inputs]` to `[…, outputs]`.
pub fn matmul(device: Device, x: &Array, matrix: &Matrix) -> Result<Array> {
    match matrix {
        Matrix::Dense { weight, transposed } => dense_matmul(device, x, weight, transposed),
        Matrix::Quantized(w) => quantized_matmul(device, x, w),
        Matrix::Adjusted(adjusted) => adjusted.product(device, x),
    }
}

fn dense_matmul(device: Device, x: &Array, weight: &Array, transposed: &Array) -> Result<Array> {
    if let Some(card) = device.cuda()
        && let Some(product) = cuda::products::matmul(card, x, Operand::Dense(weight), None)?
    {
        return Ok(product);
    }
    match device.backend(x) {
        Backend::Cpu(options) if cpu::products::reads(weight) => {
            cpu::products::matmul(options, x, weight)
        }
        Backend::Cpu(_) | Backend::Mlx | Backend::Plain => ops::matmul(x, transposed),
    }
}

fn quantized_matmul(device: Device, x: &Array, w: &QuantizedTensor) -> Result<Array> {
    if let Some(card) = device.cuda()
        && let Some(product) = cuda::products::matmul(card, x, Operand::Quantized(w), None)?
    {
        return Ok(product);
    }
    match device.backend(x) {
        Backend::Cpu(options) => cpu::products::quantized_matmul(options, x, w),
        Backend::Mlx => match unpacked(device, x, w)? {
            Some(transposed) => ops::matmul(x, &transposed),
            None => quantized::matmul(x, w, true),
        },
        Backend::Plain => quantized_matmul_plain(x, w),
    }
}

/// wᵀ as numbers, for a card: with more rows than our kernels take, its products of numbers are
/// faster than those of codes, unpacking included.
fn unpacked(device: Device, x: &Array, w: &QuantizedTensor) -> Result<Option<Array>> {
    match device.cuda() {
        Some(card) if x.dtype() == w.scales.dtype() => {
            let numbers = cuda::unpack::dequantize(card, w)?;
            numbers.map(|numbers| ops::swap_axes(&numbers, -1, -2)).transpose()
        }
        _ => Ok(None),
    }
}

/// x · wᵀ with a quantized matrix, composed.
pub fn quantized_matmul_plain(x: &Array, w: &QuantizedTensor) -> Result<Array> {
    ops::matmul(x, &ops::swap_axes(&quantized::dequantize(w)?, -1, -2)?)
}

/// x · wᵀ + b, and what the step's adapter adds.
pub fn linear(device: Device, x: &Array, weights: &LinearWeights) -> Result<Array> {
    let LinearWeights { matrix, bias, additions } = weights;
    if let Some(addition) = additions.current() {
        return addition.apply(device, x, || matmul(device, x, matrix), bias.as_ref());
    }
    match (matrix, bias) {
        (matrix, None) => matmul(device, x, matrix),
        (Matrix::Dense { transposed, .. }, Some(bias)) if device.kind == DeviceKind::Gpu => {
            ops::addmm(bias, x, transposed)
        }
        (matrix, Some(bias)) => ops::add(&matmul(device, x, matrix)?, bias),
    }
}

/// What an adapter adds to a linear layer: a product of low rank (Hu et al. 2021, "LoRA"), perhaps
/// with a magnitude for each output (Liu et al. 2024, "DoRA"), or other weights in the place of its
/// own.
#[derive(Debug)]
pub enum LinearAddition {
    /// factors · (x · wᵀ + (x · downᵀ) · upᵀ); the bias of the layer comes last.
    LowRank {
        /// `[rank, inputs]`.
        down: Matrix,
        /// `[outputs, rank]`, times the adapter's scale.
        up: Matrix,
        /// `[outputs]`: magnitudes over the norms of the adapted matrix' rows; `None` for ones.
        factors: Option<Array>,
    },
    /// x · wᵀ + b with another matrix, `[outputs, inputs]`, and the bias of the layer.
    Matrix(Matrix),
    /// x · wᵀ + b with another matrix and bias.
    Replaced {
        /// `[outputs, inputs]`.
        matrix: Matrix,
        /// `[outputs]`.
        bias: Option<Array>,
    },
}

impl LinearAddition {
    /// The layer's output, of its own product and bias.
    fn apply(
        &self,
        device: Device,
        x: &Array,
        product: impl FnOnce() -> Result<Array>,
        bias: Option<&Array>,
    ) -> Result<Array> {
        match self {
            Self::Matrix(matrix) => with_bias(matmul(device, x, matrix)?, bias),
            Self::Replaced { matrix, bias } => with_bias(matmul(device, x, matrix)?, bias.as_ref()),
            Self::LowRank { down, up, factors } => {
                let product = product()?;
                let added = promoted(device, &promoted(device, x, down)?, up)?;
                let mut sum = ops::add(&product, &ops::astype(&added, product.dtype())?)?;
                if let Some(factors) = factors {
                    sum = ops::multiply(&sum, &ops::astype(factors, sum.dtype())?)?;
                }
                with_bias(sum, bias)
            }
        }
    }
}

fn with_bias(product: Array, bias: Option<&Array>) -> Result<Array> {
    match bias {
        Some(bias) => ops::add(&product, bias),
        None => Ok(product),
    }
}

/// x · wᵀ in the more precise of the types of x and w, as mlx-lm computes it.
fn promoted(device: Device, x: &Array, matrix: &Matrix) -> Result<Array> {
    match (matrix, device.backend(x)) {
        (Matrix::Dense { transposed, .. }, Backend::Mlx | Backend::Plain) => {
            ops::matmul(x, transposed)
        }
        _ => matmul(device, x, matrix),
    }
}

/// Several linear layers of the same input.
#[derive(Debug)]
pub enum Projections {
    /// A matrix each.
    Separate(Vec<LinearWeights>),
    /// One matrix whose outputs follow each other and end at these positions.
    Stacked {
        /// Of all.
        weights: LinearWeights,
        /// Where the outputs of each end.
        ends: Vec<i32>,
        /// What adapters add to each.
        additions: Vec<Additions<LinearAddition>>,
    },
}

impl Projections {
    /// The matrix that gives all outputs, if it is all there is.
    pub(super) fn only_matrix(&self) -> Option<&Matrix> {
        match self {
            Self::Stacked { weights, .. } if !self.is_adapted() => weights.only_matrix(),
            _ => None,
        }
    }

    /// Whether the step's adapter adds to one of the projections by itself.
    fn is_adapted(&self) -> bool {
        match self {
            Self::Stacked { additions, .. } => additions.iter().any(|it| !it.is_empty()),
            Self::Separate(_) => false,
        }
    }

    /// [`Self::only_matrix`] of two projections with as many outputs each.
    pub(super) fn only_halves(&self) -> Option<&Matrix> {
        match self {
            Self::Stacked { ends, .. } if matches!(ends[..], [half, all] if all == 2 * half) => {
                self.only_matrix()
            }
            _ => None,
        }
    }

    fn parts(&self) -> &[LinearWeights] {
        match self {
            Self::Separate(parts) => parts,
            Self::Stacked { weights, .. } => std::slice::from_ref(weights),
        }
    }

    /// The matrices, if they are quantized and all there is.
    pub(super) fn only_quantized(&self) -> Option<Vec<&QuantizedTensor>> {
        if self.is_adapted() {
            return None;
        }
        self.parts().iter().map(LinearWeights::only_quantized).collect()
    }

    /// The outputs of each projection, of those of each matrix.
    fn split(&self, products: Vec<Array>) -> Result<Vec<Array>> {
        match (self, products.first()) {
            (Self::Stacked { ends, .. }, Some(all)) => {
                ops::split_at(all, &ends[..ends.len() - 1], -1)
            }
            _ => Ok(products),
        }
    }
}

/// The projections of `x`, `[…, inputs]` to `[…, outputs]` each.
pub fn project(device: Device, x: &Array, projections: &Projections) -> Result<Vec<Array>> {
    let products = match (device.backend(x), projections.only_quantized()) {
        (Backend::Cpu(options), Some(matrices)) => {
            cpu::products::quantized_matmuls(options, x, &matrices)?
        }
        _ => {
            let parts = projections.parts().iter();
            parts.map(|weights| linear(device, x, weights)).collect::<Result<_>>()?
        }
    };
    let outputs = projections.split(products)?;
    let Projections::Stacked { weights, ends, additions } = projections else { return Ok(outputs) };
    // The outputs of one that the adapter adds to lie apart from those of the others.
    let mut start = 0;
    let parts = outputs.into_iter().zip(ends).zip(additions);
    let adapted = parts.map(|((output, &end), additions)| {
        let bias = weights.bias.as_ref();
        let bias = bias.map(|bias| ops::slice_axis(bias, 0, start, end)).transpose()?;
        start = end;
        let Some(addition) = additions.current() else { return Ok(output) };
        let product = || match &bias {
            Some(bias) => ops::subtract(&output, bias),
            None => Ok(output.clone()),
        };
        addition.apply(device, x, product, bias.as_ref())
    });
    adapted.collect()
}

/// x + delta, and the projections of its norm.
pub fn norm_project(
    device: Device,
    rows: &AddNorm,
    projections: &Projections,
) -> Result<(Array, Vec<Array>)> {
    let matrix = projections.only_matrix().and_then(Matrix::operand);
    if let (Some(card), Some(rows), Some(matrix)) = (device.cuda(), rows.for_kernels(), matrix)
        && let Some((sum, product)) = cuda::products::norm_matmul(card, &rows, matrix, None)?
    {
        return Ok((sum, projections.split(vec![product])?));
    }
    match (device.backend(rows.x), rows.for_kernels(), projections.only_quantized()) {
        (Backend::Cpu(options), Some(rows), Some(matrices)) if cpu::products::alike(&matrices) => {
            let (sum, products) = cpu::products::norm_matmuls(options, &rows, &matrices)?;
            Ok((sum, projections.split(products)?))
        }
        _ => {
            let [sum, normed] = add_norm(device, rows)?;
            Ok((sum, project(device, &normed, projections)?))
        }
    }
}
