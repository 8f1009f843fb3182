//! Activation functions and gated activations (Shazeer 2020).

use serde::Deserialize;

use super::device::{Backend, Device};
use super::{cpu, cuda};
use crate::error::Result;
use crate::mlx::{Array, Dtype, ops, scalar};

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
}

/// A function of a gate, of what it lets through, and of two numbers that bound or shape them.
#[derive(Debug, Clone, Copy)]
pub struct Combine {
    /// The function.
    pub function: fn(&Array, &Array, [f32; 2]) -> Result<Array>,
    /// The numbers.
    pub numbers: [f32; 2],
}

impl Combine {
    /// f(gate, up).
    pub fn apply(&self, gate: &Array, up: &Array) -> Result<Array> {
        (self.function)(gate, up, self.numbers)
    }
}

/// x between −limit and limit.
pub fn clipped(x: &Array, limit: f32) -> Result<Array> {
    let bound = |value| ops::astype(&scalar(value), x.dtype());
    ops::maximum(&ops::minimum(x, &bound(limit)?)?, &bound(-limit)?)
}

/// gate · σ(α · gate) · (up + 1), with gate at most `limit` and up between it and its negative
/// (OpenAI 2025, "gpt-oss").
pub fn clipped_swiglu(gate: &Array, up: &Array, [limit, alpha]: [f32; 2]) -> Result<Array> {
    let number = |value: f32| ops::astype(&scalar(value), gate.dtype());
    let gate = ops::minimum(gate, &number(limit)?)?;
    let up = clipped(up, limit)?;
    let gated = ops::multiply(&gate, &ops::sigmoid(&ops::multiply(&gate, &number(alpha)?)?)?)?;
    ops::multiply(&gated, &ops::add(&up, &number(1.0)?)?)
}

/// silu(min(gate, limit)) · up, with up between −limit and limit (DeepSeek-AI 2026, "DeepSeek-V4").
pub fn limited_swiglu(gate: &Array, up: &Array, [limit, _]: [f32; 2]) -> Result<Array> {
    let precise = ops::minimum(&ops::astype(gate, Dtype::Float32)?, &scalar(limit))?;
    let up = clipped(&ops::astype(up, Dtype::Float32)?, limit)?;
    ops::astype(&ops::multiply(&Activation::Silu.apply(&precise)?, &up)?, gate.dtype())
}

/// β tanh(gate / β) · σ(gate) · γ tanh(up / γ), γ = ∞ for up as it is (Kimi Team 2026, "SiTU").
pub fn situ(gate: &Array, up: &Array, [beta, gamma]: [f32; 2]) -> Result<Array> {
    let bounded = |x: &Array, limit: f32| {
        let bounded = ops::tanh(&ops::divide(x, &scalar(limit))?)?;
        ops::multiply(&bounded, &scalar(limit))
    };
    let precise = ops::astype(gate, Dtype::Float32)?;
    let let_through = ops::multiply(&bounded(&precise, beta)?, &ops::sigmoid(&precise)?)?;
    let precise = ops::astype(up, Dtype::Float32)?;
    let precise = if gamma.is_finite() { bounded(&precise, gamma)? } else { precise };
    ops::astype(&ops::multiply(&let_through, &precise)?, gate.dtype())
}

/// act(gate) · up.
pub fn gated(device: Device, activation: Activation, gate: &Array, up: &Array) -> Result<Array> {
    match (device.backend(gate), cpu::activation::of(activation)) {
        (Backend::Cpu(options), Some(activation)) if up.dtype() == Dtype::Float32 => {
            cpu::activation::gated(options, activation, gate, up)
        }
        _ => {
            if let Some(card) = device.cuda()
                && let Some(gated) = cuda::activation::gated(card, activation, gate, up)?
            {
                return Ok(gated);
            }
            gated_plain(activation, gate, up)
        }
    }
}

/// [`gated`], composed.
pub fn gated_plain(activation: Activation, gate: &Array, up: &Array) -> Result<Array> {
    ops::multiply(&activation.apply(gate)?, up)
}

/// silu(gate) · up.
pub fn swiglu(device: Device, gate: &Array, up: &Array) -> Result<Array> {
    gated(device, Activation::Silu, gate, up)
}
