//! A matrix for each head.

use super::linear::matrix;
use crate::error::Result;
use crate::fused::linear::Matrix;
use crate::mlx::quantized::{self, QuantizedTensor};
use crate::mlx::{Array, eval, ops};
use crate::weights::Weights;

/// Matrices `[heads, outputs, inputs]`, dense or packed, for products from either side.
#[derive(Debug)]
pub(super) struct HeadMatrices {
    stored: Stored,
    /// Whether they are stored as `[heads, inputs, outputs]`.
    transposed: bool,
}

#[derive(Debug)]
enum Stored {
    Dense(Array),
    Quantized(QuantizedTensor),
}

impl HeadMatrices {
    /// Takes `weight` (and `scales` and `biases`, where it is quantized).
    pub(super) fn new(w: &Weights, heads: i32, outputs: i32, inputs: i32) -> Result<Self> {
        match w.format(inputs)? {
            Some(format) => {
                Self::quantized(w, w.take_packed_stack(inputs, &[heads, outputs], format)?)
            }
            None => Self::dense(w.take("weight", &[heads, outputs, inputs])?),
        }
    }

    /// Takes one matrix `[heads · (first + second), inputs]` as that of each head's first outputs
    /// and that of its second.
    pub(super) fn pair(
        w: &Weights,
        heads: i32,
        outputs: [i32; 2],
        inputs: i32,
    ) -> Result<(Self, Self)> {
        let each = outputs[0] + outputs[1];
        let part = |array: &Array, start: i32, end: i32| -> Result<_> {
            let stacked = ops::reshape(array, &[heads, each, -1])?;
            // Copied, so that the whole need not stay in memory.
            let part = ops::contiguous(&ops::slice_axis(&stacked, 1, start, end)?)?;
            eval(&[&part])?;
            Ok(part)
        };
        let weight = match matrix(w, inputs, heads * each)? {
            Matrix::Quantized(whole) => {
                let quantized = |start, end| {
                    let biases = whole.biases.as_ref().map(|biases| part(biases, start, end));
                    Self::quantized(
                        w,
                        QuantizedTensor {
                            weight: part(&whole.weight, start, end)?,
                            scales: part(&whole.scales, start, end)?,
                            biases: biases.transpose()?,
                            ..whole
                        },
                    )
                };
                return Ok((quantized(0, outputs[0])?, quantized(outputs[0], each)?));
            }
            Matrix::Adjusted(adjusted) => adjusted.dequantize()?,
            Matrix::Dense { weight, .. } => weight,
        };
        let whole =
            w.activations().map_or(Ok(weight.clone()), |dtype| ops::astype(&weight, dtype))?;
        let dense = |start, end| Self::dense(part(&whole, start, end)?);
        Ok((dense(0, outputs[0])?, dense(outputs[0], each)?))
    }

    fn dense(stored: Array) -> Result<Self> {
        Ok(Self { stored: Stored::Dense(stored), transposed: false })
    }

    fn quantized(w: &Weights, tensor: QuantizedTensor) -> Result<Self> {
        let is_dense = match tensor.scales.dim(-1) {
            1 => w.plan().dense_heads_of_one_group,
            _ => w.plan().dense_head_matrices,
        };
        if !is_dense {
            return Ok(Self { stored: Stored::Quantized(tensor), transposed: false });
        }
        let dense = quantized::dequantize(&tensor)?;
        eval(&[&dense])?;
        Self::dense(dense)
    }

    /// The matrices with outputs and inputs exchanged.
    pub(super) fn transposed(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// x · wᵀ: `[batch, heads or 1, length, inputs]` to `[batch, heads, length, outputs]`.
    pub(super) fn product(&self, x: &Array) -> Result<Array> {
        self.apply(x, !self.transposed)
    }

    /// x · w: `[batch, heads, length, outputs]` to `[batch, heads, length, inputs]`.
    pub(super) fn transposed_product(&self, x: &Array) -> Result<Array> {
        self.apply(x, self.transposed)
    }

    fn apply(&self, x: &Array, transpose: bool) -> Result<Array> {
        match &self.stored {
            Stored::Dense(stored) if transpose => ops::matmul(x, &ops::swap_axes(stored, -1, -2)?),
            Stored::Dense(stored) => ops::matmul(x, stored),
            Stored::Quantized(tensor) => quantized::matmul(x, tensor, transpose),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mlx::quantized::{Mode, QuantizationParams};
    use crate::mlx::{DeviceKind, Dtype, enter, from_f32, from_u32, to_f32_vec};

    #[test]
    fn packed_matrices_multiply_from_both_sides_as_their_values_do() {
        enter(DeviceKind::Cpu).unwrap();
        let words: Vec<_> = (0..3 * 32 * 4).map(|i: u32| i.wrapping_mul(0x9e37_79b9)).collect();
        let numbers = |count: i32| (0..count).map(|i| (i as f32).cos()).collect::<Vec<_>>();
        let packed = QuantizedTensor {
            weight: from_u32(&words, &[3, 32, 4]),
            scales: from_f32(&numbers(96), &[3, 32, 1]),
            biases: Some(from_f32(&numbers(96), &[3, 32, 1])),
            params: QuantizationParams { mode: Mode::Affine, group_size: 32, bits: 4 },
            dtype: Dtype::Float32,
        };
        let dense = HeadMatrices::dense(quantized::dequantize(&packed).unwrap()).unwrap();
        let packed = HeadMatrices { stored: Stored::Quantized(packed), transposed: false };
        let x = from_f32(&numbers(2 * 5 * 32), &[2, 1, 5, 32]);
        let same = |a: Array, b: Array| {
            assert_eq!(a.shape(), [2, 3, 5, 32]);
            let (a, b) = (to_f32_vec(&a).unwrap(), to_f32_vec(&b).unwrap());
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-2 * (1.0 + b.abs())));
        };
        same(packed.product(&x).unwrap(), dense.product(&x).unwrap());
        same(packed.transposed_product(&x).unwrap(), dense.transposed_product(&x).unwrap());
        let (packed, dense) = (packed.transposed(), dense.transposed());
        same(packed.product(&x).unwrap(), dense.product(&x).unwrap());
    }
}
