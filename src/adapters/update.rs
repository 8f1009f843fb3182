//! What adapters do to modules.

use std::collections::BTreeMap;

use crate::mlx::Array;

/// What an adapter does to one module.
pub struct Module {
    /// Its path as the adapter writes it.
    pub name: String,
    /// What becomes of it.
    pub update: Update,
}

/// What becomes of a module.
pub enum Update {
    /// W + up · down.
    LowRank(LowRank),
    /// The same for the matrix of each expert.
    Experts {
        /// `[experts, rank, inputs]`.
        down: Array,
        /// `[experts, outputs, rank]`, times the scale.
        up: Array,
    },
    /// The same for some of the experts, each by itself.
    SingleExperts(BTreeMap<usize, LowRank>),
    /// Other weights.
    Replaced {
        /// As the module has it.
        weight: Array,
        /// `[outputs]`.
        bias: Option<Array>,
    },
}

/// up · down, a matrix of low rank.
pub struct LowRank {
    /// `[rank, inputs]`.
    pub down: Array,
    /// `[outputs, rank]`, times the scale.
    pub up: Array,
    /// With DoRA: the norms of the rows of the adapted matrix, `[outputs]`.
    pub magnitude: Option<Array>,
    /// Whether a table of embeddings is changed also where it is the output head.
    pub in_head: bool,
}

impl LowRank {
    /// The rank.
    pub fn rank(&self) -> i32 {
        self.down.dim(0)
    }
}
