//! Token embeddings.

use super::linear::Matrix;
use crate::error::Result;
use crate::mlx::quantized;
use crate::mlx::{Array, Dtype, ops};
use crate::weights::Weights;

/// A table `[vocabulary, dims]`, dense or quantized, that can also serve as the output head.
#[derive(Debug)]
pub struct Embedding {
    table: Matrix,
    vocabulary: usize,
    /// The type of activations; `None` for the table's own.
    dtype: Option<Dtype>,
}

impl Embedding {
    /// Takes `weight` (and `scales` and `biases`, where it is quantized).
    pub fn new(w: &Weights, vocabulary: i32, dims: i32) -> Result<Self> {
        let table = Matrix::new(w, dims, vocabulary)?;
        let vocabulary = vocabulary.unsigned_abs() as usize;
        Ok(Self { table, vocabulary, dtype: w.activations() })
    }

    /// Rows of the table.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Token ids `[batch, length]` to `[batch, length, dims]`.
    pub fn forward(&self, tokens: &Array) -> Result<Array> {
        match &self.table {
            // The CPU keeps matrices as they are stored: the rows are cast, not the table.
            Matrix::Dense { stored, .. } => {
                let rows = ops::take(stored, tokens, 0)?;
                self.dtype.map_or(Ok(rows.clone()), |dtype| ops::astype(&rows, dtype))
            }
            Matrix::Quantized(packed) => quantized::rows(packed, tokens),
        }
    }

    /// The table as the output head: `[…, dims]` to logits `[…, vocabulary]`.
    pub fn as_linear(&self, x: &Array) -> Result<Array> {
        self.table.apply(x)
    }
}
