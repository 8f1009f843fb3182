//! What lets a position see others: attention, and what takes its place.

use std::fmt::Debug;

use super::residual::Input;
use super::rows::Rows;
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::{Array, Dtype};

/// A block that mixes the positions of a sequence, with its state in its cache.
pub trait Mixer: Debug {
    /// The new positions of all rows, `[batch, length, dims]`, to the same shape; the cache of each
    /// row takes its own.
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array>;

    /// Room in the caches for the new positions of all rows, of `batch` and this type, where it is
    /// better made for all layers at once: what is then to be computed.
    fn make_room(&self, _rows: &mut Rows, _batch: i32, _dtype: Dtype) -> Result<Vec<Array>> {
        Ok(Vec::new())
    }

    /// An empty cache.
    fn make_cache(&self) -> Cache;
}
