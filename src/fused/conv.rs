//! Short causal convolutions of each channel by itself.

use super::activation::Activation;
use super::cpu;
use super::cuda;
use super::device::{Backend, Device};
use super::math::kept_or_zeros;
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
/// y\[t, c\] = act(Σₖ w\[k, c\] · x\[t − kernel + 1 + k, c\] + b\[c\]), act being x σ(x) with
/// `silu`, and the inputs that the next position looks at, `[batch, kernel − 1, channels]`.
///
/// `x` is `[batch, length, channels]`, as what is given; `before` are the inputs before it,
/// `[batch, kernel − 1, channels]`, `None` for zeros.
pub fn causal_conv(
    device: Device,
    x: &Array,
    before: Option<&Array>,
    weights: &ConvWeights,
) -> Result<(Array, Array)> {
    let (batch, length, channels) = (x.dim(0), x.dim(1), x.dim(2));
    let kernel = weights.weight.dim(0);
    let shape = [batch, kernel - 1, channels];
    let before = before.map(|before| ops::reshape(before, &shape)).transpose()?;
    let before = kept_or_zeros(before.as_ref(), &shape, x.dtype())?;
    if device.cuda().is_some()
        && let Some(result) = cuda::recurrence::causal_conv(x, &before, weights)?
    {
        return Ok(result);
    }
    let inputs = ops::concatenate(&[&before, x], 1)?;
    // A copy of its own, so that the inputs of a long prompt need not stay in memory.
    let last = ops::contiguous(&ops::slice_axis(&inputs, 1, length, length + kernel - 1)?)?;
    let y = match device.backend(x) {
        Backend::Cpu(options) => cpu::recurrence::causal_conv(options, &inputs, weights),
        Backend::Mlx | Backend::Plain => causal_conv_plain(&inputs, weights),
    };
    Ok((y?, last))
}

/// The convolution of `[batch, kernel − 1 + length, channels]`, composed:
/// `[batch, length, channels]`.
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
