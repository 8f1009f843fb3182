//! Rows of an embedding table.

use super::cpu;
use super::device::{Backend, Device};
use super::linear::{Matrix, quantized_rows_plain};
use crate::error::Result;
use crate::mlx::{Array, Dtype, ops};

/// What an adapter adds to token embeddings.
#[derive(Debug)]
pub enum EmbeddingAddition {
    /// A product of low rank.
    LowRank(LowRankRows),
    /// Another table, `[vocabulary, dims]`, also where it is the output head.
    Replaced(Matrix),
}

/// A table of low rank: rows · up.
#[derive(Debug)]
pub struct LowRankRows {
    /// `[vocabulary, rank]`.
    pub rows: Array,
    /// `[rank, dims]`, times the adapter's scale.
    pub up: Array,
    /// Whether the same is added where the table is the output head.
    pub head: bool,
}

impl LowRankRows {
    /// Adds the rows of `tokens` to embeddings, `[…, dims]`.
    pub fn add_rows(&self, embeddings: &Array, tokens: &Array) -> Result<Array> {
        let added = ops::matmul(&ops::take(&self.rows, tokens, 0)?, &self.up)?;
        ops::add(embeddings, &ops::astype(&added, embeddings.dtype())?)
    }

    /// Adds to logits, `[…, vocabulary]`, what the table as the head gives of `x`.
    pub fn add_logits(&self, logits: &Array, x: &Array) -> Result<Array> {
        let x = ops::matmul(x, &ops::transpose(&self.up, &[1, 0])?)?;
        let added = ops::matmul(&x, &ops::transpose(&self.rows, &[1, 0])?)?;
        ops::add(logits, &ops::astype(&added, logits.dtype())?)
    }
}

/// The rows that `tokens`, `uint32`, name: `[…]` to `[…, dims]`, of type `dtype` if that is given.
pub fn embedding(
    device: Device,
    table: &Matrix,
    tokens: &Array,
    dtype: Option<Dtype>,
) -> Result<Array> {
    match table {
        // The table may be stored in another type than that of activations: the rows are cast, not
        // it.
        Matrix::Dense { weight, .. } => {
            let rows = ops::take(weight, tokens, 0)?;
            dtype.map_or(Ok(rows.clone()), |dtype| ops::astype(&rows, dtype))
        }
        Matrix::Adjusted(table) => {
            let rows = match table.is_only_rotated() {
                true => table.rows(tokens)?,
                false => ops::take(&table.dequantize()?, tokens, 0)?,
            };
            dtype.map_or(Ok(rows.clone()), |dtype| ops::astype(&rows, dtype))
        }
        Matrix::Quantized(table) => match device.backend_of(table.dtype) {
            Backend::Cpu(options) => cpu::products::quantized_rows(options, table, tokens),
            Backend::Mlx | Backend::Plain => quantized_rows_plain(table, tokens),
        },
    }
}
