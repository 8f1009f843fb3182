//! Taking the matrices of experts, however a checkpoint stores them.

use super::linear::{computed, join_quantized, matrix, stack_rows};
use crate::error::Result;
pub use crate::fused::experts::{ExpertLinear, ExpertMatrix};
use crate::fused::linear::Matrix;
use crate::fused::math::scaled;
use crate::mlx::quantized::{Mode, QuantizationParams, QuantizedTensor};
use crate::mlx::{Array, Dtype, eval, from_f32, ops};
use crate::weights::{Float8, Weights};

/// nvfp4's factor of a tensor is stored times the largest scale (e4m3) and the largest code (e2m1).
const NVFP4_RANGE: f32 = 448.0 * 6.0;

impl ExpertMatrix {
    /// Takes the matrices stacked, `[experts, outputs, inputs]`, or where the checkpoint holds them
    /// one by one, each of them.
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
                        let factors = ops::expand_dims(&factors, -1)?;
                        Some(scaled(&factors, NVFP4_RANGE.recip())?)
                    } else {
                        None
                    };
                    Ok(Self::Quantized(packed, factors))
                }
                None => Self::dense(&stacked.take_matrix("weight", &[experts, outputs, inputs])?),
            };
        }
        let parts = (0..experts).map(|expert| matrix(&single(expert), inputs, outputs));
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let is_sorted = |part: &Matrix| match part {
            Matrix::Adjusted(adjusted) => adjusted.input_order.is_some(),
            _ => false,
        };
        if parts.iter().any(is_sorted) {
            // Each expert would want the tokens' features in an order of its own.
            stacked.warn_dequantized("experts whose groups are scattered over their inputs");
            let dense = parts.iter().map(|part| computed(part.dequantize()?));
            return Self::dense(&stack(&dense.collect::<Result<Vec<_>>>()?)?);
        }
        let mut dense = Vec::new();
        let mut quantized = Vec::new();
        let mut factors = Vec::new();
        for part in parts {
            match part {
                Matrix::Dense { weight, .. } => dense.push(weight),
                Matrix::Quantized(part) => {
                    quantized.push(part);
                    factors.push(None);
                }
                Matrix::Adjusted(part) => {
                    quantized.push(part.tensor);
                    factors.push(part.output_factors);
                }
            }
        }
        let uneven =
            || single(0).error("weight", "is not packed as those of the other experts are");
        match quantized.first() {
            None => Self::dense(&stack(&dense)?),
            Some(first) if dense.is_empty() => {
                let params = first.params;
                if quantized.iter().any(|part| part.params != params) {
                    return Err(uneven());
                }
                let factors = join_factors(&factors)?;
                Ok(Self::Quantized(join_quantized(&quantized, stack)?, factors))
            }
            Some(_) => Err(uneven()),
        }
    }

    /// Matrices `[experts, inputs, outputs]`, put in the order that products read fastest; computed
    /// at once, so that what they are cut from need not stay in memory.
    pub fn transposed(stored: &Array) -> Result<Self> {
        let matrices = ops::contiguous(&ops::swap_axes(stored, -1, -2)?)?;
        eval(&[&matrices])?;
        Self::dense(&matrices)
    }
}

/// Matrices of nvfp4 as NVIDIA's Model Optimizer stores those of all experts together: their bytes,
/// a scale for each group of inputs (`_weight_scale`), and a factor for each expert
/// (`_weight_scale_2`). Those of several projections have their outputs one behind the other, and a
/// factor each.
pub(super) struct Nvfp4Stack {
    words: Array,
    scales: Array,
    factors: Array,
    params: QuantizationParams,
    dtype: Dtype,
}

impl Nvfp4Stack {
    /// Whether a tensor is stored so.
    pub(super) fn is_at(w: &Weights, name: &str) -> bool {
        w.has(&format!("{name}_weight_scale"))
    }

    /// Takes `[experts, outputs, inputs]` of so many projections.
    pub(super) fn take(
        w: &Weights,
        name: &str,
        [experts, outputs, inputs]: [i32; 3],
        projections: i32,
    ) -> Result<Self> {
        let (group_size, bits) = Mode::Nvfp4.defaults();
        if inputs % group_size != 0 {
            let message = format!("cannot hold {inputs} input features in groups of {group_size}");
            return Err(w.error(name, message));
        }
        let bytes = w.take_bytes(name, &[experts, outputs, inputs / 2], None)?;
        let scales = format!("{name}_weight_scale");
        let groups = [experts, outputs, inputs / group_size];
        let factors = format!("{name}_weight_scale_2");
        let params = QuantizationParams { mode: Mode::Nvfp4, group_size, bits };
        let parameters = [experts, outputs, inputs].into_iter().map(i64::from).product();
        w.count(parameters);
        w.count_format(Some(params), parameters);
        Ok(Self {
            words: ops::view(&bytes, Dtype::Uint32)?,
            scales: w.take_bytes(&scales, &groups, Some(Float8::E4m3))?,
            factors: w.take_reshaped_f32(&factors, &[experts, projections])?,
            params,
            dtype: w.activations().or_else(|| w.stored_dtype()).unwrap_or(Dtype::Bfloat16),
        })
    }

    /// The projection of this number, computed at once, so that the published tensors need not stay
    /// in memory.
    pub(super) fn projection(&self, index: i32, outputs: i32) -> Result<ExpertMatrix> {
        let part = |stored: &Array, length: i32| {
            ops::contiguous(&ops::slice_axis(stored, 1, index * length, (index + 1) * length)?)
        };
        let (weight, scales) = (part(&self.words, outputs)?, part(&self.scales, outputs)?);
        let factors = part(&self.factors, 1)?;
        eval(&[&weight, &scales, &factors])?;
        let (params, dtype) = (self.params, self.dtype);
        let tensor = QuantizedTensor { weight, scales, biases: None, params, dtype };
        Ok(ExpertMatrix::Quantized(tensor, Some(factors)))
    }
}

/// The factors of the experts' outputs, where there are any, as one array.
fn join_factors(factors: &[Option<Array>]) -> Result<Option<Array>> {
    if factors.iter().all(Option::is_none) {
        return Ok(None);
    }
    let factors = factors.iter().map(|it| it.clone().unwrap_or_else(|| from_f32(&[1.0], &[1])));
    let factors: Vec<_> = factors.collect();
    let most = factors.iter().map(|it| it.dim(0)).max().unwrap_or(1);
    let even = factors.iter().map(|it| ops::broadcast_to(it, &[most]));
    stack(&even.collect::<Result<Vec<_>>>()?).map(Some)
}

/// Arrays of one shape along a new first axis; computed at once, so that the parts need not stay in
/// memory.
pub(super) fn stack(parts: &[Array]) -> Result<Array> {
    let rows = parts.iter().map(|part| ops::expand_dims(part, 0)).collect::<Result<Vec<_>>>()?;
    stack_rows(&rows)
}
