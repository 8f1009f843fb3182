//! Activation functions.

use serde::Deserialize;

use crate::error::Result;
use crate::mlx::{Array, fast, ops, scalar};

/// An activation, by the names of configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Activation {
    /// x · σ(x).
    #[serde(rename = "silu", alias = "swish")]
    Silu,
    /// x · Φ(x), Φ the distribution function of the normal distribution.
    #[serde(rename = "gelu")]
    Gelu,
    /// Its approximation x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))) (Hendrycks and Gimpel 2016).
    #[serde(rename = "gelu_pytorch_tanh", alias = "gelu_new", alias = "gelu_fast")]
    GeluTanh,
    /// max(x, 0).
    #[serde(rename = "relu")]
    Relu,
    /// max(x, 0)².
    #[serde(rename = "relu2")]
    ReluSquared,
}

impl Activation {
    /// act(x).
    pub fn apply(self, x: &Array) -> Result<Array> {
        let number = |value: f32| ops::astype(&scalar(value), x.dtype());
        match self {
            Self::Silu => ops::multiply(x, &ops::sigmoid(x)?),
            Self::Gelu => {
                let phi = ops::erf(&ops::multiply(x, &number(std::f32::consts::FRAC_1_SQRT_2)?)?)?;
                let half = ops::multiply(x, &number(0.5)?)?;
                ops::multiply(&half, &ops::add(&phi, &number(1.0)?)?)
            }
            Self::GeluTanh => {
                let cube = ops::multiply(&ops::square(x)?, x)?;
                let inner = ops::add(x, &ops::multiply(&cube, &number(0.044_715)?)?)?;
                let root = std::f32::consts::FRAC_2_PI.sqrt();
                let tanh = ops::tanh(&ops::multiply(&inner, &number(root)?)?)?;
                let half = ops::multiply(x, &number(0.5)?)?;
                ops::multiply(&half, &ops::add(&tanh, &number(1.0)?)?)
            }
            Self::Relu => ops::maximum(x, &number(0.0)?),
            Self::ReluSquared => ops::square(&ops::maximum(x, &number(0.0)?)?),
        }
    }

    /// act(gate) · up.
    pub fn gated(self, gate: &Array, up: &Array) -> Result<Array> {
        let fused = match self.fused() {
            Some(fast::Activation::Silu) => return fast::swiglu(gate, up),
            Some(activation) => fast::gated(activation, gate, up)?,
            None => None,
        };
        match fused {
            Some(fused) => Ok(fused),
            None => ops::multiply(&self.apply(gate)?, up),
        }
    }

    /// The same for the fused kernels, where they have it.
    pub(super) fn fused(self) -> Option<fast::Activation> {
        match self {
            Self::Silu => Some(fast::Activation::Silu),
            Self::Gelu => Some(fast::Activation::Gelu),
            Self::GeluTanh => Some(fast::Activation::GeluTanh),
            Self::Relu => Some(fast::Activation::Relu),
            Self::ReluSquared => None,
        }
    }
}
