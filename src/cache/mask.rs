//! Boolean attention masks for the cases that attention's own causal mode does not cover.

use crate::error::Result;
use crate::fused::attention::causal_mask;
use crate::mlx::{Array, Dtype, ops};

/// `[length, offset + length]`: each of `length` queries, the first at position `offset`, sees the
/// positions up to its own: of these at most the last `window`, and always the first `keep`.
pub(super) fn causal(length: i32, offset: i32, window: Option<i32>, keep: i32) -> Result<Array> {
    let mut seen = causal_mask(length, offset)?;
    if let Some(window) = window {
        let queries = ops::arange(offset, offset + length, Dtype::Int32)?;
        let queries = ops::reshape(&queries, &[length, 1])?;
        let keys = ops::arange(0, offset + length, Dtype::Int32)?;
        let reach = ops::add(&keys, &Array::from_int(window))?;
        let mut near = ops::less(&queries, &reach)?;
        if keep > 0 {
            near = ops::logical_or(&near, &ops::less(&keys, &Array::from_int(keep))?)?;
        }
        seen = ops::logical_and(&seen, &near)?;
    }
    Ok(seen)
}

/// `[length, …]` over the keys from the start of the first query's chunk on: each of `length`
/// queries, the first at position `offset`, sees those of its own chunk up to itself.
pub(super) fn chunked(length: i32, offset: i32, chunk: i32) -> Result<Array> {
    let end = offset + length;
    let queries = ops::arange(offset, end, Dtype::Int32)?;
    let queries = ops::reshape(&queries, &[length, 1])?;
    let keys = ops::arange(offset / chunk * chunk, end, Dtype::Int32)?;
    let size = Array::from_int(chunk);
    // The start of a query's chunk.
    let first = ops::multiply(&ops::floor_divide(&queries, &size)?, &size)?;
    ops::logical_and(&ops::greater_equal(&queries, &keys)?, &ops::greater_equal(&keys, &first)?)
}
