//! Rotation and attention.

use std::ffi::CStr;

use super::super::fast::{Frequencies, Mask, NewPositions, Preparation, Rotation, Scores};
use super::super::primitive::{Input, Kernel, Output, custom_one, updated};
use super::super::{Array, Dtype, ops};
use super::{float_span, floats, readable, take};
use crate::cpu::attention::{self, Attention, Cached};
use crate::cpu::prepare::{self, HeadNorm};
use crate::cpu::rope::{Angles, Heads, Rope};
use crate::cpu::{FloatsMut, Isa};
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

/// What is done to the vectors of heads, but for the arrays.
#[derive(Clone, Copy)]
struct Prepare {
    /// The epsilon of the norm, and whether it has a weight.
    norm: Option<(f32, bool)>,
    rope: Option<Rotate>,
}

#[derive(Clone, Copy)]
struct Rotate {
    dims: usize,
    traditional: bool,
    /// `None` for wavelengths given as an input.
    base: Option<f32>,
    scale: f32,
    gain: f32,
    offset: i32,
}

impl Rotate {
    fn new(rotation: &Rotation) -> Self {
        let Rotation { dims, traditional, ref frequencies, scale, gain, offset } = *rotation;
        let base = match frequencies {
            Frequencies::Base(base) => Some(*base),
            Frequencies::Wavelengths(_) => None,
        };
        Self { dims: dims as usize, traditional, base, scale, gain, offset }
    }

    /// Takes the next of the inputs, if there are to be wavelengths.
    fn over<'a>(self, inputs: &mut std::slice::Iter<Input<'a>>) -> Result<Rope<'a>> {
        let Self { dims, traditional, base, scale, gain, offset } = self;
        let angles = match base {
            Some(base) => Angles::Base(base),
            None => Angles::Wavelengths(next(inputs)?.slice()?),
        };
        Ok(Rope { dims, traditional, angles, scale, gain, offset })
    }
}

impl Prepare {
    fn new(preparation: &Preparation) -> Self {
        let norm = preparation.norm.map(|(weight, eps)| (eps, weight.is_some()));
        Self { norm, rope: preparation.rope.as_ref().map(Rotate::new) }
    }

    /// The arrays that [`Prepare::over`] takes.
    fn inputs<'a>(preparation: &'a Preparation) -> impl Iterator<Item = &'a Array> {
        let weight = preparation.norm.and_then(|(weight, _)| weight);
        weight.into_iter().chain(preparation.rope.as_ref().and_then(Rotation::wavelengths))
    }

    /// Takes the next of the inputs, as far as they are needed.
    fn over<'a>(
        self,
        inputs: &mut std::slice::Iter<Input<'a>>,
    ) -> Result<prepare::Preparation<'a>> {
        let norm = match self.norm {
            Some((eps, true)) => Some(HeadNorm { weight: Some(floats(next(inputs)?)?), eps }),
            Some((eps, false)) => Some(HeadNorm { weight: None, eps }),
            None => None,
        };
        let rope = self.rope.map(|rope| rope.over(inputs)).transpose()?;
        Ok(prepare::Preparation { norm, rope })
    }
}

fn next<'a, 'b>(inputs: &mut std::slice::Iter<'b, Input<'a>>) -> Result<&'b Input<'a>> {
    inputs.next().ok_or_else(|| Error::Mlx("an input is missing".to_owned()))
}

impl Kernel for Rotate {
    const NAME: &'static CStr = c"Rope";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        let mut inputs = inputs.iter();
        let x = next(&mut inputs)?;
        let x = Heads { values: x.span()?, shape: four(x)?, strides: three(x)? };
        self.over(&mut inputs)?.apply(&x, outputs[0].slice()?, Isa::best())
    }
}

/// Rotary position embedding of the first features of `x`, `[batch, heads, length, head_dim]`.
pub(in crate::mlx) fn rope(x: &Array, rotation: &Rotation) -> Result<Array> {
    let inputs: Vec<_> = [x].into_iter().chain(rotation.wavelengths()).collect();
    custom_one(Rotate::new(rotation), &inputs, x.shape(), Dtype::Float32)
}

/// The heads of what a projection gives, `[batch, length, heads · head_dim]`.
fn projected<'a>(x: &Input<'a>, heads: usize) -> Result<Heads<'a>> {
    let (&[batch, length, features], &[batch_stride, stride, step]) = (x.shape(), x.strides())
    else {
        return Err(Error::Mlx(format!("three axes were expected, not {:?}", x.shape())));
    };
    let [batch, length, features] = [batch, length, features].map(|dim| dim as usize);
    if step != 1 && features > 1 {
        return Err(Error::Mlx("the features must lie side by side".to_owned()));
    }
    let dim = features / heads;
    let strides = [batch_stride as usize, dim, stride as usize];
    Ok(Heads { values: x.span()?, shape: [batch, heads, length, dim], strides })
}

/// Writes new positions into the buffer of a cache.
struct Write {
    start: usize,
    prepare: Prepare,
}

impl Kernel for Write {
    const NAME: &'static CStr = c"WritePositions";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        // The buffer is there as the output.
        let mut inputs = inputs[1..].iter();
        let buffer = &mut outputs[0];
        let &[_, heads, capacity, _] = buffer.shape() else {
            return Err(Error::Mlx(format!("a buffer of {:?}", buffer.shape())));
        };
        let x = projected(next(&mut inputs)?, heads as usize)?;
        let prepare = self.prepare.over(&mut inputs)?;
        let to = match buffer.dtype() {
            Dtype::Float32 => FloatsMut::F32(buffer.slice()?),
            Dtype::Float16 => FloatsMut::F16(buffer.slice()?),
            Dtype::Bfloat16 => FloatsMut::Bf16(buffer.slice()?),
            other => return Err(Error::Mlx(format!("a buffer of {other:?}"))),
        };
        prepare.write(&x, to, capacity as usize, self.start, Isa::best())
    }
}

/// Writes `x`, `[batch, length, heads · head_dim]`, to the positions from `start` of a buffer `[batch, heads, capacity, head_dim]`.
fn write(buffer: &Array, x: &Array, preparation: &Preparation, start: i32) -> Result<Array> {
    let kernel = Write { start: start as usize, prepare: Prepare::new(preparation) };
    let inputs: Vec<_> = [buffer, x].into_iter().chain(Prepare::inputs(preparation)).collect();
    updated(kernel, &inputs)
}

/// Whether [`cached_attention`] can take these.
pub(in crate::mlx) fn takes_positions(new: &NewPositions, mask: &Mask) -> bool {
    [new.queries, new.keys, new.values].into_iter().all(take) && fits(mask)
}

/// Attention of new positions over a cache, into which their keys and values are written first.
pub(in crate::mlx) fn cached_attention(
    new: &NewPositions,
    [keys, values]: [Array; 2],
    start: i32,
    scores: &Scores,
    mask: &Mask,
) -> Result<(Array, [Array; 2])> {
    let (batch, length) = (new.queries.dim(0), new.queries.dim(1));
    let seen = start + length;
    let kv_heads = keys.dim(1);
    for (buffer, x) in [(&keys, new.keys), (&values, new.values)] {
        let room = [batch, kv_heads, buffer.dim(2), x.dim(2) / kv_heads];
        if buffer.shape() != room || buffer.dim(2) < seen || x.shape()[..2] != [batch, length] {
            let (buffer, x) = (buffer.shape(), x.shape());
            return Err(Error::Mlx(format!("{x:?} at {start} do not fit a cache of {buffer:?}")));
        }
    }
    let keys = write(&keys, new.keys, &new.prepare_keys, start)?;
    let values = write(&values, new.values, &Preparation::default(), start)?;
    let query =
        Query { heads: new.queries.dim(2) / keys.dim(3), preparation: &new.prepare_queries, seen };
    let attended = attend(new.queries, Some(query), &keys, &values, scores, mask)?;
    Ok((attended, [keys, values]))
}

struct DotProductAttention {
    scale: f32,
    cap: Option<f32>,
    causal: bool,
    /// Whether scores of sinks follow the values.
    sinks: bool,
    /// Whether a mask follows.
    mask: bool,
    /// For queries as a projection gives them.
    projected: Option<Projected>,
}

struct Projected {
    heads: usize,
    prepare: Prepare,
    /// Positions of the buffers of keys and values that are looked at.
    seen: usize,
}

impl Kernel for DotProductAttention {
    const NAME: &'static CStr = c"Attention";

    fn run(&self, inputs: &[Input], outputs: &mut [Output]) -> Result<()> {
        let mut inputs = inputs.iter();
        let queries = next(&mut inputs)?;
        let (mut keys, mut values) = (cached(next(&mut inputs)?)?, cached(next(&mut inputs)?)?);
        let sinks = if self.sinks { Some(next(&mut inputs)?.values()?) } else { None };
        let mask = match () {
            () if self.mask => mask_of(next(&mut inputs)?)?,
            () if self.causal => attention::Mask::Causal { window: None },
            () => attention::Mask::None,
        };
        let mut memory;
        let queries = match &self.projected {
            None => {
                Heads { values: queries.span()?, shape: four(queries)?, strides: three(queries)? }
            }
            Some(Projected { heads, prepare, seen }) => {
                (keys.shape[2], values.shape[2]) = (*seen, *seen);
                let x = projected(queries, *heads)?;
                let [_, heads, length, dim] = x.shape;
                memory = vec![0.0; x.shape.iter().product()];
                let to = FloatsMut::F32(&mut memory);
                prepare.over(&mut inputs)?.write(&x, to, length, 0, Isa::best())?;
                let strides = [heads * length * dim, length * dim, dim];
                Heads { values: &memory, shape: x.shape, strides }
            }
        };
        let attention = Attention {
            queries,
            keys,
            values,
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

fn fits(mask: &Mask) -> bool {
    match mask {
        Mask::Array(mask) => mask.dtype() == Dtype::Bool || readable(mask),
        Mask::None | Mask::Causal => true,
    }
}

/// Whether [`attention`] can take these.
pub(in crate::mlx) fn takes_attention(keys: &Array, values: &Array, mask: &Mask) -> bool {
    readable(keys) && readable(values) && fits(mask)
}

/// Soft-max(scale · q kᵀ + mask) v, with scores bounded by `cap` and beside those of `sinks`, `[batch, heads, length, value_dim]`; in memory the heads of a position lie side by side.
pub(in crate::mlx) fn attention(
    queries: &Array,
    keys: &Array,
    values: &Array,
    scores: &Scores,
    mask: &Mask,
) -> Result<Array> {
    ops::transpose(&attend(queries, None, keys, values, scores, mask)?, &[0, 2, 1, 3])
}

/// How queries come from a projection.
struct Query<'a> {
    heads: i32,
    preparation: &'a Preparation<'a>,
    /// Positions of keys and values that are looked at.
    seen: i32,
}

/// Of queries `[batch, heads, length, head_dim]`: `[batch, length, heads, value_dim]`; as a projection gives them: `[batch, length, heads · value_dim]`.
fn attend(
    queries: &Array,
    query: Option<Query>,
    keys: &Array,
    values: &Array,
    scores: &Scores,
    mask: &Mask,
) -> Result<Array> {
    let Scores { scale, cap, sinks } = *scores;
    let (array, causal) = match mask {
        Mask::None => (None, false),
        Mask::Causal => (None, true),
        Mask::Array(array) => (Some(array), false),
    };
    let sinks = sinks.map(|sinks| ops::astype(sinks, Dtype::Float32)).transpose()?;
    let mut inputs = vec![queries, keys, values];
    inputs.extend(&sinks);
    inputs.extend(array);
    let (shape, projected) = match query {
        None => (vec![queries.dim(0), queries.dim(2), queries.dim(1), values.dim(3)], None),
        Some(Query { heads, preparation, seen }) => {
            inputs.extend(Prepare::inputs(preparation));
            let prepare = Prepare::new(preparation);
            let (heads, seen) = (heads as usize, seen as usize);
            let features = heads as i32 * values.dim(3);
            let shape = vec![queries.dim(0), queries.dim(1), features];
            (shape, Some(Projected { heads, prepare, seen }))
        }
    };
    let (sinks, mask) = (sinks.is_some(), array.is_some());
    let kernel = DotProductAttention { scale, cap, causal, sinks, mask, projected };
    custom_one(kernel, &inputs, &shape, Dtype::Float32)
}
