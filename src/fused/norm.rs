//! Normalization over the last axis, of an array or of a residual stream with what is still to be
//! added to it.

use super::device::{Backend, Device};
use super::{cpu, cuda};
use crate::error::Result;
use crate::mlx::{Array, Dtype, fast, ops, scalar};

/// A norm and its weights.
#[derive(Debug, Clone)]
pub enum NormParams {
    /// Root-mean-square norm (Zhang and Sennrich 2019): x / √(mean(x²) + eps) · weight.
    Rms {
        /// `[dims]`; `None` for ones.
        weight: Option<Array>,
        /// Keeps the root away from 0.
        eps: f32,
    },
    /// Layer norm (Ba et al. 2016): (x − mean) / √(var + eps) · weight + bias.
    Layer {
        /// `[dims]`.
        weight: Array,
        /// `[dims]`.
        bias: Option<Array>,
        /// Keeps the root away from 0.
        eps: f32,
    },
    /// Root-mean-square norm of what is multiplied before: x · weight / √(mean((x · weight)²) +
    /// eps).
    RmsOfScaled {
        /// `[dims]`.
        weight: Array,
        /// Keeps the root away from 0.
        eps: f32,
    },
    /// Root-mean-square norm of heads, each with a weight of its own.
    RmsPerHead {
        /// `[heads, 1, head_dim]`.
        weight: Array,
        /// Keeps the root away from 0.
        eps: f32,
    },
    /// Layer norm of heads, each with a weight of its own.
    LayerPerHead {
        /// `[heads, 1, head_dim]`.
        weight: Array,
        /// Keeps the root away from 0.
        eps: f32,
    },
}

impl NormParams {
    /// The weight, `[dims]`, if it has one, and the epsilon of a root-mean-square norm; `None` for a
    /// norm of another kind.
    pub(super) fn root_mean_square(&self) -> Option<(Option<&Array>, f32)> {
        match self {
            Self::Rms { weight, eps } => Some((weight.as_ref(), *eps)),
            Self::RmsOfScaled { .. }
            | Self::RmsPerHead { .. }
            | Self::Layer { .. }
            | Self::LayerPerHead { .. } => None,
        }
    }
}

/// `[…, dims]` to the same shape; with [`NormParams::RmsPerHead`] and
/// [`NormParams::LayerPerHead`] `[batch, heads, length, head_dim]`.
pub fn norm(device: Device, x: &Array, params: &NormParams) -> Result<Array> {
    match params {
        NormParams::Rms { weight, eps } => rms_norm(device, x, weight.as_ref(), *eps),
        NormParams::Layer { weight, bias, eps } => {
            layer_norm(device, x, Some(weight), bias.as_ref(), *eps)
        }
        NormParams::RmsOfScaled { weight, eps } => {
            let scaled = ops::astype(&ops::multiply(x, weight)?, x.dtype())?;
            rms_norm(device, &scaled, None, *eps)
        }
        NormParams::RmsPerHead { weight, eps } => {
            ops::multiply(&rms_norm(device, x, None, *eps)?, weight)
        }
        NormParams::LayerPerHead { weight, eps } => {
            ops::multiply(&layer_norm(device, x, None, None, *eps)?, weight)
        }
    }
}

/// x / √(mean(x²) + eps) · weight.
pub fn rms_norm(device: Device, x: &Array, weight: Option<&Array>, eps: f32) -> Result<Array> {
    match device.backend(x) {
        Backend::Cpu(options) => cpu::norm::rms_norm(options, x, weight, eps),
        Backend::Mlx => fast::rms_norm(x, weight, eps),
        Backend::Plain => rms_norm_plain(x, weight, eps),
    }
}

/// [`rms_norm`] of each of `groups` equal parts of the features `[batch, length, features]`.
pub fn rms_norm_of_groups(
    device: Device,
    x: &Array,
    weight: &Array,
    groups: i32,
    eps: f32,
) -> Result<Array> {
    let (batch, length, features) = (x.dim(0), x.dim(1), x.dim(2));
    let grouped = ops::reshape(x, &[batch, length, groups, features / groups])?;
    let normed = rms_norm(device, &grouped, None, eps)?;
    ops::multiply(&ops::reshape(&normed, &[batch, length, features])?, weight)
}

/// [`rms_norm`], composed.
pub fn rms_norm_plain(x: &Array, weight: Option<&Array>, eps: f32) -> Result<Array> {
    let wide = ops::astype(x, Dtype::Float32)?;
    let mean_square = ops::mean(&ops::square(&wide)?, -1)?;
    let root = ops::sqrt(&ops::add(&mean_square, &scalar(eps))?)?;
    let normed = ops::astype(&ops::divide(&wide, &root)?, x.dtype())?;
    weight.map_or(Ok(normed.clone()), |weight| ops::multiply(&normed, weight))
}

/// (x − mean) / √(var + eps) · weight + bias.
pub fn layer_norm(
    device: Device,
    x: &Array,
    weight: Option<&Array>,
    bias: Option<&Array>,
    eps: f32,
) -> Result<Array> {
    match device.backend(x) {
        Backend::Cpu(_) | Backend::Mlx => fast::layer_norm(x, weight, bias, eps),
        Backend::Plain => layer_norm_plain(x, weight, bias, eps),
    }
}

/// [`layer_norm`], composed.
pub fn layer_norm_plain(
    x: &Array,
    weight: Option<&Array>,
    bias: Option<&Array>,
    eps: f32,
) -> Result<Array> {
    let wide = ops::astype(x, Dtype::Float32)?;
    let centered = ops::subtract(&wide, &ops::mean(&wide, -1)?)?;
    let normed = ops::astype(&rms_norm_plain(&centered, None, eps)?, x.dtype())?;
    let scaled = weight.map_or(Ok(normed.clone()), |weight| ops::multiply(&normed, weight))?;
    bias.map_or(Ok(scaled.clone()), |bias| ops::add(&scaled, bias))
}

/// norm(x + delta), of which the next operation wants the sum, too.
#[derive(Debug, Clone, Copy)]
pub struct AddNorm<'a> {
    /// `[…, dims]`.
    pub x: &'a Array,
    /// Of the same shape; `None` for nothing to add.
    pub delta: Option<&'a Array>,
    /// The norm of the sum.
    pub norm: &'a NormParams,
}

/// x + delta, and its norm.
pub fn add_norm(device: Device, rows: &AddNorm) -> Result<[Array; 2]> {
    match (device.backend(rows.x), rows.for_kernels()) {
        (Backend::Cpu(options), Some(AddRmsNorm { x, delta: Some(delta), weight, eps })) => {
            cpu::norm::add_rms_norm(options, x, delta, weight, eps)
        }
        (Backend::Mlx, Some(rows @ AddRmsNorm { delta: Some(_), .. }))
            if device.cuda().is_some()
                && let Some(results) = cuda::norm::add_norm(&rows)? =>
        {
            Ok(results)
        }
        _ => {
            let sum = match rows.delta {
                Some(delta) => ops::add(rows.x, delta)?,
                None => rows.x.clone(),
            };
            let normed = norm(device, &sum, rows.norm)?;
            Ok([sum, normed])
        }
    }
}

/// [`AddNorm`] with a root-mean-square norm.
#[derive(Debug, Clone, Copy)]
pub(super) struct AddRmsNorm<'a> {
    pub(super) x: &'a Array,
    pub(super) delta: Option<&'a Array>,
    pub(super) weight: Option<&'a Array>,
    pub(super) eps: f32,
}

impl<'a> AddNorm<'a> {
    /// What the kernels are told; `None` for rows and norms that they do not have.
    pub(super) fn for_kernels(&self) -> Option<AddRmsNorm<'a>> {
        let AddNorm { x, delta, norm } = *self;
        let (weight, eps) = norm.root_mean_square()?;
        let fits = |delta: &Array| delta.dtype() == x.dtype() && delta.shape() == x.shape();
        let rows = AddRmsNorm { x, delta, weight, eps };
        delta.is_none_or(fits).then_some(rows)
    }
}
