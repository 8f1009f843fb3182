//! Rows of an embedding table.

use super::cpu;
use super::device::{Backend, Device};
use super::linear::Matrix;
use crate::error::Result;
use crate::mlx::quantized::{self, QuantizedTensor};
use crate::mlx::{Array, Dtype, ops};

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
            let rows = ops::take(&table.dequantize()?, tokens, 0)?;
            dtype.map_or(Ok(rows.clone()), |dtype| ops::astype(&rows, dtype))
        }
        Matrix::Quantized(table) => match device.backend_of(table.dtype) {
            Backend::Cpu(options) => cpu::products::quantized_rows(options, table, tokens),
            Backend::Mlx | Backend::Plain => quantized_rows_plain(table, tokens),
        },
    }
}

/// Rows of a quantized table, composed.
pub fn quantized_rows_plain(table: &QuantizedTensor, tokens: &Array) -> Result<Array> {
    let rows = |part: &Array| ops::take(part, tokens, 0);
    quantized::dequantize(&QuantizedTensor {
        weight: rows(&table.weight)?,
        scales: rows(&table.scales)?,
        biases: table.biases.as_ref().map(rows).transpose()?,
        ..*table
    })
}
