//! Positions as a table of embeddings (Radford et al. 2018).

use super::embedding::Embedding;
use super::step::Step;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::mlx::{Array, from_u32};
use crate::weights::Weights;

/// An embedding for each position.
#[derive(Debug)]
pub struct LearnedPositions {
    table: Embedding,
    positions: i32,
    /// The row of the first position.
    first: i32,
}

impl LearnedPositions {
    /// Takes a table of so many positions, whose first has this row.
    pub fn new(w: &Weights, positions: i32, first: i32, dims: i32) -> Result<Self> {
        let table = Embedding::new(w, positions.saturating_add(first), dims)?;
        Ok(Self { table, positions, first })
    }

    /// Those of the new positions of a step, `[1, length, dims]`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] beyond the last position that the table has.
    pub fn forward(&self, step: &Step, caches: &[&mut [Cache]]) -> Result<Array> {
        let mut rows = Vec::new();
        for (row, caches) in step.rows().iter().zip(caches) {
            let offset = caches.first().map_or(0, Cache::offset);
            let end = offset + row.length;
            if end > self.positions {
                let message = format!("reach position {end}, and the model has {}", self.positions);
                return Err(Error::argument("tokens", message));
            }
            rows.extend((offset..end).map(|position| (position + self.first).unsigned_abs()));
        }
        self.table.forward(&from_u32(&rows, &[1, rows.len() as i32]))
    }
}
