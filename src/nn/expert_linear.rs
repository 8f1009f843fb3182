//! Taking the matrices of experts, however a checkpoint stores them.

use super::linear::{join_quantized, matrix, stack_rows};
use crate::error::Result;
pub use crate::fused::experts::{ExpertLinear, ExpertMatrix};
use crate::fused::linear::Matrix;
use crate::fused::math::scaled;
use crate::mlx::{Array, eval, ops};
use crate::weights::Weights;

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
        let mut dense = Vec::new();
        let mut quantized = Vec::new();
        for part in parts {
            match part {
                Matrix::Dense { weight, .. } => dense.push(weight),
                Matrix::Quantized(part) => quantized.push(part),
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
                Ok(Self::Quantized(join_quantized(&quantized, stack)?, None))
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

/// Arrays of one shape along a new first axis; computed at once, so that the parts need not stay in
/// memory.
fn stack(parts: &[Array]) -> Result<Array> {
    let rows = parts.iter().map(|part| ops::expand_dims(part, 0)).collect::<Result<Vec<_>>>()?;
    stack_rows(&rows)
}
