//! Normalization over the last axis.

use crate::error::Result;
use crate::mlx::{Array, eval, fast, ops, scalar};
use crate::weights::Weights;

/// A norm, with weights of its own but for one kind.
#[derive(Debug)]
pub enum Norm {
    /// Root-mean-square norm (Zhang and Sennrich 2019): x / √(mean(x²) + eps) · weight.
    Rms {
        /// `[dims]`.
        weight: Array,
        /// Keeps the root away from 0.
        eps: f32,
    },
    /// Root-mean-square norm without weights.
    Unweighted {
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
    /// Layer norm of heads, each with a weight of its own.
    Heads {
        /// `[heads, 1, head_dim]`.
        weight: Array,
        /// Keeps the root away from 0.
        eps: f32,
    },
}

impl Norm {
    /// Takes `weight` `[dims]` of a root-mean-square norm.
    pub fn rms(w: &Weights, dims: i32, eps: f32) -> Result<Self> {
        Ok(Self::Rms { weight: w.take("weight", &[dims])?, eps })
    }

    /// As [`Norm::rms`], for checkpoints that store the weight less 1 (Gemma).
    pub fn rms_plus_one(w: &Weights, dims: i32, eps: f32) -> Result<Self> {
        Ok(Self::Rms { weight: plus_one(&w.take("weight", &[dims])?)?, eps })
    }

    /// Takes `weight` and, if it is there, `bias` of a layer norm, `[dims]` each.
    pub fn layer(w: &Weights, dims: i32, eps: f32) -> Result<Self> {
        let bias = if w.has("bias") { Some(w.take("bias", &[dims])?) } else { None };
        Ok(Self::Layer { weight: w.take("weight", &[dims])?, bias, eps })
    }

    /// As [`Norm::layer`], for checkpoints that store the weight less 1 (Nemotron).
    pub fn layer_plus_one(w: &Weights, dims: i32, eps: f32) -> Result<Self> {
        let bias = if w.has("bias") { Some(w.take("bias", &[dims])?) } else { None };
        Ok(Self::Layer { weight: plus_one(&w.take("weight", &[dims])?)?, bias, eps })
    }

    /// Takes `weight` `[heads, head_dim]` of a layer norm for each head, or `norms.N.weight` `[head_dim]`.
    pub fn heads(w: &Weights, heads: i32, head_dim: i32, eps: f32) -> Result<Self> {
        let weight = if w.has("weight") {
            w.take("weight", &[heads, head_dim])?
        } else {
            let weight = |head| w.at("norms").at(head).take("weight", &[head_dim]);
            let weights = (0..heads).map(weight).collect::<Result<Vec<_>>>()?;
            ops::concatenate(&weights.iter().collect::<Vec<_>>(), 0)?
        };
        let weight = ops::reshape(&weight, &[heads, 1, head_dim])?;
        eval(&[&weight])?;
        Ok(Self::Heads { weight, eps })
    }

    /// `[…, dims]` to the same shape; of [`Norm::Heads`] `[batch, heads, length, head_dim]`.
    pub fn forward(&self, x: &Array) -> Result<Array> {
        match self {
            Self::Rms { weight, eps } => fast::rms_norm(x, Some(weight), *eps),
            Self::Unweighted { eps } => fast::rms_norm(x, None, *eps),
            Self::Layer { weight, bias, eps } => {
                fast::layer_norm(x, Some(weight), bias.as_ref(), *eps)
            }
            Self::Heads { weight, eps } => {
                ops::multiply(&fast::layer_norm(x, None, None, *eps)?, weight)
            }
        }
    }

    /// The weight and the epsilon, if it is a root-mean-square norm.
    pub fn root_mean_square(&self) -> Option<(Option<&Array>, f32)> {
        match self {
            Self::Rms { weight, eps } => Some((Some(weight), *eps)),
            Self::Unweighted { eps } => Some((None, *eps)),
            Self::Layer { .. } | Self::Heads { .. } => None,
        }
    }
}

fn plus_one(weight: &Array) -> Result<Array> {
    let weight = ops::add(weight, &ops::astype(&scalar(1.0), weight.dtype())?)?;
    eval(&[&weight])?;
    Ok(weight)
}
