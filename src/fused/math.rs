//! Small compositions that several operations share.

use crate::error::Result;
use crate::mlx::{Array, ops, scalar};

/// `x` times a number of its own type.
pub fn scaled(x: &Array, factor: f32) -> Result<Array> {
    ops::multiply(x, &ops::astype(&scalar(factor), x.dtype())?)
}

/// cap · tanh(x / cap).
pub fn soft_cap(x: &Array, cap: f32) -> Result<Array> {
    scaled(&ops::tanh(&scaled(x, cap.recip())?)?, cap)
}
