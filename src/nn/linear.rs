//! The linear layer: one type for dense and quantized weights.

use super::activation::Activation;
use super::decoder::scaled;
use crate::error::Result;
use crate::mlx::fast::NormedSum;
use crate::mlx::quantized::{self, Packed};
use crate::mlx::{self, Array, eval, fast, ops};
use crate::weights::Weights;

/// A matrix `[outputs, inputs]`, dense or packed.
#[derive(Debug)]
pub(super) enum Matrix {
    /// As it is stored, and turned to `[inputs, outputs]` for products.
    Dense {
        stored: Array,
        turned: Array,
    },
    Quantized(Packed),
}

impl Matrix {
    /// Takes `weight` (and `scales` and `biases`, where the layer is quantized).
    pub(super) fn new(w: &Weights, inputs: i32, outputs: i32) -> Result<Self> {
        match w.format(inputs)? {
            Some(format) => w.take_packed(inputs, outputs, format).map(Self::Quantized),
            None => Self::dense(w.take_matrix("weight", &[outputs, inputs])?),
        }
    }

    fn dense(stored: Array) -> Result<Self> {
        let turned = ops::transpose(&stored, &[1, 0])?;
        Ok(Self::Dense { stored, turned })
    }

    /// x · wᵀ: `[…, inputs]` to `[…, outputs]`.
    pub(super) fn apply(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Dense { stored, turned } => fast::linear(x, stored, turned),
            Self::Quantized(packed) => Ok(quantized::matmuls(x, &[packed])?.remove(0)),
        }
    }

    /// The same with each of several matrices, at once where that is faster.
    fn apply_each(matrices: &[&Self], x: &Array) -> Result<Vec<Array>> {
        match matrices.iter().map(|matrix| matrix.packed()).collect::<Option<Vec<_>>>() {
            Some(packed) => quantized::matmuls(x, &packed),
            None => matrices.iter().map(|matrix| matrix.apply(x)).collect(),
        }
    }

    fn packed(&self) -> Option<&Packed> {
        match self {
            Self::Dense { .. } => None,
            Self::Quantized(packed) => Some(packed),
        }
    }

    /// The rows that `rows` names, in its order; computed at once, so that the others need not stay in
    /// memory.
    fn with_rows(&self, rows: &Array) -> Result<Self> {
        let take = |a: &Array| {
            let taken = ops::take(a, rows, 0)?;
            eval(&[&taken])?;
            Ok(taken)
        };
        match self {
            Self::Dense { stored, .. } => Self::dense(take(stored)?),
            Self::Quantized(packed) => Ok(Self::Quantized(Packed {
                weight: take(&packed.weight)?,
                scales: take(&packed.scales)?,
                biases: packed.biases.as_ref().map(take).transpose()?,
                ..packed.clone()
            })),
        }
    }

    /// Several matrices of the same inputs as one whose outputs follow each other, so that one product
    /// does the work of all; `None` where their types or formats differ.
    fn stack(parts: &[&Self]) -> Result<Option<Self>> {
        let dense = |part: &&Self| match part {
            Self::Dense { stored, .. } => Some(stored.clone()),
            Self::Quantized(_) => None,
        };
        if let Some(stored) = parts.iter().map(dense).collect::<Option<Vec<_>>>() {
            if stored.windows(2).any(|pair| pair[0].dtype() != pair[1].dtype()) {
                return Ok(None);
            }
            return Self::dense(stack_rows(&stored)?).map(Some);
        }
        let packed = parts.iter().map(|part| part.packed().cloned());
        let Some(packed) = packed.collect::<Option<Vec<_>>>() else { return Ok(None) };
        let same =
            |a: &Packed, b: &Packed| a.format == b.format && a.scales.dtype() == b.scales.dtype();
        if packed.windows(2).any(|pair| !same(&pair[0], &pair[1])) {
            return Ok(None);
        }
        join_packed(&packed, stack_rows).map(Self::Quantized).map(Some)
    }
}

/// Packed matrices of one format as one; `join` puts their tensors together.
fn join_packed(parts: &[Packed], join: fn(&[Array]) -> Result<Array>) -> Result<Packed> {
    let field = |field: fn(&Packed) -> &Array| {
        join(&parts.iter().map(|part| field(part).clone()).collect::<Vec<_>>())
    };
    let biases: Option<Vec<_>> = parts.iter().map(|part| part.biases.clone()).collect();
    Ok(Packed {
        weight: field(|part| &part.weight)?,
        scales: field(|part| &part.scales)?,
        biases: biases.map(|biases| join(&biases)).transpose()?,
        format: parts[0].format,
        dtype: parts[0].dtype,
    })
}

/// The rows of all matrices; computed at once, so that the parts need not stay in memory.
fn stack_rows(parts: &[Array]) -> Result<Array> {
    let stacked = ops::concatenate(&parts.iter().collect::<Vec<_>>(), 0)?;
    eval(&[&stacked])?;
    Ok(stacked)
}

/// x · wᵀ + b.
#[derive(Debug)]
pub struct Linear {
    matrix: Matrix,
    bias: Option<Array>,
}

impl Linear {
    /// Takes `weight` `[outputs, inputs]`, dense or quantized, and with `bias` also `bias` `[outputs]`.
    pub fn new(w: &Weights, inputs: i32, outputs: i32, bias: bool) -> Result<Self> {
        let matrix = Matrix::new(w, inputs, outputs)?;
        let bias = if bias { Some(w.take("bias", &[outputs])?) } else { None };
        Ok(Self { matrix, bias })
    }

    /// The layer of the outputs that `rows` names, in its order.
    pub(super) fn with_rows(&self, rows: &Array) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| ops::take(bias, rows, 0)).transpose()?;
        Ok(Self { matrix: self.matrix.with_rows(rows)?, bias })
    }

    /// `[…, inputs]` to `[…, outputs]`.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        match (&self.matrix, &self.bias) {
            (matrix, None) => matrix.apply(x),
            (Matrix::Dense { turned, .. }, Some(bias)) if mlx::on_gpu() => {
                ops::addmm(bias, x, turned)
            }
            (matrix, Some(bias)) => ops::add(&matrix.apply(x)?, bias),
        }
    }

    /// The matrix, if it is packed and there is no bias.
    pub(super) fn packed(&self) -> Option<&Packed> {
        self.matrix.packed().filter(|_| self.bias.is_none())
    }

    /// One layer that gives the outputs of all, one after another, with one product; `None` where
    /// types, formats or the presence of biases differ.
    fn stack(parts: &[&Self]) -> Result<Option<Self>> {
        let bias = match parts.iter().map(|part| part.bias.as_ref()).collect::<Option<Vec<_>>>() {
            Some(biases) => Some(ops::concatenate(&biases, 0)?),
            None if parts.iter().all(|part| part.bias.is_none()) => None,
            None => return Ok(None),
        };
        let matrices: Vec<_> = parts.iter().map(|part| &part.matrix).collect();
        Ok(Matrix::stack(&matrices)?.map(|matrix| Self { matrix, bias }))
    }
}

/// Several projections of the same input, as one product where their weights allow it.
#[derive(Debug)]
pub(super) enum Projections {
    /// One product; outputs end at these positions.
    Stacked { linear: Linear, ends: Vec<i32> },
    /// A product each.
    Separate(Vec<Linear>),
}

impl Projections {
    /// `parts` with the number of outputs of each.
    ///
    /// On a GPU small models are limited by the number of kernels, so the weights are stacked. On the
    /// CPU they stay where the file is mapped.
    pub(super) fn new(parts: Vec<(Linear, i32)>) -> Result<Self> {
        let linears: Vec<_> = parts.iter().map(|(linear, _)| linear).collect();
        if crate::mlx::on_gpu()
            && let Some(linear) = Linear::stack(&linears)?
        {
            let outputs: Vec<_> = parts.iter().map(|(_, outputs)| *outputs).collect();
            return Ok(Self::stacked(linear, &outputs));
        }
        Ok(Self::Separate(parts.into_iter().map(|(linear, _)| linear).collect()))
    }

    /// Projections that the checkpoint holds as one, with the number of outputs of each.
    pub(super) fn stacked(linear: Linear, outputs: &[i32]) -> Self {
        let ends = outputs.iter().scan(0, |end, outputs| {
            *end += outputs;
            Some(*end)
        });
        Self::Stacked { linear, ends: ends.collect() }
    }

    /// `[…, inputs]` to `[…, outputs]` for each part, in order.
    pub(super) fn forward(&self, x: &Array) -> Result<Vec<Array>> {
        match self {
            Self::Separate(parts) if parts.iter().all(|part| part.bias.is_none()) => {
                Matrix::apply_each(&parts.iter().map(|part| &part.matrix).collect::<Vec<_>>(), x)
            }
            Self::Separate(parts) => parts.iter().map(|part| part.forward(x)).collect(),
            Self::Stacked { linear, ends } => {
                ops::split_at(&linear.forward(x)?, &ends[..ends.len() - 1], -1)
            }
        }
    }

    /// The sum, and the projections of its norm.
    pub(super) fn normed(&self, rows: &NormedSum) -> Result<(Array, Vec<Array>)> {
        if let Some(packed) = self.packed()
            && let Some(products) = quantized::normed_matmuls(rows, &packed)?
        {
            return Ok(products);
        }
        let [x, normed] = rows.compute()?;
        Ok((x, self.forward(&normed)?))
    }

    /// act(first(x)) · second(x) of two projections; `None` where no fused kernel does that.
    pub(super) fn gated(&self, x: &Array, activation: Activation) -> Result<Option<Array>> {
        match (self.packed().as_deref(), activation.fused()) {
            (Some(&[gate, up]), Some(activation)) => {
                quantized::gated_matmuls(x, [gate, up], activation)
            }
            _ => Ok(None),
        }
    }

    /// The sum, and `down` of [`Projections::gated`] of its norm.
    pub(super) fn normed_mlp(
        &self,
        rows: &NormedSum,
        down: &Linear,
        activation: Activation,
    ) -> Result<Option<(Array, Array)>> {
        match (self.packed().as_deref(), down.packed(), activation.fused()) {
            (Some(&[gate, up]), Some(down), Some(activation)) => {
                quantized::normed_mlp(rows, [gate, up], down, activation)
            }
            _ => Ok(None),
        }
    }

    /// The matrices, if they are all there is, and packed.
    fn packed(&self) -> Option<Vec<&Packed>> {
        match self {
            Self::Separate(parts) => parts.iter().map(Linear::packed).collect(),
            Self::Stacked { .. } => None,
        }
    }
}

/// x · wᵀ + b with a matrix and a bias for each expert.
#[derive(Debug)]
pub struct ExpertLinear {
    matrix: ExpertMatrix,
    /// `[experts, outputs]`.
    bias: Option<Array>,
}

impl ExpertLinear {
    /// A layer of these matrices and biases.
    pub fn new(matrix: ExpertMatrix, bias: Option<Array>) -> Self {
        Self { matrix, bias }
    }

    /// The packed matrices, if they are all there is.
    pub(super) fn packed(&self) -> Option<&Packed> {
        match (&self.matrix, &self.bias) {
            (ExpertMatrix::Quantized(packed, None), None) => Some(packed),
            _ => None,
        }
    }

    /// The outputs of the experts that `experts`, of `x`'s shape but for its last two axes, names.
    pub(super) fn apply(&self, x: &Array, experts: &Array, sorted: bool) -> Result<Array> {
        let product = self.matrix.apply(x, experts, sorted)?;
        match &self.bias {
            Some(bias) => {
                let bias = ops::expand_dims(&ops::take(bias, experts, 0)?, -2)?;
                ops::add(&product, &bias)
            }
            None => Ok(product),
        }
    }
}

/// A matrix `[outputs, inputs]` for each expert, stacked.
#[derive(Debug)]
pub enum ExpertMatrix {
    /// `[experts, inputs, outputs]`.
    Dense(Array),
    /// With a factor for each expert's outputs, `[experts]`, where nvfp4 has them.
    Quantized(Packed, Option<Array>),
}

/// nvfp4's factor of a tensor is stored times the largest scale (e4m3) and the largest code (e2m1).
const NVFP4_RANGE: f32 = 448.0 * 6.0;

impl ExpertMatrix {
    /// Takes the matrices stacked, `[experts, outputs, inputs]`, or where the checkpoint holds them one
    /// by one, each of them.
    pub fn new<'a>(
        stacked: &Weights<'a>,
        single: impl Fn(i32) -> Weights<'a>,
        inputs: i32,
        outputs: i32,
        experts: i32,
    ) -> Result<Self> {
        if stacked.has("weight") || !single(0).has("weight") {
            return match stacked.format(inputs)? {
                Some(format) => {
                    let packed = stacked.take_packed_stack(inputs, &[experts, outputs], format)?;
                    let factors = if stacked.has("global_scale") {
                        let factors = stacked.take("global_scale", &[experts])?;
                        Some(scaled(&factors, NVFP4_RANGE.recip())?)
                    } else {
                        None
                    };
                    Ok(Self::Quantized(packed, factors))
                }
                None => Self::dense(&stacked.take_matrix("weight", &[experts, outputs, inputs])?),
            };
        }
        let parts = (0..experts).map(|expert| Matrix::new(&single(expert), inputs, outputs));
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let mut dense = Vec::new();
        let mut packed = Vec::new();
        for part in parts {
            match part {
                Matrix::Dense { stored, .. } => dense.push(stored),
                Matrix::Quantized(part) => packed.push(part),
            }
        }
        let uneven =
            || single(0).error("weight", "is not packed as those of the other experts are");
        match packed.first() {
            None => Self::dense(&stack(&dense)?),
            Some(first) if dense.is_empty() => {
                let format = first.format;
                if packed.iter().any(|part| part.format != format) {
                    return Err(uneven());
                }
                Ok(Self::Quantized(join_packed(&packed, stack)?, None))
            }
            Some(_) => Err(uneven()),
        }
    }

    /// Matrices `[experts, outputs, inputs]` as they are.
    pub fn dense(stored: &Array) -> Result<Self> {
        ops::swap_axes(stored, -1, -2).map(Self::Dense)
    }

    /// Matrices `[experts, inputs, outputs]`, put in the order that products read fastest; computed at
    /// once, so that what they are cut from need not stay in memory.
    pub fn turned(stored: &Array) -> Result<Self> {
        let matrices = ops::contiguous(&ops::swap_axes(stored, -1, -2)?)?;
        eval(&[&matrices])?;
        Self::dense(&matrices)
    }

    /// x · wᵀ with the matrix that `experts`, of `x`'s shape but for its last two axes, names.
    pub(super) fn apply(&self, x: &Array, experts: &Array, sorted: bool) -> Result<Array> {
        match self {
            Self::Dense(weight) => ops::gather_matmul(x, weight, experts, sorted),
            Self::Quantized(packed, factors) => {
                let product = quantized::gather_matmul(x, packed, experts, sorted)?;
                let Some(factors) = factors else { return Ok(product) };
                let factors = ops::take(factors, experts, 0)?;
                let factors = ops::expand_dims(&ops::expand_dims(&factors, -1)?, -1)?;
                ops::multiply(&product, &factors)
            }
        }
    }
}

/// Arrays of one shape along a new first axis; computed at once, so that the parts need not stay in
/// memory.
fn stack(parts: &[Array]) -> Result<Array> {
    let rows = parts.iter().map(|part| ops::expand_dims(part, 0)).collect::<Result<Vec<_>>>()?;
    stack_rows(&rows)
}
