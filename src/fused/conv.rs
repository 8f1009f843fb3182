//! Short causal convolutions of each channel by itself.

use super::activation::Activation;
use super::cpu;
use super::device::{Backend, Device};
use crate::error::Result;
use crate::mlx::{Array, ops};

/// The weights of a convolution.
#[derive(Debug)]
pub struct ConvWeights {
    /// `[kernel, channels]`.
    pub weight: Array,
    /// `[channels]`.
    pub bias: Option<Array>,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// A convolution of each channel by itself, over its own position and those before:
/// y\[t, c\] = act(Σₖ w\[k, c\] · x\[t + k, c\] + b\[c\]), act being x σ(x) with `silu`.
///
/// `x` is `[batch, kernel − 1 + length, channels]`; gives `[batch, length, channels]`.
pub fn causal_conv(device: Device, x: &Array, weights: &ConvWeights) -> Result<Array> {
    match device.backend(x) {
        Backend::Cpu(options) => cpu::recurrence::causal_conv(options, x, weights),
        Backend::Mlx | Backend::Plain => causal_conv_plain(x, weights),
    }
}

/// [`causal_conv`], composed.
pub fn causal_conv_plain(x: &Array, weights: &ConvWeights) -> Result<Array> {
    let ConvWeights { weight, bias, silu } = weights;
    let (kernel, length) = (weight.dim(0), x.dim(1) - weight.dim(0) + 1);
    let mut y = if length == 1 {
        ops::sum(&ops::multiply(x, weight)?, 1)?
    } else {
        let channels = x.dim(2);
        let by_channel = ops::transpose(weight, &[1, 0])?;
        ops::conv1d(x, &ops::reshape(&by_channel, &[channels, kernel, 1])?, channels)?
    };
    if let Some(bias) = bias {
        y = ops::add(&y, bias)?;
    }
    if *silu { Activation::Silu.apply(&y) } else { Ok(y) }
}
