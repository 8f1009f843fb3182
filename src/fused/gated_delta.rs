//! The heads of the gated delta net (Yang et al. 2024), between its convolution and its output
//! projection.

use super::activation::swiglu;
use super::cuda;
use super::delta_rule::DeltaRule;
use super::device::Device;
use super::math::{kept_or_zeros, scaled, softplus};
use super::norm::{NormParams, norm, rms_norm};
use crate::error::Result;
use crate::mlx::{Array, Dtype, ops};

/// The weights and sizes of the heads.
#[derive(Debug)]
pub struct GatedDeltaParams {
    /// Heads of queries and keys.
    pub key_heads: i32,
    /// Heads of values; a multiple of `key_heads`.
    pub value_heads: i32,
    /// Features of a query or key.
    pub key_dim: i32,
    /// Features of a value.
    pub value_dim: i32,
    /// x / √(Σ x² + 10⁻⁶), for queries over √key_dim, as norms of root-mean-squares.
    pub unit_norms: [NormParams; 2],
    /// `[value_heads]`, `f32`, as all numbers of the recurrence are: its errors add up.
    pub step_bias: Array,
    /// −exp(A_log), `[value_heads]`, `f32`.
    pub a: Array,
    /// The weight of the norm of y, `[value_dim]`.
    pub norm: Array,
    /// Its epsilon.
    pub eps: f32,
    /// Multiplies the rates.
    pub rate_scale: f32,
}

/// What is projected for new positions of one sequence.
#[derive(Debug)]
pub struct GatedDeltaInputs<'a> {
    /// Queries, keys and values behind the convolution,
    /// `[batch, length, 2 · key_heads · key_dim + value_heads · value_dim]`.
    pub mixed: &'a Array,
    /// b, `[batch, length, value_heads]`.
    pub rate: &'a Array,
    /// a, of the same shape.
    pub decay: &'a Array,
    /// z, `[batch, length, value_heads · value_dim]`.
    pub gate: &'a Array,
}

/// norm(y) · silu(z) of y = delta rule(q, k, v) with rates rate_scale · σ(b) and decays
/// exp(−exp(A_log) · softplus(a + dt_bias)), of the shape and type of z, and the state after the
/// last position, `[batch, value_heads, value_dim, key_dim]`, `f32`; `before` is the one before the
/// first, `None` for zeros.
pub fn gated_delta(
    device: Device,
    inputs: &GatedDeltaInputs,
    before: Option<&Array>,
    params: &GatedDeltaParams,
) -> Result<(Array, Array)> {
    let &GatedDeltaParams { value_heads, value_dim, key_dim, .. } = params;
    let state = [inputs.mixed.dim(0), value_heads, value_dim, key_dim];
    let before = kept_or_zeros(before, &state, Dtype::Float32)?;
    if device.cuda().is_some()
        && params.rate_scale == 1.0
        && let Some(result) = cuda::recurrence::gated_delta(inputs, &before, params)?
    {
        return Ok(result);
    }
    gated_delta_composed(device, inputs, &before, params)
}

/// [`gated_delta`], composed.
fn gated_delta_composed(
    device: Device,
    inputs: &GatedDeltaInputs,
    before: &Array,
    params: &GatedDeltaParams,
) -> Result<(Array, Array)> {
    let GatedDeltaInputs { mixed, rate, decay, gate } = *inputs;
    let &GatedDeltaParams { key_heads, value_heads, key_dim, value_dim, eps, .. } = params;
    let (batch, length) = (mixed.dim(0), mixed.dim(1));
    let (keys, group) = (key_heads * key_dim, value_heads / key_heads);
    let parts = ops::split_at(mixed, &[keys, 2 * keys], -1)?;
    let part = |index: usize, shape: &[i32]| {
        let part = ops::reshape(&parts[index], &[&[batch, length], shape].concat())?;
        ops::astype(&part, Dtype::Float32)
    };
    let by_key = |a: &Array| ops::reshape(a, &[batch, length, key_heads, group]);
    let mut rate = ops::sigmoid(&ops::astype(rate, Dtype::Float32)?)?;
    if params.rate_scale != 1.0 {
        rate = scaled(&rate, params.rate_scale)?;
    }
    let shifted = ops::add(&ops::astype(decay, Dtype::Float32)?, &params.step_bias)?;
    let log_decay = ops::multiply(&params.a, &softplus(&shifted)?)?;
    let [query_norm, key_norm] = &params.unit_norms;
    let rule = DeltaRule {
        queries: &norm(device, &part(0, &[key_heads, key_dim])?, query_norm)?,
        keys: &norm(device, &part(1, &[key_heads, key_dim])?, key_norm)?,
        values: &part(2, &[key_heads, group, value_dim])?,
        log_decay: &by_key(&log_decay)?,
        rate: &by_key(&rate)?,
    };
    let shape = [batch, key_heads, group, value_dim, key_dim];
    let (y, after) = rule.run(device, &ops::reshape(before, &shape)?)?;
    let y = ops::reshape(&y, &[batch, length, value_heads, value_dim])?;
    let normed = rms_norm(device, &y, Some(&params.norm), eps)?;
    let normed = ops::reshape(&normed, gate.shape())?;
    let gated = swiglu(device, &ops::astype(gate, normed.dtype())?, &normed)?;
    let after = ops::reshape(&after, &[batch, value_heads, value_dim, key_dim])?;
    Ok((ops::astype(&gated, gate.dtype())?, after))
}
