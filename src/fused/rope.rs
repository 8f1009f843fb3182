//! Rotary position embeddings (Su et al. 2021).

use super::cpu;
use super::device::{Backend, Device};
use super::math::scaled;
use crate::error::Result;
use crate::mlx::{Array, Dtype, fast, ops};

/// How fast the pairs of features turn.
#[derive(Debug, Clone)]
pub enum RopeFreqs {
    /// With the periods base^(2i/dims).
    Base(f32),
    /// With these periods, `[dims / 2]`, `f32`.
    Explicit(Array),
}

/// A rotary position embedding of some positions.
#[derive(Debug, Clone)]
pub struct RopeParams {
    /// Features that are rotated, the first ones.
    pub dims: i32,
    /// Whether neighbouring features are rotated, not the two halves.
    pub traditional: bool,
    /// How fast they turn.
    pub freqs: RopeFreqs,
    /// Multiplies positions.
    pub scale: f32,
    /// Multiplies the rotated features.
    pub attention_factor: f32,
    /// The first position; the others follow it.
    pub offset: i32,
}

impl RopeParams {
    /// Whether all but the positions and the numbers of explicit periods are the same.
    pub(super) fn turns_like(&self, other: &Self) -> bool {
        let settings = |it: &Self| {
            let base = match it.freqs {
                RopeFreqs::Base(base) => Some(base),
                RopeFreqs::Explicit(_) => None,
            };
            (it.dims, it.traditional, base, it.scale, it.attention_factor)
        };
        settings(self) == settings(other)
    }

    /// The periods, where they are explicit.
    pub(super) fn explicit_freqs(&self) -> Option<&Array> {
        match &self.freqs {
            RopeFreqs::Base(_) => None,
            RopeFreqs::Explicit(freqs) => Some(freqs),
        }
    }
}

/// Rotates `[batch, heads, length, head_dim]`.
pub fn rope(device: Device, x: &Array, params: &RopeParams) -> Result<Array> {
    match device.backend(x) {
        Backend::Cpu(options) => cpu::attention::rope(options, x, params),
        Backend::Mlx => rope_mlx(x, params),
        Backend::Plain => rope_plain(x, params),
    }
}

/// [`rope`] with MLX's operation, which knows no attention factor.
fn rope_mlx(x: &Array, params: &RopeParams) -> Result<Array> {
    let RopeParams { dims, traditional, ref freqs, scale, attention_factor, offset } = *params;
    let (base, freqs) = match freqs {
        RopeFreqs::Base(base) => (Some(*base), None),
        RopeFreqs::Explicit(freqs) => (None, Some(freqs)),
    };
    if attention_factor == 1.0 {
        return fast::rope(x, dims, traditional, base, scale, offset, freqs);
    }
    let x = if x.dim(-1) == dims {
        scaled(x, attention_factor)?
    } else {
        let parts = ops::split_at(x, &[dims], -1)?;
        ops::concatenate(&[&scaled(&parts[0], attention_factor)?, &parts[1]], -1)?
    };
    fast::rope(&x, dims, traditional, base, scale, offset, freqs)
}

/// [`rope`], composed: (a, b) to (a cos − b sin, a sin + b cos) for each pair of features.
pub fn rope_plain(x: &Array, params: &RopeParams) -> Result<Array> {
    let RopeParams { dims, traditional, ref freqs, scale, attention_factor, offset } = *params;
    if dims == 0 {
        return Ok(x.clone());
    }
    let (length, half) = (x.dim(2), dims / 2);
    let positions = ops::arange(offset, offset + length, Dtype::Float32)?;
    let positions = ops::reshape(&scaled(&positions, scale)?, &[length, 1])?;
    let angles = match freqs {
        RopeFreqs::Base(base) => {
            let exponents = ops::arange(0, half, Dtype::Float32)?;
            let speeds = ops::exp(&scaled(&exponents, -base.ln() / half as f32)?)?;
            ops::multiply(&positions, &speeds)?
        }
        RopeFreqs::Explicit(freqs) => ops::divide(&positions, freqs)?,
    };
    let cos = scaled(&ops::cos(&angles)?, attention_factor)?;
    let sin = scaled(&ops::sin(&angles)?, attention_factor)?;
    let rotated = ops::astype(&ops::slice_axis(x, 3, 0, dims)?, Dtype::Float32)?;
    let pair = |index: i32| match traditional {
        true => ops::every_second(&rotated, 3, index),
        false => ops::slice_axis(&rotated, 3, index * half, (index + 1) * half),
    };
    let (a, b) = (pair(0)?, pair(1)?);
    let first = ops::subtract(&ops::multiply(&a, &cos)?, &ops::multiply(&b, &sin)?)?;
    let second = ops::add(&ops::multiply(&a, &sin)?, &ops::multiply(&b, &cos)?)?;
    let rotated = if traditional {
        let pairs = [ops::expand_dims(&first, -1)?, ops::expand_dims(&second, -1)?];
        ops::reshape(&ops::concatenate(&[&pairs[0], &pairs[1]], -1)?, rotated.shape())?
    } else {
        ops::concatenate(&[&first, &second], -1)?
    };
    let rotated = ops::astype(&rotated, x.dtype())?;
    if dims == x.dim(3) {
        return Ok(rotated);
    }
    ops::concatenate(&[&rotated, &ops::slice_axis(x, 3, dims, x.dim(3))?], -1)
}
