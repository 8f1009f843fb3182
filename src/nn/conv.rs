//! Short convolutions over positions: what gives a recurrent layer its view of the last few tokens.

use super::linear::{Linear, Projections};
use super::mixer::Mixer;
use super::residual::Input;
use super::rows::Rows;
use crate::cache::{ArraysCache, Cache};
use crate::error::Result;
use crate::fused::Device;
use crate::fused::conv::{ConvWeights, causal_conv};
use crate::mlx::{Array, eval, ops};
use crate::weights::Weights;

/// A convolution of each channel by itself, over its own position and the `kernel − 1` before it:
/// y\[t, c\] = Σₖ w\[k, c\] · x\[t − kernel + 1 + k, c\] + b\[c\]. Before the first position there
/// are zeros.
#[derive(Debug)]
pub struct CausalConv {
    weights: ConvWeights,
    device: Device,
}

impl CausalConv {
    /// Takes `weight`, `[channels, kernel, 1]` or as it is published `[channels, 1, kernel]`, and
    /// with `bias` also `bias` `[channels]`.
    pub fn new(w: &Weights, channels: i32, kernel: i32, bias: bool) -> Result<Self> {
        let published = [channels, 1, kernel];
        let stored = if w.shape("weight") == Some(published.as_slice()) {
            w.take("weight", &published)?
        } else {
            w.take("weight", &[channels, kernel, 1])?
        };
        // Either way the elements lie channel by channel.
        let mut conv = Self::of(w, &ops::reshape(&stored, &[channels, kernel])?)?;
        conv.weights.bias = if bias { Some(w.take("bias", &[channels])?) } else { None };
        Ok(conv)
    }

    /// A convolution of these weights, `[channels, kernel]`, on the device of `w`.
    pub(super) fn of(w: &Weights, weight: &Array) -> Result<Self> {
        let weight = ops::contiguous(&ops::transpose(weight, &[1, 0])?)?;
        eval(&[&weight])?;
        let weights = ConvWeights { weight, bias: None, silu: false };
        Ok(Self { weights, device: w.device() })
    }

    /// Several convolutions without biases as one of all their channels.
    pub(super) fn joined([a, b, c]: [Self; 3]) -> Result<Self> {
        let weights = [&a, &b, &c].map(|conv| &conv.weights.weight);
        let weight = ops::contiguous(&ops::concatenate(&weights, 1)?)?;
        eval(&[&weight])?;
        Ok(Self { weights: ConvWeights { weight, ..a.weights }, device: a.device })
    }

    /// The same, with SiLU of what it gives.
    pub fn with_silu(mut self) -> Self {
        self.weights.silu = true;
        self
    }

    /// `[batch, length, channels]` to the same shape; entry `index` of the state keeps the last
    /// inputs, `[batch, kernel − 1, channels]`.
    pub fn forward(&self, x: &Array, state: &mut ArraysCache, index: usize) -> Result<Array> {
        let (y, after) = causal_conv(self.device, x, state.get(index), &self.weights)?;
        state.set(index, after);
        Ok(y)
    }
}

/// The gated short convolution of LFM2 (Liquid AI 2025): B, C, x = in(u); out(C · conv(B · x)).
#[derive(Debug)]
pub struct ShortConv {
    input: Projections,
    conv: CausalConv,
    output: Linear,
}

impl ShortConv {
    /// Takes `in_proj`, `conv` and `out_proj`, all of them with biases or none.
    pub fn new(w: &Weights, dims: i32, kernel: i32, bias: bool) -> Result<Self> {
        let input = Linear::new(&w.at("in_proj"), dims, 3 * dims, bias)?;
        Ok(Self {
            input: Projections::stacked(input, &[dims; 3]),
            conv: CausalConv::new(&w.at("conv"), dims, kernel, bias)?,
            output: Linear::new(&w.at("out_proj"), dims, dims, bias)?,
        })
    }
}

impl Mixer for ShortConv {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let projected = x.project(&self.input)?;
        let gated = ops::multiply(&projected[0], &projected[2])?;
        let mixed = rows.mix([&gated], |[gated], row| {
            let state = row.cache.state()?;
            let mixed = self.conv.forward(gated, state, 0)?;
            state.advance(row.length);
            Ok(mixed)
        })?;
        self.output.forward(&ops::multiply(&projected[1], &mixed)?)
    }

    fn make_cache(&self) -> Cache {
        Cache::arrays_of(1)
    }
}
