//! Token embeddings.

use super::linear::{computed, matrix};
use crate::error::Result;
use crate::fused::Device;
use crate::fused::adapter::Additions;
use crate::fused::embedding::{EmbeddingAddition, embedding};
use crate::fused::linear::{Matrix, matmul};
use crate::mlx::{Array, Dtype};
use crate::weights::Weights;

/// A table `[vocabulary, dims]`, dense or quantized, that can also serve as the output head.
#[derive(Debug)]
pub struct Embedding {
    table: Matrix,
    vocabulary: usize,
    dims: usize,
    /// The type of activations; `None` for the table's own.
    dtype: Option<Dtype>,
    additions: Additions<EmbeddingAddition>,
    device: Device,
}

impl Embedding {
    /// Takes `weight` (and `scales` and `biases`, where it is quantized).
    pub fn new(w: &Weights, vocabulary: i32, dims: i32) -> Result<Self> {
        let table = match matrix(w, dims, vocabulary)? {
            // Rows are taken from it, too.
            Matrix::Adjusted(adjusted) if !adjusted.is_only_rotated() => {
                Matrix::dense(computed(adjusted.dequantize()?)?)?
            }
            packed => packed,
        };
        let additions = w.embedding_site(vocabulary, dims);
        let [vocabulary, dims] = [vocabulary, dims].map(|size| size.unsigned_abs() as usize);
        let dtype = w.activations();
        Ok(Self { table, vocabulary, dims, dtype, additions, device: w.device() })
    }

    /// Rows of the table.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Features of a row.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Token ids `[batch, length]` to `[batch, length, dims]`.
    pub fn forward(&self, tokens: &Array) -> Result<Array> {
        let rows = |table| embedding(self.device, table, tokens, self.dtype);
        match self.additions.current().as_deref() {
            None => rows(&self.table),
            Some(EmbeddingAddition::Replaced(table)) => rows(table),
            Some(EmbeddingAddition::LowRank(addition)) => {
                addition.add_rows(&rows(&self.table)?, tokens)
            }
        }
    }

    /// What it runs with.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The table as the output head: `[…, dims]` to logits `[…, vocabulary]`.
    pub fn as_linear(&self, x: &Array) -> Result<Array> {
        match self.additions.current().as_deref() {
            Some(EmbeddingAddition::Replaced(table)) => matmul(self.device, x, table),
            Some(EmbeddingAddition::LowRank(addition)) if addition.head => {
                addition.add_logits(&matmul(self.device, x, &self.table)?, x)
            }
            _ => matmul(self.device, x, &self.table),
        }
    }
}
