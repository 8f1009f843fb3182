//! Scaled dot-product attention over what a cache holds.

use super::decoder::{scaled, soft_cap};
use crate::cache::{self, Rows};
use crate::error::Result;
use crate::mlx::fast::{Mask, Scores};
use crate::mlx::quantized::{self, Packed};
use crate::mlx::{self, Array, fast, ops, scalar};

/// What `queries` `[batch, heads, length, head_dim]` find in the keys and values that they may see: the
/// same shape. Packed ones are read as they are on a GPU, where the transfer of numbers is what takes the
/// time; elsewhere, and for sinks, they are unpacked before.
pub(super) fn attend(
    queries: &Array,
    keys: &Rows,
    values: &Rows,
    mask: &Mask,
    scores: &Scores,
) -> Result<Array> {
    let packed = matches!(keys, Rows::Packed(_));
    if packed && scores.sinks.is_none() && mlx::on_gpu() {
        return explicit(queries, keys, values, mask, scores);
    }
    let (keys, values) = (keys.unpacked()?, values.unpacked()?);
    let Scores { scale, cap, sinks } = *scores;
    let Some(cap) = cap else {
        return fast::attention(queries, &keys, &values, scale, mask, sinks);
    };
    match fast::capped_attention(queries, &keys, &values, scale, mask, cap)? {
        Some(attended) => Ok(attended),
        None => explicit(queries, &Rows::Plain(keys), &Rows::Plain(values), mask, scores),
    }
}

/// Scores, soft-max and sum one by one, for what no fused kernel does: packed keys and values, and
/// bounded scores.
fn explicit(
    queries: &Array,
    keys: &Rows,
    values: &Rows,
    mask: &Mask,
    scores: &Scores,
) -> Result<Array> {
    let (batch, heads, length, head_dim) =
        (queries.dim(0), queries.dim(1), queries.dim(2), queries.dim(3));
    let kv_heads = keys.arrays()[0].dim(1);
    let groups = [batch, kv_heads, heads / kv_heads, length, head_dim];
    let queries = ops::reshape(&scaled(queries, scores.scale)?, &groups)?;
    let mut products = match keys {
        Rows::Plain(keys) => {
            ops::matmul(&queries, &ops::swap_axes(&ops::expand_dims(keys, 2)?, -1, -2)?)
        }
        Rows::Packed(keys) => quantized::batched_matmul(&queries, &for_each_group(keys)?, true),
    }?;
    if let Some(cap) = scores.cap {
        products = soft_cap(&products, cap)?;
    }
    let weights = ops::softmax(&masked(&products, mask)?, -1, true)?;
    let attended = match values {
        Rows::Plain(values) => ops::matmul(&weights, &ops::expand_dims(values, 2)?),
        Rows::Packed(values) => {
            quantized::batched_matmul(&weights, &for_each_group(values)?, false)
        }
    }?;
    ops::reshape(&attended, &[batch, heads, length, head_dim])
}

/// Scores `[…, length, seen]` with −∞ where the mask hides a position.
pub(super) fn masked(scores: &Array, mask: &Mask) -> Result<Array> {
    let (length, seen) = (scores.dim(-2), scores.dim(-1));
    let mask = match mask {
        Mask::None => return Ok(scores.clone()),
        Mask::Causal => cache::causal_mask(length, seen - length)?,
        Mask::Array(mask) => mask.clone(),
    };
    let nothing = ops::astype(&scalar(f32::NEG_INFINITY), scores.dtype())?;
    ops::select(&mask, scores, &nothing)
}

/// The same for all query heads of a group: `[batch, kv_heads, 1, length, …]`.
fn for_each_group(packed: &Packed) -> Result<Packed> {
    Ok(Packed {
        weight: ops::expand_dims(&packed.weight, 2)?,
        scales: ops::expand_dims(&packed.scales, 2)?,
        biases: packed.biases.as_ref().map(|biases| ops::expand_dims(biases, 2)).transpose()?,
        format: packed.format,
        dtype: packed.dtype,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::cache::Packing;
    use crate::mlx::{DeviceKind, Precision};

    fn numbers(shape: &[i32], seed: i32) -> Array {
        let count: i32 = shape.iter().product();
        let values: Vec<f32> =
            (0..count).map(|i| (((i * 37 + seed * 101) % 211) as f32 - 105.0) / 70.0).collect();
        mlx::from_f32(&values, shape)
    }

    #[test]
    fn packed_keys_and_values_are_read_as_they_would_be_unpacked() {
        mlx::enter(DeviceKind::Cpu).unwrap();
        mlx::set_precision(Precision::Exact);
        let queries = numbers(&[2, 4, 3, 64], 1);
        for bits in [4, 8] {
            let packing = Some(Packing { group_size: Some(32), bits });
            let keys = Rows::new(&numbers(&[2, 2, 7, 64], 2), packing).unwrap();
            let values = Rows::new(&numbers(&[2, 2, 7, 64], 3), packing).unwrap();
            for (mask, cap) in [(Mask::None, None), (Mask::Causal, None), (Mask::Causal, Some(5.0))]
            {
                let scores = Scores { scale: 0.125, cap, sinks: None };
                let read = explicit(&queries, &keys, &values, &mask, &scores).unwrap();
                let unpacked = [&keys, &values].map(|rows| Rows::Plain(rows.unpacked().unwrap()));
                let expected =
                    explicit(&queries, &unpacked[0], &unpacked[1], &mask, &scores).unwrap();
                let (read, expected) =
                    (mlx::to_f32_vec(&read).unwrap(), mlx::to_f32_vec(&expected).unwrap());
                let worst = read.iter().zip(&expected).map(|(a, b)| (a - b).abs());
                assert!(worst.fold(0.0, f32::max) < 1e-5);
            }
        }
    }
}
