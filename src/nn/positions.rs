//! What is added to the embeddings of tokens for their positions.

use super::embedding::Embedding;
use super::step::Step;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, from_f32, from_u32, ops};
use crate::weights::Weights;

/// What is added for each position.
#[derive(Debug)]
pub enum Positions {
    /// A row of a table (Radford et al. 2018).
    Learned(LearnedPositions),
    /// Waves (Vaswani et al. 2017): the sines of all, and then their cosines.
    Waves {
        /// How fast each turns, `[1, features / 2]`, `f32`.
        speeds: Array,
        /// The number of the first position.
        first: i32,
    },
}

impl Positions {
    /// Waves of speeds from 1 to 1/10000, the first at position `first`; `dims` is even, and 4 or
    /// more.
    pub fn waves(dims: i32, first: i32) -> Self {
        Self::waves_in_steps(dims, dims / 2 - 1, first)
    }

    /// Waves of speeds from 1 on, of which 1/10000 would be that of number `steps`; `dims` is even.
    pub fn waves_in_steps(dims: i32, steps: i32, first: i32) -> Self {
        let half = dims / 2;
        let step = 10_000.0_f32.ln() / steps as f32;
        let speeds: Vec<_> = (0..half).map(|wave| (-step * wave as f32).exp()).collect();
        Self::Waves { speeds: from_f32(&speeds, &[1, half]), first }
    }

    /// Those of the new positions of a step, `[1, length, dims]`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] beyond the last position that a table has.
    pub fn forward(&self, step: &Step, caches: &[&mut [Cache]], dtype: Dtype) -> Result<Array> {
        let (speeds, first) = match self {
            Self::Learned(table) => return table.forward(step, caches),
            Self::Waves { speeds, first } => (speeds, *first),
        };
        let mut positions = Vec::new();
        for (row, caches) in step.rows().iter().zip(caches) {
            let offset = first + caches.first().map_or(0, Cache::offset);
            positions.extend((offset..offset + row.length).map(|position| position as f32));
        }
        let length = positions.len() as i32;
        let angles = ops::multiply(&from_f32(&positions, &[1, length, 1]), speeds)?;
        let waves = ops::concatenate(&[&ops::sin(&angles)?, &ops::cos(&angles)?], -1)?;
        ops::astype(&waves, dtype)
    }
}

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
