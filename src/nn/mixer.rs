//! What lets a position see others: attention, and what takes its place.

use std::fmt::Debug;

use super::residual::Input;
use super::rows::Rows;
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::Array;

/// A block that mixes the positions of a sequence, with its state in its cache.
pub trait Mixer: Debug {
    /// The new positions of all rows, `[batch, length, dims]`, to the same shape; the cache of each
    /// row takes its own.
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array>;

    /// An empty cache.
    fn make_cache(&self) -> Cache;
}
