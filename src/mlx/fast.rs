//! MLX's own fused operations (`mx.fast`).

use std::ffi::CStr;

use super::Array;
use super::call::optional;
use super::op::op;
use crate::error::Result;

/// Root-mean-square norm over the last axis: x / √(mean(x²) + eps) · weight.
pub fn rms_norm(x: &Array, weight: Option<&Array>, eps: f32) -> Result<Array> {
    op!(mlx_fast_rms_norm(x.as_ptr(), optional(weight), eps))
}

/// Layer norm over the last axis: (x − mean) / √(var + eps) · weight + bias.
pub fn layer_norm(
    x: &Array,
    weight: Option<&Array>,
    bias: Option<&Array>,
    eps: f32,
) -> Result<Array> {
    op!(mlx_fast_layer_norm(x.as_ptr(), optional(weight), optional(bias), eps))
}

/// Rotary position embedding of the first `dims` features of `[batch, heads, length, head_dim]`,
/// with the periods base^(2i/dims), or `freqs` `[dims / 2]` without a base.
pub fn rope(
    x: &Array,
    dims: i32,
    traditional: bool,
    base: Option<f32>,
    scale: f32,
    offset: i32,
    freqs: Option<&Array>,
) -> Result<Array> {
    let base =
        mlx_sys::mlx_optional_float { value: base.unwrap_or(0.0), has_value: base.is_some() };
    op!(mlx_fast_rope(x.as_ptr(), dims, traditional, base, scale, offset, optional(freqs)))
}

/// Which keys a query sees.
#[derive(Debug, Clone)]
pub enum Mask {
    /// All of them.
    None,
    /// Those at its own position and before; the last query is aligned with the last key.
    Causal,
    /// Those where the array, broadcast to `[batch, heads, queries, keys]`, is true; numbers are
    /// added to the scores.
    Array(Array),
}

/// softmax(scale · q kᵀ + mask) v with grouped-query heads.
///
/// `queries` are `[batch, heads, length, head_dim]`, `keys` and `values`
/// `[batch, kv_heads, keys, head_dim]`, `sinks` `[heads]` (Xiao et al. 2023).
pub fn scaled_dot_product_attention(
    queries: &Array,
    keys: &Array,
    values: &Array,
    scale: f32,
    mask: &Mask,
    sinks: Option<&Array>,
) -> Result<Array> {
    let (mode, array): (&CStr, _) = match mask {
        Mask::None => (c"", None),
        Mask::Causal => (c"causal", None),
        Mask::Array(array) => (c"array", Some(array)),
    };
    op!(mlx_fast_scaled_dot_product_attention(
        queries.as_ptr(),
        keys.as_ptr(),
        values.as_ptr(),
        scale,
        mode.as_ptr(),
        optional(array),
        optional(sinks),
        false
    ))
}
