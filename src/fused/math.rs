//! Small compositions that several operations share.

use crate::error::Result;
use crate::mlx::{Array, Dtype, ops, scalar};

/// `x` times a number of its own type.
pub fn scaled(x: &Array, factor: f32) -> Result<Array> {
    ops::multiply(x, &ops::astype(&scalar(factor), x.dtype())?)
}

/// ln(1 + eˣ), of the type of `x`.
pub fn softplus(x: &Array) -> Result<Array> {
    let precise = ops::astype(x, Dtype::Float32)?;
    ops::astype(&ops::log_add_exp(&precise, &scalar(0.0))?, x.dtype())
}

/// What a cache has kept, which may have another type where it was read from a file; zeros before
/// the first position.
pub fn kept_or_zeros(kept: Option<&Array>, shape: &[i32], dtype: Dtype) -> Result<Array> {
    match kept {
        Some(kept) => ops::astype(kept, dtype),
        None => ops::zeros(shape, dtype),
    }
}

/// cap · tanh(x / cap).
pub fn soft_cap(x: &Array, cap: f32) -> Result<Array> {
    scaled(&ops::tanh(&scaled(x, cap.recip())?)?, cap)
}
