//! MLX's fused operations.

use std::ffi::CStr;

use super::call::{op, optional};
use super::quantized::Packed;
use super::{Array, kernels, ops, scalar};
pub use crate::cpu::activation::Activation;
pub use crate::cpu::experts::{Choice, Scoring};
use crate::error::Result;

/// x · wᵀ for a weight `[outputs, inputs]`; `turned` is the same, transposed.
pub fn linear(x: &Array, weight: &Array, turned: &Array) -> Result<Array> {
    if kernels::take(x) && kernels::takes_weight(weight) {
        return kernels::linear(x, weight);
    }
    ops::matmul(x, turned)
}

/// Root-mean-square norm over the last axis: x / √(mean(x²) + eps) · weight.
pub fn rms_norm(x: &Array, weight: Option<&Array>, eps: f32) -> Result<Array> {
    if kernels::take(x) {
        return kernels::rms_norm(x, weight, eps);
    }
    op!(mlx_fast_rms_norm(x.as_ptr(), optional(weight), eps))
}

/// x + delta, or x where there is no delta, and its [`rms_norm`].
#[derive(Debug, Clone, Copy)]
pub struct NormedSum<'a> {
    /// Rows.
    pub x: &'a Array,
    /// Of the same shape.
    pub delta: Option<&'a Array>,
    /// `[last axis]`, if the norm has one.
    pub weight: Option<&'a Array>,
    /// Keeps the root away from 0.
    pub eps: f32,
}

impl NormedSum<'_> {
    /// The sum, and its norm.
    pub fn compute(&self) -> Result<[Array; 2]> {
        let Self { x, delta, weight, eps } = *self;
        let Some(delta) = delta else { return Ok([x.clone(), rms_norm(x, weight, eps)?]) };
        if self.fits_kernels() {
            return kernels::add_rms_norm(x, delta, weight, eps);
        }
        let sum = ops::add(x, delta)?;
        let normed = rms_norm(&sum, weight, eps)?;
        Ok([sum, normed])
    }

    /// Whether kernels can take the rows.
    pub(super) fn fits_kernels(&self) -> bool {
        let Self { x, delta, .. } = self;
        let fits = |delta: &&Array| kernels::take(delta) && x.shape() == delta.shape();
        kernels::take(x) && delta.as_ref().is_none_or(fits)
    }
}

/// Layer norm over the last axis: (x − mean) / √(var + eps) · weight + bias.
pub fn layer_norm(
    x: &Array,
    weight: Option<&Array>,
    bias: Option<&Array>,
    eps: f32,
) -> Result<Array> {
    op!(mlx_fast_layer_norm(x.as_ptr(), optional(weight), optional(bias), eps))
}

/// The angles of a rotary embedding.
#[derive(Debug, Clone)]
pub enum Frequencies {
    /// Wavelengths base^(2i/d).
    Base(f32),
    /// Explicit wavelengths, `[dims / 2]`, `f32`.
    Wavelengths(Array),
}

/// A rotary position embedding (Su et al. 2021).
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Features that are rotated, the first ones.
    pub dims: i32,
    /// Whether neighbouring features are rotated, not the two halves.
    pub traditional: bool,
    /// The angles.
    pub frequencies: Frequencies,
    /// Multiplies positions.
    pub scale: f32,
    /// Multiplies the rotated features.
    pub gain: f32,
    /// The first position; the others follow it.
    pub offset: i32,
}

impl Rotation {
    /// The wavelengths, where they are explicit.
    pub(super) fn wavelengths(&self) -> Option<&Array> {
        match &self.frequencies {
            Frequencies::Base(_) => None,
            Frequencies::Wavelengths(wavelengths) => Some(wavelengths),
        }
    }
}

/// Rotates `[batch, heads, length, head_dim]`.
pub fn rope(x: &Array, rotation: &Rotation) -> Result<Array> {
    if kernels::take(x) {
        return kernels::rope(x, rotation);
    }
    let Rotation { dims, traditional, ref frequencies, scale, gain, offset } = *rotation;
    let (base, freqs) = match frequencies {
        Frequencies::Base(base) => {
            (mlx_sys::mlx_optional_float { value: *base, has_value: true }, None)
        }
        Frequencies::Wavelengths(freqs) => {
            (mlx_sys::mlx_optional_float { value: 0.0, has_value: false }, Some(freqs))
        }
    };
    let scaled = if gain == 1.0 { x.clone() } else { scale_first(x, dims, gain)? };
    op!(mlx_fast_rope(scaled.as_ptr(), dims, traditional, base, scale, offset, optional(freqs)))
}

/// `x` with its first `dims` features multiplied.
fn scale_first(x: &Array, dims: i32, gain: f32) -> Result<Array> {
    let gain = ops::astype(&scalar(gain), x.dtype())?;
    if x.dim(-1) == dims {
        return ops::multiply(x, &gain);
    }
    let parts = ops::split_at(x, &[dims], -1)?;
    ops::concatenate(&[&ops::multiply(&parts[0], &gain)?, &parts[1]], -1)
}

/// Which keys a query may look at.
#[derive(Debug, Clone)]
pub enum Mask {
    /// All of them.
    None,
    /// Those at its own position and before; the last query is aligned with the last key.
    Causal,
    /// Those where the array, broadcast to `[batch, heads, queries, keys]`, is true.
    Array(Array),
}

/// How the products of queries and keys become scores.
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a> {
    /// Multiplies q kᵀ.
    pub scale: f32,
    /// Bounds the scores, before the mask: cap · tanh(score / cap).
    pub cap: Option<f32>,
    /// A score for each head of a key without a value, `[heads]` (Xiao et al. 2023).
    pub sinks: Option<&'a Array>,
}

/// Soft-max(scale · q kᵀ + mask) v with grouped-query heads.
///
/// `queries` is `[batch, heads, length, head_dim]`, `keys` and `values` are
/// `[batch, kv_heads, keys, head_dim]`. `sinks` are those of [`Scores`].
pub fn attention(
    queries: &Array,
    keys: &Array,
    values: &Array,
    scale: f32,
    mask: &Mask,
    sinks: Option<&Array>,
) -> Result<Array> {
    if kernels::take(queries) && kernels::takes_attention(keys, values, mask) {
        let scores = Scores { scale, cap: None, sinks };
        return kernels::attention(queries, keys, values, &scores, mask);
    }
    let (mode, array): (&CStr, _) = match mask {
        Mask::None => (c"", None),
        Mask::Causal => (c"causal", None),
        Mask::Array(array) => (c"array", Some(array)),
    };
    op!(mlx_fast_scaled_dot_product_attention(
        queries.as_ptr(),
        keys.as_ptr(),
        values.as_ptr(),
        scale,
        mode.as_ptr(),
        optional(array),
        optional(sinks),
        false
    ))
}

/// [`attention`] with scores bounded by cap · tanh(score / cap) before the mask; `None` where no fused kernel does
/// that.
pub fn capped_attention(
    queries: &Array,
    keys: &Array,
    values: &Array,
    scale: f32,
    mask: &Mask,
    cap: f32,
) -> Result<Option<Array>> {
    if kernels::take(queries) && kernels::takes_attention(keys, values, mask) {
        let scores = Scores { scale, cap: Some(cap), sinks: None };
        return kernels::attention(queries, keys, values, &scores, mask).map(Some);
    }
    Ok(None)
}

/// What is done to the vectors of each head before attention: a root-mean-square norm, then a rotation.
#[derive(Debug, Clone, Default)]
pub struct Preparation<'a> {
    /// The norm's weight, `[head_dim]`, if it has one, and its epsilon.
    pub norm: Option<(Option<&'a Array>, f32)>,
    /// The rotation.
    pub rope: Option<Rotation>,
}

/// New positions as projections give them, `[batch, length, heads · head_dim]` each.
#[derive(Debug)]
pub struct NewPositions<'a> {
    /// What looks.
    pub queries: &'a Array,
    /// What is looked at.
    pub keys: &'a Array,
    /// What is found there.
    pub values: &'a Array,
    /// What is done to the queries first.
    pub prepare_queries: Preparation<'a>,
    /// What is done to the keys first.
    pub prepare_keys: Preparation<'a>,
    /// The matrix with which what is found is multiplied, if there is one.
    pub output: Option<&'a Packed>,
}

/// Whether [`cached_attention`] can take these.
pub fn takes_positions(new: &NewPositions, mask: &Mask) -> bool {
    kernels::takes_positions(new, mask)
}

/// [`attention`] over a cache whose `buffers`, `[batch, kv_heads, capacity, head_dim]` for keys and for values, hold `start`
/// positions and have room for the new ones, which are written there first. Gives
/// `[batch, length, heads · head_dim]`, or as many outputs as the matrix has, and the buffers.
///
/// # Errors
/// [`Error::Mlx`](crate::error::Error::Mlx) when the shapes do not fit together.
pub fn cached_attention(
    new: &NewPositions,
    buffers: [Array; 2],
    start: i32,
    scores: &Scores,
    mask: &Mask,
) -> Result<(Array, [Array; 2])> {
    kernels::cached_attention(new, buffers, start, scores, mask)
}

/// activation(gate) · up; `None` where no fused kernel does that.
pub fn gated(activation: Activation, gate: &Array, up: &Array) -> Result<Option<Array>> {
    if kernels::take(gate) && kernels::take(up) {
        return kernels::gate(activation, gate, up).map(Some);
    }
    Ok(None)
}

/// The gated activation gate · σ(gate) · up (Shazeer 2020).
pub fn swiglu(gate: &Array, up: &Array) -> Result<Array> {
    if let Some(fused) = gated(Activation::Silu, gate, up)? {
        return Ok(fused);
    }
    ops::multiply(&ops::multiply(gate, &ops::sigmoid(gate)?)?, up)
}

/// The experts that a router's logits, `[…, experts]`, choose, and their weights, `[…, active]` each; `correction`, `[experts]`,
/// is added for the choice only. `None` where no fused kernel does that.
pub fn choose_experts(
    logits: &Array,
    correction: Option<&Array>,
    choice: Choice,
) -> Result<Option<[Array; 2]>> {
    if kernels::take(logits) && correction.is_none_or(kernels::take) {
        return kernels::choose_experts(logits, correction, choice).map(Some);
    }
    Ok(None)
}

/// A convolution of each channel by itself, over its own position and those before:
/// y\[t, c\] = act(Σₖ w\[k, c\] · x\[t + k, c\] + b\[c\]), act being x σ(x) with `silu`.
///
/// `x` is `[batch, kernel − 1 + length, channels]`, the weight `[kernel, channels]`; gives
/// `[batch, length, channels]`.
pub fn causal_conv(x: &Array, weight: &Array, bias: Option<&Array>, silu: bool) -> Result<Array> {
    if kernels::take(x) {
        return kernels::causal_conv(x, weight, bias, silu);
    }
    let (kernel, length) = (weight.dim(0), x.dim(1) - weight.dim(0) + 1);
    let mut y = if length == 1 {
        ops::sum(&ops::multiply(x, weight)?, 1)?
    } else {
        let channels = x.dim(2);
        let turned = ops::transpose(weight, &[1, 0])?;
        let turned = ops::reshape(&turned, &[channels, kernel, 1])?;
        op!(mlx_conv1d(x.as_ptr(), turned.as_ptr(), 1, 0, 1, channels))?
    };
    if let Some(bias) = bias {
        y = ops::add(&y, bias)?;
    }
    if silu { ops::multiply(&y, &ops::sigmoid(&y)?) } else { Ok(y) }
}

/// A recurrence over the positions whose state is a matrix for each head,
/// Sₜ = gₜ Sₜ₋₁ + δₜ kₜᵀ and yₜ = Sₜ qₜ: with δ = v the selective scan of Mamba 2 (Dao and Gu 2024),
/// with δ = β (v − gₜ Sₜ₋₁ kₜ) for `rates` β the gated delta rule (Yang et al. 2024).
///
/// Queries and keys are `[batch, length, groups, key_dim]`, values
/// `[batch, length, groups, heads, value_dim]`, log g and β `[batch, length, groups, heads]`, the state
/// `[batch, groups, heads, value_dim, key_dim]`. Gives y, of the shape of the values, and the last state;
/// `None` where no fused kernel does that.
pub fn recurrence(
    queries: &Array,
    keys: &Array,
    values: &Array,
    log_decay: &Array,
    rates: Option<&Array>,
    state: &Array,
) -> Result<Option<(Array, Array)>> {
    if kernels::take(values) {
        return kernels::recurrence([queries, keys, values, log_decay], rates, state).map(Some);
    }
    Ok(None)
}
