//! Blocks whose outputs are multiplied before they are added to the residual stream.

use super::mixer::Mixer;
use super::mlp::FeedForward;
use super::residual::Input;
use super::rows::Rows;
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::math::scaled;
use crate::mlx::{Array, Dtype};

/// factor · block(x).
#[derive(Debug)]
pub struct ResidualScale<B: ?Sized> {
    factor: f32,
    block: Box<B>,
}

impl<B: ?Sized> ResidualScale<B> {
    /// The block's outputs times `factor`.
    pub fn new(factor: f32, block: Box<B>) -> Self {
        Self { factor, block }
    }
}

impl Mixer for ResidualScale<dyn Mixer> {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        scaled(&self.block.forward(x, rows)?, self.factor)
    }

    fn make_room(&self, rows: &mut Rows, batch: i32, dtype: Dtype) -> Result<Vec<Array>> {
        self.block.make_room(rows, batch, dtype)
    }

    fn make_cache(&self) -> Cache {
        self.block.make_cache()
    }
}

impl FeedForward for ResidualScale<dyn FeedForward> {
    fn forward(&self, x: &Input) -> Result<Array> {
        scaled(&self.block.forward(x)?, self.factor)
    }

    fn is_of_one_layer(&self) -> bool {
        self.block.is_of_one_layer()
    }
}
