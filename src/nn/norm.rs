//! Normalization over the last axis.

use crate::error::Result;
use crate::fused::Device;
use crate::fused::math::scaled;
use crate::fused::norm::{NormParams, norm};
use crate::mlx::{Array, Dtype, eval, ops, scalar};
use crate::weights::Weights;

/// Takes a norm over the last axis of its view: the view, the number of features, and epsilon.
pub type TakeNorm = fn(&Weights, i32, f32) -> Result<Norm>;

/// A norm.
#[derive(Debug)]
pub struct Norm {
    params: NormParams,
    device: Device,
}

impl Norm {
    /// A norm of these weights, on the device of `w`.
    pub fn of(w: &Weights, params: NormParams) -> Self {
        Self { params, device: w.device() }
    }

    /// Takes `weight` `[dims]` of a root-mean-square norm.
    pub fn rms(w: &Weights, dims: i32, eps: f32) -> Result<Self> {
        Ok(Self::of(w, NormParams::Rms { weight: Some(w.take("weight", &[dims])?), eps }))
    }

    /// A root-mean-square norm without weights.
    pub fn unweighted(w: &Weights, _: i32, eps: f32) -> Result<Self> {
        Ok(Self::of(w, NormParams::Rms { weight: None, eps }))
    }

    /// As [`Norm::rms`], for checkpoints that store the weight less 1 (Gemma).
    pub fn rms_plus_one(w: &Weights, dims: i32, eps: f32) -> Result<Self> {
        Self::rms_plus(w, dims, eps, 1.0)
    }

    /// As [`Norm::rms`], for checkpoints that store the weight less this number.
    pub fn rms_plus(w: &Weights, dims: i32, eps: f32, offset: f32) -> Result<Self> {
        let weight = plus(&w.take("weight", &[dims])?, offset)?;
        Ok(Self::of(w, NormParams::Rms { weight: Some(weight), eps }))
    }

    /// Takes `weight` `[dims]` of a root-mean-square norm of what it multiplies.
    pub fn rms_of_scaled(w: &Weights, dims: i32, eps: f32) -> Result<Self> {
        Ok(Self::of(w, NormParams::RmsOfScaled { weight: w.take("weight", &[dims])?, eps }))
    }

    /// The same, for checkpoints that store the weight less 1.
    pub fn rms_of_scaled_plus_one(w: &Weights, dims: i32, eps: f32) -> Result<Self> {
        let weight = plus(&w.take("weight", &[dims])?, 1.0)?;
        Ok(Self::of(w, NormParams::RmsOfScaled { weight, eps }))
    }

    /// Takes weights `[heads, head_dim]` under the view's own name, of a root-mean-square norm for
    /// each head.
    pub fn rms_per_head(w: &Weights, heads: i32, head_dim: i32, eps: f32) -> Result<Self> {
        let weight = ops::reshape(&w.take("", &[heads, head_dim])?, &[heads, 1, head_dim])?;
        eval(&[&weight])?;
        Ok(Self::of(w, NormParams::RmsPerHead { weight, eps }))
    }

    /// The same root-mean-square norm, times a factor.
    pub fn scaled(mut self, factor: f32) -> Result<Self> {
        if let NormParams::Rms { weight: Some(weight), .. } = &mut self.params
            && factor != 1.0
        {
            *weight = scaled(weight, factor)?;
            eval(&[&*weight])?;
        }
        Ok(self)
    }

    /// Takes `weight` and, if it is there, `bias` of a layer norm, `[dims]` each.
    pub fn layer(w: &Weights, dims: i32, eps: f32) -> Result<Self> {
        Self::layer_named(w, ["weight", "bias"], dims, eps)
    }

    /// As [`Norm::layer`], by these names.
    pub fn layer_named(
        w: &Weights,
        [weight, bias]: [&str; 2],
        dims: i32,
        eps: f32,
    ) -> Result<Self> {
        let bias = if w.has(bias) { Some(w.take(bias, &[dims])?) } else { None };
        let weight = w.take(weight, &[dims])?;
        Ok(Self::of(w, NormParams::Layer { weight, bias, eps }))
    }

    /// As [`Norm::layer`], for checkpoints that store the weight less 1 (Nemotron).
    pub fn layer_plus_one(w: &Weights, dims: i32, eps: f32) -> Result<Self> {
        let bias = if w.has("bias") { Some(w.take("bias", &[dims])?) } else { None };
        let weight = plus(&w.take("weight", &[dims])?, 1.0)?;
        Ok(Self::of(w, NormParams::Layer { weight, bias, eps }))
    }

    /// A layer norm without weights.
    pub fn layer_unweighted(w: &Weights, dims: i32, eps: f32) -> Result<Self> {
        let dtype = w.activations().unwrap_or(Dtype::Float32);
        let weight = ops::astype(&ops::broadcast_to(&scalar(1.0), &[dims])?, dtype)?;
        eval(&[&weight])?;
        Ok(Self::of(w, NormParams::Layer { weight, bias: None, eps }))
    }

    /// Takes `weight` `[heads, head_dim]` of a layer norm for each head, or `norms.N.weight`
    /// `[head_dim]`.
    pub fn layer_per_head(w: &Weights, heads: i32, head_dim: i32, eps: f32) -> Result<Self> {
        let weight = if w.has("weight") {
            w.take("weight", &[heads, head_dim])?
        } else {
            let weight = |head| w.at("norms").at(head).take("weight", &[head_dim]);
            let weights = (0..heads).map(weight).collect::<Result<Vec<_>>>()?;
            ops::concatenate(&weights.iter().collect::<Vec<_>>(), 0)?
        };
        let weight = ops::reshape(&weight, &[heads, 1, head_dim])?;
        eval(&[&weight])?;
        Ok(Self::of(w, NormParams::LayerPerHead { weight, eps }))
    }

    /// `[…, dims]` to the same shape; of [`Norm::rms_per_head`] and [`Norm::layer_per_head`]
    /// `[batch, heads, length, head_dim]`.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        norm(self.device, x, &self.params)
    }

    /// Its kind and weights.
    pub fn params(&self) -> &NormParams {
        &self.params
    }

    /// The same, for an operation to keep.
    pub fn into_params(self) -> NormParams {
        self.params
    }

    pub(super) fn device(&self) -> Device {
        self.device
    }
}

fn plus(weight: &Array, offset: f32) -> Result<Array> {
    let weight = ops::add(weight, &ops::astype(&scalar(offset), weight.dtype())?)?;
    eval(&[&weight])?;
    Ok(weight)
}
