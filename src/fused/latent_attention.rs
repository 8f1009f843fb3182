//! Attention to keys of two parts, of which all heads share the rotated one (DeepSeek-AI 2024,
//! "DeepSeek-V2").

use super::attention::{Scores, masked, scaled_dot_product_attention};
use super::device::Device;
use super::math::scaled;
use crate::error::Result;
use crate::mlx::fast::Mask;
use crate::mlx::{Array, DeviceKind, ops};

/// The two parts of queries or keys.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// `[batch, heads, length, nope_dim]`, which does not look at positions.
    pub nope: &'a Array,
    /// `[batch, heads, length, rope_dim]`, rotated; keys have one head.
    pub rope: &'a Array,
}

/// softmax(scale · (q_nope k_nopeᵀ + q_rope k_ropeᵀ) + mask) v, `[batch, heads, length,
/// value_dim]`.
///
/// MLX's fused kernels for the GPU know the sizes of heads without the rotated part only, whose
/// scores are then added as a mask.
pub fn latent_attention(
    device: Device,
    queries: Parts,
    keys: Parts,
    values: &Array,
    mask: &Mask,
    scale: f32,
) -> Result<Array> {
    match device.kind {
        DeviceKind::Gpu => attention_with_scores(device, queries, keys, values, mask, scale),
        DeviceKind::Cpu => {
            let mut shape = keys.nope.shape().to_vec();
            shape[3] = keys.rope.dim(3);
            let rope = ops::broadcast_to(keys.rope, &shape)?;
            let keys = ops::concatenate(&[keys.nope, &rope], -1)?;
            let queries = ops::concatenate(&[queries.nope, queries.rope], -1)?;
            let scores = Scores::scaled(scale);
            scaled_dot_product_attention(device, &queries, &keys, values, mask, &scores)
        }
    }
}

/// [`latent_attention`] with the scores of the rotated part added.
pub fn attention_with_scores(
    device: Device,
    queries: Parts,
    keys: Parts,
    values: &Array,
    mask: &Mask,
    scale: f32,
) -> Result<Array> {
    let mask = Mask::Array(rope_scores(queries.rope, keys.rope, mask, scale)?);
    let scores = Scores::scaled(scale);
    scaled_dot_product_attention(device, queries.nope, keys.nope, values, &mask, &scores)
}

/// The scores of the rotated parts, `[batch, heads, length, seen]`; −∞ where the mask hides a
/// position.
pub fn rope_scores(queries: &Array, keys: &Array, mask: &Mask, scale: f32) -> Result<Array> {
    let (batch, heads, length) = (queries.dim(0), queries.dim(1), queries.dim(2));
    let (dims, seen) = (queries.dim(3), keys.dim(2));
    // As heads share their keys, they are rows of one.
    let rows = ops::reshape(queries, &[batch, 1, heads * length, dims])?;
    let scores = ops::matmul(&scaled(&rows, scale)?, &ops::swap_axes(keys, -1, -2)?)?;
    masked(&ops::reshape(&scores, &[batch, heads, length, seen])?, mask)
}
