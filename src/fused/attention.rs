//! Multi-head attention with grouped key/value heads (Ainslie et al. 2023): from the projections of
//! new positions to the outputs of a layer, and its inner part, scaled dot-product attention.

use std::cell::RefCell;

use super::cpu;
use super::cuda;
use super::device::{Backend, Device};
use super::kv::{KvCache, KvTensor};
use super::linear::{LinearWeights, linear};
use super::math::{scaled, soft_cap};
use super::norm::{NormParams, norm, rms_norm};
use super::rope::{RopeParams, rope};
use crate::error::Result;
use crate::mlx::fast::{self, Mask};
use crate::mlx::quantized;
use crate::mlx::{Array, DeviceKind, Dtype, ops, scalar};

/// New positions of all rows as the projections give them, one behind the other,
/// `[batch, length, heads · head_dim]` each.
#[derive(Debug)]
pub struct Qkv<'a> {
    /// Queries.
    pub queries: &'a Array,
    /// Keys.
    pub keys: &'a Array,
    /// Values.
    pub values: &'a Array,
    /// Multiplies what the layer attended to (Qiu et al. 2025).
    pub gate: Option<&'a Array>,
}

/// A row: a sequence, of which some positions are new.
#[derive(Debug)]
pub struct AttentionRow<'a, C> {
    /// How many positions are new.
    pub length: i32,
    /// The rotation of queries and keys; `None` for layers that do not look at positions.
    pub rope: Option<RopeParams>,
    /// Factors of the queries, `[length, 1]`; `None` for ones.
    pub query_scale: Option<Array>,
    /// Which positions the new ones see: of the cache as it was before it took them.
    pub mask: Mask,
    /// The keys and values of the positions before.
    pub cache: &'a mut C,
}

/// The weights and choices of an attention layer.
#[derive(Debug)]
pub struct AttentionParams {
    /// Query heads.
    pub heads: i32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: i32,
    /// Whether the queries of a key head are those of every `kv_heads`-th head, and not of heads
    /// that follow each other.
    pub interleaved_groups: bool,
    /// Features of a head's queries and keys.
    pub head_dim: i32,
    /// Features of a head's values.
    pub v_head_dim: i32,
    /// The norms of each head's queries and keys.
    pub qk_norm: Option<[NormParams; 2]>,
    /// Whether the rotation comes before these norms.
    pub rotate_first: bool,
    /// The epsilon of a root-mean-square norm over each head's values, without weights.
    pub v_norm: Option<f32>,
    /// The steps `[]` that keys and values are rounded to, to −128 to 127 of them (Jacob et al.
    /// 2018).
    pub kv_steps: Option<[Array; 2]>,
    /// Multiplies q kᵀ.
    pub scale: f32,
    /// Bounds what the soft-max sees: cap · tanh(scores / cap).
    pub soft_cap: Option<f32>,
    /// A score for each head of a key without a value, `[heads]` (Xiao et al. 2023).
    pub sinks: Option<Array>,
    /// The type in which keys and values are kept; `None` for as they come.
    pub kv_dtype: Option<Dtype>,
    /// The epsilon of a root-mean-square norm over what each head attended to, without weights.
    pub output_head_norm: Option<f32>,
    /// The norm over all heads of what the layer attended to (Wang et al. 2022, "Magneto").
    pub output_norm: Option<NormParams>,
    /// The output projection.
    pub output: LinearWeights,
}

impl AttentionParams {
    pub(super) fn scores(&self) -> Scores<'_> {
        Scores { scale: self.scale, soft_cap: self.soft_cap, sinks: self.sinks.as_ref() }
    }
}

/// The layer's outputs, `[batch, length, dims]`; the cache of each row takes its new positions.
pub fn attention<C: KvCache>(
    device: Device,
    new: &Qkv,
    mut rows: Vec<AttentionRow<C>>,
    params: &AttentionParams,
) -> Result<Array> {
    let gate = new.gate;
    if params.interleaved_groups {
        let (groups, each) = (params.kv_heads, params.heads / params.kv_heads);
        let queries = &swap_head_axes(new.queries, each, groups)?;
        let new = Qkv { queries, keys: new.keys, values: new.values, gate: None };
        let attended = attend(device, &new, &mut rows, params)?;
        let attended = swap_head_axes(&attended, groups, each)?;
        return project_output(device, attended, gate, params);
    }
    if let Backend::Cpu(options) = device.backend(new.queries)
        && cpu::attention::supports(new, &rows, params)
    {
        // What is normalized or gated in between is not multiplied with the projection at once.
        let normed = params.output_norm.is_some() || params.output_head_norm.is_some();
        let follows = gate.is_none() && !normed;
        let output = params.output.only_quantized().filter(|_| follows);
        let attended = cpu::attention::cached_attention(options, new, &mut rows, params, output)?;
        return match output {
            Some(_) => Ok(attended),
            None => project_output(device, attended, gate, params),
        };
    }
    let attended = attend(device, new, &mut rows, params)?;
    project_output(device, attended, gate, params)
}

/// Room in a cache for new positions, `[batch, length]`, before the layers that fill it: what is
/// then to be computed, with that of other layers. Nothing where that gains nothing.
pub fn make_room<C: KvCache>(
    device: Device,
    cache: &mut C,
    new: [i32; 2],
    dtype: Dtype,
    params: &AttentionParams,
) -> Result<Vec<Array>> {
    match device.cuda() {
        Some(_) => cuda::attention::make_room(cache, new, dtype, params),
        None => Ok(Vec::new()),
    }
}

/// What rows attend to, `[batch, length, heads · head_dim]`; `new` are their positions, whose gate
/// is left out.
fn attend<C: KvCache>(
    device: Device,
    new: &Qkv,
    rows: &mut [AttentionRow<C>],
    params: &AttentionParams,
) -> Result<Array> {
    if let Backend::Cpu(options) = device.backend(new.queries)
        && cpu::attention::supports(new, rows, params)
    {
        return cpu::attention::cached_attention(options, new, rows, params, None);
    }
    if let Some(card) = device.cuda()
        && let Some(attended) = cuda::attention::cached_attention(card, new, rows, params)?
    {
        return Ok(attended);
    }
    if let [row] = rows {
        return attend_plain(device, new, row, params);
    }
    // As many as a kernel takes; what it does not take, one by one.
    let most = cuda::attention::MOST_ROWS;
    let together = if rows.len() > most { most } else { 1 };
    let (mut start, mut attended) = (0, Vec::with_capacity(rows.len()));
    for rows in rows.chunks_mut(together) {
        let length: i32 = rows.iter().map(|row| row.length).sum();
        let own = |x: &Array| ops::slice_axis(x, 1, start, start + length);
        let (queries, keys, values) = (&own(new.queries)?, &own(new.keys)?, &own(new.values)?);
        start += length;
        attended.push(attend(device, &Qkv { queries, keys, values, gate: None }, rows, params)?);
    }
    ops::concatenate(&attended.iter().collect::<Vec<_>>(), 1)
}

/// The attention of one row, composed: `[batch, length, heads · head_dim]`.
fn attend_plain<C: KvCache>(
    device: Device,
    new: &Qkv,
    row: &mut AttentionRow<C>,
    params: &AttentionParams,
) -> Result<Array> {
    let AttentionRow { rope: rotation, query_scale, mask, cache, .. } = row;
    let AttentionParams { heads, kv_heads, .. } = *params;
    let mut queries = split_heads(new.queries, heads)?;
    let mut keys = split_heads(new.keys, kv_heads)?;
    let mut values = split_heads(new.values, kv_heads)?;
    if params.rotate_first
        && let Some(params) = rotation
    {
        queries = rope(device, &queries, params)?;
        keys = rope(device, &keys, params)?;
    }
    if let Some([q_norm, k_norm]) = &params.qk_norm {
        queries = norm(device, &queries, q_norm)?;
        keys = norm(device, &keys, k_norm)?;
    }
    if let Some(eps) = params.v_norm {
        values = rms_norm(device, &values, None, eps)?;
    }
    if !params.rotate_first
        && let Some(params) = rotation
    {
        queries = rope(device, &queries, params)?;
        keys = rope(device, &keys, params)?;
    }
    if let Some(factors) = query_scale {
        queries = ops::astype(&ops::multiply(&queries, factors)?, queries.dtype())?;
    }
    if let Some([key_step, value_step]) = &params.kv_steps {
        (keys, values) = (in_steps(&keys, key_step)?, in_steps(&values, value_step)?);
    }
    if let Some(dtype) = params.kv_dtype {
        (keys, values) = (ops::astype(&keys, dtype)?, ops::astype(&values, dtype)?);
    }
    let (keys, values) = cache.update_and_fetch(&keys, &values)?;
    join_heads(&cached_attention(device, &queries, &keys, &values, mask, &params.scores())?)
}

/// x as −128 to 127 steps.
fn in_steps(x: &Array, step: &Array) -> Result<Array> {
    let step = ops::astype(step, Dtype::Float32)?;
    let count = ops::round(&ops::divide(&ops::astype(x, Dtype::Float32)?, &step)?)?;
    let count = ops::minimum(&ops::maximum(&count, &scalar(-128.0))?, &scalar(127.0))?;
    ops::astype(&ops::multiply(&count, &step)?, x.dtype())
}

fn project_output(
    device: Device,
    mut attended: Array,
    gate: Option<&Array>,
    params: &AttentionParams,
) -> Result<Array> {
    if let Some(eps) = params.output_head_norm {
        let by_head = [attended.dim(0), attended.dim(1), params.heads, params.v_head_dim];
        let normed = rms_norm(device, &ops::reshape(&attended, &by_head)?, None, eps)?;
        attended = ops::reshape(&normed, attended.shape())?;
    }
    if let Some(output_norm) = &params.output_norm {
        attended = norm(device, &attended, output_norm)?;
    }
    if let Some(gate) = gate {
        attended = ops::multiply(&attended, gate)?;
    }
    linear(device, &attended, &params.output)
}

/// `[batch, length, outer · inner · head_dim]` to `[batch, length, inner · outer · head_dim]`.
fn swap_head_axes(x: &Array, outer: i32, inner: i32) -> Result<Array> {
    let by_head = [x.dim(0), x.dim(1), outer, inner, x.dim(2) / (outer * inner)];
    let swapped = ops::swap_axes(&ops::reshape(x, &by_head)?, 2, 3)?;
    ops::reshape(&swapped, x.shape())
}

/// `[batch, length, heads · head_dim]` to `[batch, heads, length, head_dim]`.
pub fn split_heads(x: &Array, heads: i32) -> Result<Array> {
    let (batch, length, head_dim) = (x.dim(0), x.dim(1), x.dim(2) / heads);
    if length == 1 {
        return ops::reshape(x, &[batch, heads, 1, head_dim]);
    }
    ops::transpose(&ops::reshape(x, &[batch, length, heads, head_dim])?, &[0, 2, 1, 3])
}

/// `[batch, heads, length, head_dim]` to `[batch, length, heads · head_dim]`.
pub fn join_heads(x: &Array) -> Result<Array> {
    let (batch, heads, length, head_dim) = (x.dim(0), x.dim(1), x.dim(2), x.dim(3));
    // A single token's heads lie in output order already: a reshape, no transposition.
    let ordered = if length == 1 { x.clone() } else { ops::transpose(x, &[0, 2, 1, 3])? };
    ops::reshape(&ordered, &[batch, length, heads * head_dim])
}

/// How the products of queries and keys become scores.
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a> {
    /// Multiplies q kᵀ.
    pub scale: f32,
    /// Bounds the scores, before the mask: cap · tanh(score / cap).
    pub soft_cap: Option<f32>,
    /// A score for each head of a key without a value, `[heads]`.
    pub sinks: Option<&'a Array>,
}

impl Scores<'_> {
    /// With a factor alone.
    pub fn scaled(scale: f32) -> Self {
        Self { scale, soft_cap: None, sinks: None }
    }
}

/// softmax(scale · q kᵀ + mask) v with grouped-query heads: `queries` are
/// `[batch, heads, length, head_dim]`, `keys` and `values` `[batch, kv_heads, seen, head_dim]`.
pub fn scaled_dot_product_attention(
    device: Device,
    queries: &Array,
    keys: &Array,
    values: &Array,
    mask: &Mask,
    scores: &Scores,
) -> Result<Array> {
    match device.backend(queries) {
        Backend::Cpu(options) if cpu::attention::reads(keys, values, mask) => {
            cpu::attention::scaled_dot_product_attention(
                options, queries, keys, values, mask, scores,
            )
        }
        Backend::Cpu(_) | Backend::Mlx
            if scores.soft_cap.is_none() && !is_sooner_composed(device, queries, keys) =>
        {
            let Scores { scale, sinks, .. } = *scores;
            fast::scaled_dot_product_attention(queries, keys, values, scale, mask, sinks)
        }
        _ => {
            let (keys, values) = (KvTensor::Plain(keys.clone()), KvTensor::Plain(values.clone()));
            scaled_dot_product_attention_plain(queries, &keys, &values, mask, scores)
        }
    }
}

/// Whether a card gives the attention of a few positions sooner by products and a soft-max: for
/// each pair of lengths that it has not seen, cuDNN takes some 70 ms to plan its kernel.
fn is_sooner_composed(device: Device, queries: &Array, keys: &Array) -> bool {
    const FEW_SCORES: i64 = 512 * 1024;
    let (length, seen) = (queries.dim(2), keys.dim(2));
    length > 1 && i64::from(length) * i64::from(seen) <= FEW_SCORES && device.cuda().is_some()
}

/// [`scaled_dot_product_attention`] to what a cache holds. Metal reads quantized keys and values as
/// they are, as the transfer of numbers is what takes the time there; MLX's products on a CUDA card
/// do not take the part of a buffer that is filled.
pub fn cached_attention(
    device: Device,
    queries: &Array,
    keys: &KvTensor,
    values: &KvTensor,
    mask: &Mask,
    scores: &Scores,
) -> Result<Array> {
    let quantized = matches!(keys, KvTensor::Quantized(_));
    let is_metal = device.kind == DeviceKind::Gpu && cfg!(target_os = "macos");
    if quantized && scores.sinks.is_none() && is_metal {
        return scaled_dot_product_attention_plain(queries, keys, values, mask, scores);
    }
    let (keys, values) = (keys.dequantized()?, values.dequantized()?);
    scaled_dot_product_attention(device, queries, &keys, &values, mask, scores)
}

/// [`cached_attention`], composed.
pub fn scaled_dot_product_attention_plain(
    queries: &Array,
    keys: &KvTensor,
    values: &KvTensor,
    mask: &Mask,
    scores: &Scores,
) -> Result<Array> {
    let (batch, heads, length, head_dim) =
        (queries.dim(0), queries.dim(1), queries.dim(2), queries.dim(3));
    let kv_heads = keys.arrays()[0].dim(1);
    // The queries of a group are rows of one product.
    let rows = heads / kv_heads * length;
    let queries = scaled(queries, scores.scale)?;
    let queries = ops::reshape(&queries, &[batch, kv_heads, rows, head_dim])?;
    let mut products = match keys {
        KvTensor::Plain(keys) => ops::matmul(&queries, &ops::swap_axes(keys, -1, -2)?),
        KvTensor::Quantized(keys) => quantized::matmul(&queries, keys, true),
    }?;
    if let Some(cap) = scores.soft_cap {
        products = soft_cap(&products, cap)?;
    }
    let flat = [batch, heads, length, products.dim(-1)];
    let products = masked(&ops::reshape(&products, &flat)?, mask)?;
    let weights = match scores.sinks {
        Some(sinks) => softmax_with_sinks(&products, sinks)?,
        None => ops::softmax(&products, -1, true)?,
    };
    let weights = ops::reshape(&weights, &[batch, kv_heads, rows, flat[3]])?;
    let attended = match values {
        KvTensor::Plain(values) => ops::matmul(&weights, values),
        KvTensor::Quantized(values) => quantized::matmul(&weights, values, false),
    }?;
    ops::reshape(&attended, &[batch, heads, length, attended.dim(-1)])
}

/// The soft-max of scores `[batch, heads, length, seen]` and of a score for each head beside them,
/// whose weight is left out.
fn softmax_with_sinks(scores: &Array, sinks: &Array) -> Result<Array> {
    let (batch, heads, length, seen) = (scores.dim(0), scores.dim(1), scores.dim(2), scores.dim(3));
    let sinks = ops::reshape(&ops::astype(sinks, scores.dtype())?, &[1, heads, 1, 1])?;
    let sinks = ops::broadcast_to(&sinks, &[batch, heads, length, 1])?;
    let weights = ops::softmax(&ops::concatenate(&[scores, &sinks], -1)?, -1, true)?;
    ops::slice_axis(&weights, 3, 0, seen)
}

/// Scores `[…, length, seen]` with −∞ where the mask hides a position, and a mask of numbers added.
pub fn masked(scores: &Array, mask: &Mask) -> Result<Array> {
    let (length, seen) = (scores.dim(-2), scores.dim(-1));
    let mask = match mask {
        Mask::None => return Ok(scores.clone()),
        Mask::Causal => shared_causal_mask(length, seen - length)?,
        Mask::Array(mask) => mask.clone(),
    };
    if mask.dtype() != Dtype::Bool {
        return ops::add(scores, &ops::astype(&mask, scores.dtype())?);
    }
    let nothing = ops::astype(&scalar(f32::NEG_INFINITY), scores.dtype())?;
    ops::select(&mask, scores, &nothing)
}

/// [`causal_mask`], the same array for all layers of a step.
fn shared_causal_mask(length: i32, offset: i32) -> Result<Array> {
    thread_local! {
        static LAST: RefCell<Option<([i32; 2], Array)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| match last {
        Some((lengths, mask)) if *lengths == [length, offset] => Ok(mask.clone()),
        _ => {
            let mask = causal_mask(length, offset)?;
            *last = Some(([length, offset], mask.clone()));
            Ok(mask)
        }
    })
}

/// `[length, offset + length]`: each of `length` queries, the first at position `offset`, sees the
/// positions up to its own.
pub fn causal_mask(length: i32, offset: i32) -> Result<Array> {
    let queries = ops::arange(offset, offset + length, Dtype::Int32)?;
    let keys = ops::arange(0, offset + length, Dtype::Int32)?;
    ops::greater_equal(&ops::reshape(&queries, &[length, 1])?, &keys)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::quantized::{Mode, QuantizationParams, quantize};
    use crate::mlx::{enter, from_f32, to_f32_vec};

    fn numbers(shape: &[i32], seed: i32) -> Array {
        let count: i32 = shape.iter().product();
        let values: Vec<f32> =
            (0..count).map(|i| (((i * 37 + seed * 101) % 211) as f32 - 105.0) / 70.0).collect();
        from_f32(&values, shape)
    }

    #[track_caller]
    fn assert_close(actual: &Array, expected: &Array) {
        assert_eq!(actual.shape(), expected.shape());
        let (actual, expected) = (to_f32_vec(actual).unwrap(), to_f32_vec(expected).unwrap());
        let worst = actual.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "{worst}");
    }

    #[test]
    fn quantized_keys_and_values_are_read_as_their_numbers_would_be() {
        enter(DeviceKind::Cpu).unwrap();
        let queries = numbers(&[2, 4, 3, 64], 1);
        for bits in [4, 8] {
            let params = QuantizationParams { mode: Mode::Affine, group_size: 32, bits };
            let [keys, values] = [2, 3].map(|seed| {
                KvTensor::Quantized(quantize(&numbers(&[2, 2, 7, 64], seed), params).unwrap())
            });
            for (mask, soft_cap) in
                [(Mask::None, None), (Mask::Causal, None), (Mask::Causal, Some(5.0))]
            {
                let scores = Scores { scale: 0.125, soft_cap, sinks: None };
                let attend = |keys: &KvTensor, values: &KvTensor| {
                    scaled_dot_product_attention_plain(&queries, keys, values, &mask, &scores)
                };
                let plain = |x: &KvTensor| KvTensor::Plain(x.dequantized().unwrap());
                let expected = attend(&plain(&keys), &plain(&values)).unwrap();
                assert_close(&attend(&keys, &values).unwrap(), &expected);
            }
        }
    }

    #[test]
    fn sinks_and_masks_of_numbers_are_as_in_mlx_and_the_kernels() {
        enter(DeviceKind::Cpu).unwrap();
        let (queries, sinks) = (numbers(&[2, 4, 3, 64], 1), numbers(&[4], 4));
        let [keys, values] = [2, 3].map(|seed| numbers(&[2, 2, 7, 64], seed));
        let added = Mask::Array(numbers(&[2, 1, 3, 7], 5));
        for (mask, sinks) in [(Mask::Causal, Some(&sinks)), (added, None)] {
            let scores = Scores { scale: 0.125, soft_cap: None, sinks };
            let attend = |device| {
                scaled_dot_product_attention(device, &queries, &keys, &values, &mask, &scores)
                    .unwrap()
            };
            let plain = attend(Device::default().plain());
            assert_close(&attend(Device::default()), &plain);
            let mlx =
                fast::scaled_dot_product_attention(&queries, &keys, &values, 0.125, &mask, sinks);
            assert_close(&mlx.unwrap(), &plain);
        }
    }
}
