//! Rotation and attention.

use std::ffi::CStr;

use super::super::fast::{Frequencies, Mask};
use super::super::primitive::{Input, Kernel, Output, custom_one};
use super::super::{Array, Dtype, ops};
use super::{float_span, readable};
use crate::cpu::Isa;
use crate::cpu::attention::{self, Attention, Cached};
use crate::cpu::rope::{Angles, Heads, Rope};
use crate::error::{Error, Result};

/// The lengths of four axes.
fn four(input: &Input) -> Result<[usize; 4]> {
    match *input.shape() {
        [a, b, c, d] => Ok([a, b, c, d].map(|dim| dim as usize)),
        _ => Err(Error::Mlx(format!("four axes were expected, not {:?}", input.shape()))),
    }
}

/// The distances along all axes but the last, whose neighbours must lie side by side.
fn three(input: &Input) -> Result<[usize; 3]> {
    match *input.strides() {
        [a, b, c, d] if d == 1 || input.shape()[3] == 1 => Ok([a, b, c].map(|s| s as usize)),
        _ => Err(Error::Mlx("the features of a head must lie side by side".to_owned())),
    }
}

struct Rotation {
    dims: usize,
    traditional: bool,
    /// `None` for wavelengths given as an input.
    base: Option<f32>,
    scale: f32,
    offset: i32,
}

impl Kernel for Rotation {
    const NAME: &'static CStr = c"Rope";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        let (shape, strides) = (four(&inputs[0])?, three(&inputs[0])?);
        let x = Heads { values: inputs[0].span()?, shape, strides };
        let wavelengths = inputs.get(1).map(Input::values).transpose()?;
        let angles = match (self.base, &wavelengths) {
            (Some(base), _) => Angles::Base(base),
            (None, wavelengths) => Angles::Wavelengths(wavelengths.as_deref().unwrap_or(&[])),
        };
        let Self { dims, traditional, scale, offset, .. } = *self;
        Rope { dims, traditional, angles, scale, offset }.apply(&x, outputs[0].slice()?)
    }
}

/// Rotary position embedding of the first `dims` features of `x`, `[batch, heads, length, head_dim]`.
pub(in crate::mlx) fn rope(
    x: &Array,
    dims: i32,
    traditional: bool,
    frequencies: &Frequencies,
    scale: f32,
    offset: i32,
) -> Result<Array> {
    let (base, wavelengths) = match frequencies {
        Frequencies::Base(base) => (Some(*base), None),
        Frequencies::Wavelengths(wavelengths) => (None, Some(wavelengths)),
    };
    let kernel = Rotation { dims: dims as usize, traditional, base, scale, offset };
    let inputs: Vec<_> = [x].into_iter().chain(wavelengths).collect();
    custom_one(kernel, &inputs, x.shape(), Dtype::Float32)
}

struct DotProductAttention {
    scale: f32,
    cap: Option<f32>,
    causal: bool,
    /// Whether scores of sinks follow the values.
    sinks: bool,
}

impl Kernel for DotProductAttention {
    const NAME: &'static CStr = c"Attention";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        let queries = Heads {
            values: inputs[0].span()?,
            shape: four(&inputs[0])?,
            strides: three(&inputs[0])?,
        };
        let sinks = if self.sinks { Some(inputs[3].values()?) } else { None };
        let mask = match inputs.get(3 + usize::from(self.sinks)) {
            None if self.causal => attention::Mask::Causal { window: None },
            None => attention::Mask::None,
            Some(mask) => mask_of(mask)?,
        };
        let attention = Attention {
            queries,
            keys: cached(&inputs[1])?,
            values: cached(&inputs[2])?,
            scale: self.scale,
            cap: self.cap,
            mask,
            sinks: sinks.as_deref(),
        };
        attention.run(outputs[0].slice()?, Isa::best())
    }
}

fn cached<'a>(input: &Input<'a>) -> Result<Cached<'a>> {
    Ok(Cached { values: float_span(input)?, shape: four(input)?, strides: three(input)? })
}

/// A mask of booleans, or of floats to be added, that is broadcast to four axes.
fn mask_of<'a>(mask: &Input<'a>) -> Result<attention::Mask<'a>> {
    let mut strides = [0; 4];
    let missing = 4 - mask.shape().len().min(4);
    for (i, (&dim, &stride)) in mask.shape().iter().zip(mask.strides()).enumerate().take(4) {
        strides[missing + i] = if dim == 1 { 0 } else { stride as usize };
    }
    if mask.dtype() == Dtype::Bool {
        return Ok(attention::Mask::Bytes { values: mask.booleans()?, strides });
    }
    Ok(attention::Mask::Added { values: float_span(mask)?, strides })
}

/// Whether [`attention`] can take these.
pub(in crate::mlx) fn takes_attention(keys: &Array, values: &Array, mask: &Mask) -> bool {
    let mask_fits = match mask {
        Mask::Array(mask) => mask.dtype() == Dtype::Bool || readable(mask),
        Mask::None | Mask::Causal => true,
    };
    readable(keys) && readable(values) && mask_fits
}

/// Soft-max(scale · q kᵀ + mask) v, with scores bounded by `cap` and beside those of `sinks`, `[batch, heads, length, value_dim]`; in memory the heads of a position lie side by side.
pub(in crate::mlx) fn attention(
    queries: &Array,
    keys: &Array,
    values: &Array,
    scale: f32,
    mask: &Mask,
    cap: Option<f32>,
    sinks: Option<&Array>,
) -> Result<Array> {
    let (array, causal) = match mask {
        Mask::None => (None, false),
        Mask::Causal => (None, true),
        Mask::Array(array) => (Some(array), false),
    };
    let scores = sinks.map(|sinks| ops::astype(sinks, Dtype::Float32)).transpose()?;
    let inputs: Vec<_> =
        [queries, keys, values].into_iter().chain(scores.as_ref()).chain(array).collect();
    let shape = [queries.dim(0), queries.dim(2), queries.dim(1), values.dim(3)];
    let kernel = DotProductAttention { scale, cap, causal, sinks: sinks.is_some() };
    ops::transpose(&custom_one(kernel, &inputs, &shape, Dtype::Float32)?, &[0, 2, 1, 3])
}
