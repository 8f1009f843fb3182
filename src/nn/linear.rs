//! The linear layer: one type for dense and quantized weights.

use crate::error::Result;
use crate::fused::Device;
use crate::fused::adapter::Additions;
use crate::fused::linear::{self, AdjustedMatrix, LinearWeights, Matrix, linear, project};
use crate::mlx::quantized::QuantizedTensor;
use crate::mlx::{Array, Dtype, eval, from_u32, ops, scalar};
use crate::weights::{Adjustments, LinearSite, Weights};

/// Takes the matrix `weight` (and `scales` and `biases`, where the layer is quantized).
pub(super) fn matrix(w: &Weights, inputs: i32, outputs: i32) -> Result<Matrix> {
    let Some(format) = w.format(inputs)? else {
        return Matrix::dense(w.take_matrix("weight", &[outputs, inputs])?);
    };
    let tensor = w.take_packed(inputs, outputs, format)?;
    Ok(match w.take_adjustments(inputs, outputs)? {
        None => Matrix::Quantized(tensor),
        Some(Adjustments { rotation, input_order, output_factors }) => {
            let adjusted = AdjustedMatrix { tensor, rotation, input_order, output_factors };
            Matrix::Adjusted(Box::new(adjusted))
        }
    })
}

/// An array that is computed at once, so that what it is made of need not stay in memory.
pub(super) fn computed(array: Array) -> Result<Array> {
    eval(&[&array])?;
    Ok(array)
}

/// The order of rows in which the parts of all groups follow each other, part by part, where the
/// checkpoint has them group by group; `sizes` are those of the parts of one group.
pub(super) fn regrouped(groups: i32, sizes: &[i32]) -> Array {
    let whole: i32 = sizes.iter().sum();
    let mut rows = Vec::new();
    let mut start = 0;
    for size in sizes {
        for group in 0..groups {
            rows.extend((0..*size).map(|row| (group * whole + start + row).unsigned_abs()));
        }
        start += size;
    }
    from_u32(&rows, &[groups * whole])
}

/// The rows that `rows` names, in its order; computed at once, so that the others need not stay in
/// memory.
fn gather_rows(matrix: &Matrix, rows: &Array) -> Result<Matrix> {
    let gather = |a: &Array| -> Result<_> {
        let gathered = ops::take(a, rows, 0)?;
        eval(&[&gathered])?;
        Ok(gathered)
    };
    let quantized = |tensor: &QuantizedTensor| -> Result<_> {
        Ok(QuantizedTensor {
            weight: gather(&tensor.weight)?,
            scales: gather(&tensor.scales)?,
            biases: tensor.biases.as_ref().map(gather).transpose()?,
            ..*tensor
        })
    };
    match matrix {
        Matrix::Dense { weight, .. } => Matrix::dense(gather(weight)?),
        Matrix::Quantized(tensor) => quantized(tensor).map(Matrix::Quantized),
        Matrix::Adjusted(adjusted) => {
            let factors = adjusted.output_factors.as_ref();
            let factors =
                factors.map(|it| if it.size() == 1 { Ok(it.clone()) } else { gather(it) });
            Ok(Matrix::Adjusted(Box::new(AdjustedMatrix {
                tensor: quantized(&adjusted.tensor)?,
                rotation: adjusted.rotation.clone(),
                input_order: adjusted.input_order.clone(),
                output_factors: factors.transpose()?,
            })))
        }
    }
}

/// Several matrices of the same inputs as one whose outputs follow each other, so that one product
/// does the work of all; `None` where their types or quantization differ.
fn stack(parts: &[&Matrix]) -> Result<Option<Matrix>> {
    let dense = |part: &&Matrix| match part {
        Matrix::Dense { weight, .. } => Some(weight.clone()),
        Matrix::Quantized(_) | Matrix::Adjusted(_) => None,
    };
    if let Some(weights) = parts.iter().map(dense).collect::<Option<Vec<_>>>() {
        if weights.windows(2).any(|pair| pair[0].dtype() != pair[1].dtype()) {
            return Ok(None);
        }
        return Matrix::dense(stack_rows(&weights)?).map(Some);
    }
    let tensors: Option<Vec<_>> = parts.iter().map(|part| part.quantized().cloned()).collect();
    let Some(tensors) = tensors else { return Ok(None) };
    let kind = |tensor: &QuantizedTensor| (tensor.params, tensor.scales.dtype());
    if tensors.windows(2).any(|pair| kind(&pair[0]) != kind(&pair[1])) {
        return Ok(None);
    }
    join_quantized(&tensors, stack_rows).map(Matrix::Quantized).map(Some)
}

/// Matrices of one quantization as one; `join` puts their tensors together.
pub(super) fn join_quantized(
    parts: &[QuantizedTensor],
    join: fn(&[Array]) -> Result<Array>,
) -> Result<QuantizedTensor> {
    let field = |field: fn(&QuantizedTensor) -> &Array| {
        join(&parts.iter().map(|part| field(part).clone()).collect::<Vec<_>>())
    };
    let biases: Option<Vec<_>> = parts.iter().map(|part| part.biases.clone()).collect();
    Ok(QuantizedTensor {
        weight: field(|part| &part.weight)?,
        scales: field(|part| &part.scales)?,
        biases: biases.map(|biases| join(&biases)).transpose()?,
        ..parts[0]
    })
}

/// The rows of all matrices; computed at once, so that the parts need not stay in memory.
pub(super) fn stack_rows(parts: &[Array]) -> Result<Array> {
    let stacked = ops::concatenate(&parts.iter().collect::<Vec<_>>(), 0)?;
    eval(&[&stacked])?;
    Ok(stacked)
}

/// Takes a linear layer: its view, the number of inputs and of outputs, and whether it has a bias.
pub type TakeLinear = fn(&Weights, i32, i32, bool) -> Result<Linear>;

/// x · wᵀ + b.
#[derive(Debug)]
pub struct Linear {
    weights: LinearWeights,
    site: LinearSite,
    device: Device,
}

impl Linear {
    /// Takes `weight` `[outputs, inputs]`, dense or quantized, and with `bias` also `bias`
    /// `[outputs]`.
    pub fn new(w: &Weights, inputs: i32, outputs: i32, bias: bool) -> Result<Self> {
        Self::of(w, matrix(w, inputs, outputs)?, [inputs, outputs], bias)
    }

    fn of(w: &Weights, matrix: Matrix, [inputs, outputs]: [i32; 2], bias: bool) -> Result<Self> {
        let bias = if bias { Some(w.take("bias", &[outputs])?) } else { None };
        let site = w.linear_site(&matrix, [inputs, outputs], bias.is_some());
        let weights = LinearWeights { matrix, bias, additions: site.additions.clone() };
        Ok(Self { weights, site, device: w.device() })
    }

    /// As [`Linear::new`], with each row divided by its length; what is quantized was divided
    /// before.
    pub fn with_unit_rows(w: &Weights, inputs: i32, outputs: i32, bias: bool) -> Result<Self> {
        Self::divided(w, [inputs, outputs], bias, -1)
    }

    /// The same with each column divided by its length.
    pub fn with_unit_columns(w: &Weights, inputs: i32, outputs: i32, bias: bool) -> Result<Self> {
        Self::divided(w, [inputs, outputs], bias, 0)
    }

    fn divided(w: &Weights, sizes: [i32; 2], bias: bool, axis: i32) -> Result<Self> {
        let matrix = match matrix(w, sizes[0], sizes[1])? {
            Matrix::Dense { weight, .. } => {
                let precise = ops::astype(&weight, Dtype::Float32)?;
                let length = ops::sqrt(&ops::sum(&ops::square(&precise)?, axis)?)?;
                let divided = ops::divide(&precise, &ops::add(&length, &scalar(1e-7))?)?;
                Matrix::dense(computed(ops::astype(&divided, weight.dtype())?)?)?
            }
            packed @ (Matrix::Quantized(_) | Matrix::Adjusted(_)) => packed,
        };
        Self::of(w, matrix, sizes, bias)
    }

    /// As [`Linear::new`], for a matrix that is stored with its inputs before its outputs (GPT-2).
    pub fn transposed(w: &Weights, inputs: i32, outputs: i32, bias: bool) -> Result<Self> {
        let stored = w.take_matrix("weight", &[inputs, outputs])?;
        let weight = ops::contiguous(&ops::swap_axes(&stored, -1, -2)?)?;
        eval(&[&weight])?;
        Self::of(w, Matrix::dense(weight)?, [inputs, outputs], bias)
    }

    /// As [`Linear::new`], for a matrix that has the view's own name, without a bias.
    pub fn unnamed(w: &Weights, inputs: i32, outputs: i32, _: bool) -> Result<Self> {
        let matrix = Matrix::dense(w.take_matrix("", &[outputs, inputs])?)?;
        Self::of(w, matrix, [inputs, outputs], false)
    }

    /// The same with this bias.
    pub fn with_bias(mut self, bias: Array) -> Self {
        self.weights.bias = Some(bias);
        self
    }

    /// The layer of the outputs that `rows` names, in its order.
    pub fn with_rows(self, rows: &Array) -> Result<Self> {
        let LinearWeights { matrix, bias, additions } = self.weights;
        let bias = bias.map(|bias| ops::take(&bias, rows, 0)).transpose()?;
        let weights = LinearWeights { matrix: gather_rows(&matrix, rows)?, bias, additions };
        self.site.reordered(&weights.matrix, rows);
        Ok(Self { weights, ..self })
    }

    /// `[…, inputs]` to `[…, outputs]`.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        linear(self.device, x, &self.weights)
    }

    /// The weights, for an operation to keep.
    pub(super) fn weights(&self) -> &LinearWeights {
        &self.weights
    }

    /// The weights alone.
    pub(super) fn into_weights(self) -> LinearWeights {
        self.weights
    }

    /// One layer that gives the outputs of all, one after another, with one product; `None` where
    /// types, quantization or the presence of biases differ.
    fn stack(parts: &[&Self]) -> Result<Option<LinearWeights>> {
        let biases: Vec<_> = parts.iter().filter_map(|part| part.weights.bias.as_ref()).collect();
        let bias = match biases.len() {
            0 => None,
            count if count == parts.len() => Some(ops::concatenate(&biases, 0)?),
            _ => return Ok(None),
        };
        let matrices: Vec<_> = parts.iter().map(|part| &part.weights.matrix).collect();
        let Some(matrix) = stack(&matrices)? else { return Ok(None) };
        let mut start = 0;
        for Self { site, .. } in parts {
            site.stacked(&matrix, start, start + site.outputs);
            start += site.outputs;
        }
        Ok(Some(LinearWeights::new(matrix, bias)))
    }
}

/// Several projections of the same input.
#[derive(Debug)]
pub struct Projections {
    weights: linear::Projections,
    device: Device,
}

impl Projections {
    /// `parts` with the number of outputs of each, stacked where the plan says so and their weights
    /// allow it.
    pub fn new(w: &Weights, parts: Vec<(Linear, i32)>) -> Result<Self> {
        let linears: Vec<_> = parts.iter().map(|(linear, _)| linear).collect();
        if w.plan().stacked_projections
            && let Some(weights) = Linear::stack(&linears)?
        {
            let outputs: Vec<_> = parts.iter().map(|(_, outputs)| *outputs).collect();
            let additions = linears.iter().map(|linear| linear.site.additions.clone()).collect();
            return Ok(Self::of_stack(weights, &outputs, additions, w.device()));
        }
        let parts = parts.into_iter().map(|(linear, _)| linear.weights).collect();
        Ok(Self { weights: linear::Projections::Separate(parts), device: w.device() })
    }

    /// Projections that the checkpoint holds as one, with the number of outputs of each.
    pub fn stacked(linear: Linear, outputs: &[i32]) -> Self {
        let Linear { weights, device, .. } = linear;
        let additions = vec![Additions::default(); outputs.len()];
        Self::of_stack(weights, outputs, additions, device)
    }

    fn of_stack(
        weights: LinearWeights,
        outputs: &[i32],
        additions: Vec<Additions<linear::LinearAddition>>,
        device: Device,
    ) -> Self {
        let ends = outputs.iter().scan(0, |end, outputs| {
            *end += outputs;
            Some(*end)
        });
        let ends = ends.collect();
        Self { weights: linear::Projections::Stacked { weights, ends, additions }, device }
    }

    /// `[…, inputs]` to `[…, outputs]` for each part, in order.
    pub(super) fn forward(&self, x: &Array) -> Result<Vec<Array>> {
        project(self.device, x, &self.weights)
    }

    pub(super) fn weights(&self) -> &linear::Projections {
        &self.weights
    }

    /// The weights, for an operation to keep.
    pub(super) fn into_weights(self) -> linear::Projections {
        self.weights
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{self, DeviceKind};

    #[test]
    fn rows_are_put_part_by_part() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        // Two groups of a part of 2 rows and one of 1: a a b, a a b.
        let order = mlx::to_u32_vec(&regrouped(2, &[2, 1])).unwrap();
        assert_eq!(order, [0, 1, 3, 4, 2, 5]);
    }
}
