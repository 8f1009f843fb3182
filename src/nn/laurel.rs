//! Learned augmented residuals (Menghani et al. 2025).

use super::linear::Linear;
use super::norm::Norm;
use crate::error::Result;
use crate::mlx::{Array, ops};
use crate::weights::Weights;

/// x + norm(right(left(x))) with matrices of low rank.
#[derive(Debug)]
pub struct Laurel {
    left: Linear,
    right: Linear,
    norm: Norm,
}

impl Laurel {
    /// Takes `linear_left`, `linear_right` and `post_laurel_norm`.
    pub fn new(w: &Weights, dims: i32, rank: i32, eps: f32) -> Result<Self> {
        Ok(Self {
            left: Linear::new(&w.at("linear_left"), dims, rank, false)?,
            right: Linear::new(&w.at("linear_right"), rank, dims, false)?,
            norm: Norm::rms(&w.at("post_laurel_norm"), dims, eps)?,
        })
    }

    /// `[batch, length, dims]` to the same shape.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        let low = self.right.forward(&self.left.forward(x)?)?;
        ops::add(x, &self.norm.forward(&low)?)
    }
}
