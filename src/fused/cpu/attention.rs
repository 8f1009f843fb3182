//! Rotation and attention.

use std::ffi::CStr;

use super::super::attention::{AttentionParams, NewQkv, Scores};
use super::super::kv::{KvBuffers, KvCache};
use super::super::norm::NormParams;
use super::super::rope::{RopeFreqs, RopeParams};
use super::products::DownProjection;
use super::{CpuKernel, NodeOptions, float_span, floats, readable, wrong_outputs};
use crate::cpu::attention::{self, Attention, Cached};
use crate::cpu::heads::Heads;
use crate::cpu::prepare::{self, HeadNorm};
use crate::cpu::rope::{Angles, Rope};
use crate::cpu::scratch::Scratch;
use crate::cpu::{ExecOptions, Floats, FloatsMut, Isa};
use crate::error::{Error, Result};
use crate::mlx::fast::Mask;
use crate::mlx::primitive::{Input, Output, updating};
use crate::mlx::quantized::QuantizedTensor;
use crate::mlx::{Array, Dtype, ops};

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

/// What is done to the heads of queries or keys before attention: a root-mean-square norm, then a
/// rotation.
#[derive(Clone, Copy, Default)]
struct QkNormRope<'a> {
    /// The norm's weight, `[head_dim]`, if it has one, and its epsilon.
    norm: Option<(Option<&'a Array>, f32)>,
    rope: Option<&'a RopeParams>,
}

impl<'a> QkNormRope<'a> {
    /// `None` for a norm of another kind.
    fn of(norm: Option<&'a NormParams>, rope: Option<&'a RopeParams>) -> Option<Self> {
        let norm = match norm {
            Some(NormParams::Rms { weight, eps }) => Some((weight.as_ref(), *eps)),
            Some(NormParams::Layer { .. } | NormParams::LayerPerHead { .. }) => return None,
            None => None,
        };
        Some(Self { norm, rope })
    }

    /// The arrays that [`QkNormRopeInputs::over`] takes.
    fn inputs(self) -> impl Iterator<Item = &'a Array> {
        let weight = self.norm.and_then(|(weight, _)| weight);
        weight.into_iter().chain(self.rope.and_then(RopeParams::explicit_freqs))
    }
}

/// [`QkNormRope`], but for the arrays.
#[derive(Clone, Copy)]
struct QkNormRopeInputs {
    /// The epsilon of the norm, and whether it has a weight.
    norm: Option<(f32, bool)>,
    rope: Option<RopeInputs>,
}

#[derive(Clone, Copy)]
struct RopeInputs {
    dims: usize,
    traditional: bool,
    /// `None` for periods given as an input.
    base: Option<f32>,
    scale: f32,
    attention_factor: f32,
    offset: i32,
}

impl RopeInputs {
    fn new(params: &RopeParams) -> Self {
        let RopeParams { dims, traditional, ref freqs, scale, attention_factor, offset } = *params;
        let base = match freqs {
            RopeFreqs::Base(base) => Some(*base),
            RopeFreqs::Explicit(_) => None,
        };
        Self { dims: dims as usize, traditional, base, scale, attention_factor, offset }
    }

    /// Takes the next of the inputs, if there are to be periods.
    fn over<'a>(self, inputs: &mut std::slice::Iter<Input<'a>>) -> Result<Rope<'a>> {
        let Self { dims, traditional, base, scale, attention_factor, offset } = self;
        let angles = match base {
            Some(base) => Angles::Base(base),
            None => Angles::Freqs(next(inputs)?.slice()?),
        };
        Ok(Rope { dims, traditional, angles, scale, attention_factor, offset })
    }
}

impl QkNormRopeInputs {
    fn new(params: &QkNormRope) -> Self {
        let norm = params.norm.map(|(weight, eps)| (eps, weight.is_some()));
        Self { norm, rope: params.rope.map(RopeInputs::new) }
    }

    /// Takes the next of the inputs, as far as they are needed.
    fn over<'a>(self, inputs: &mut std::slice::Iter<Input<'a>>) -> Result<prepare::QkNormRope<'a>> {
        let norm = match self.norm {
            Some((eps, true)) => Some(HeadNorm { weight: Some(floats(next(inputs)?)?), eps }),
            Some((eps, false)) => Some(HeadNorm { weight: None, eps }),
            None => None,
        };
        let rope = self.rope.map(|rope| rope.over(inputs)).transpose()?;
        Ok(prepare::QkNormRope { norm, rope })
    }
}

fn next<'a, 'b>(inputs: &mut std::slice::Iter<'b, Input<'a>>) -> Result<&'b Input<'a>> {
    inputs.next().ok_or_else(|| Error::Mlx("an input is missing".to_owned()))
}

impl CpuKernel for RopeInputs {
    const NAME: &'static CStr = c"Rope";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let mut inputs = inputs.iter();
        let x = next(&mut inputs)?;
        let x = Heads { values: x.span()?, shape: four(x)?, strides: three(x)? };
        Ok(self.over(&mut inputs)?.apply(&x, outputs[0].slice()?, exec.isa)?)
    }
}

/// Rotary position embedding of the first features of `x`, `[batch, heads, length, head_dim]`.
pub fn rope(options: NodeOptions, x: &Array, params: &RopeParams) -> Result<Array> {
    let inputs: Vec<_> = [x].into_iter().chain(params.explicit_freqs()).collect();
    options.build_one(RopeInputs::new(params), &inputs, x.shape())
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

/// A buffer of a cache, `[batch, kv_heads, capacity, head_dim]`, to be written.
fn buffer<'a>(output: &'a mut Output) -> Result<FloatsMut<'a>> {
    Ok(match output.dtype() {
        Dtype::Float32 => FloatsMut::F32(output.slice()?),
        Dtype::Float16 => FloatsMut::F16(output.slice()?),
        Dtype::Bfloat16 => FloatsMut::Bf16(output.slice()?),
        other => return Err(Error::Mlx(format!("a buffer of {other:?}"))),
    })
}

/// The same, to be read: its first positions.
fn written<'a>(output: &'a mut Output, positions: usize) -> Result<Cached<'a>> {
    let &[batch, heads, capacity, dim] = output.shape() else {
        return Err(Error::Mlx(format!("a buffer of {:?}", output.shape())));
    };
    let [batch, heads, capacity, dim] = [batch, heads, capacity, dim].map(|dim| dim as usize);
    let values = match buffer(output)? {
        FloatsMut::F32(values) => Floats::F32(values),
        FloatsMut::F16(values) => Floats::F16(values),
        FloatsMut::Bf16(values) => Floats::Bf16(values),
    };
    let strides = [heads * capacity * dim, capacity * dim, dim];
    Ok(Cached { values, shape: [batch, heads, positions, dim], strides })
}

/// Attention of new positions over the buffers of a cache, into which they are written first.
/// Inputs are the buffers, what the projections give, and what else queries, keys and scores need.
struct CachedAttention {
    heads: usize,
    prepare_queries: QkNormRopeInputs,
    prepare_keys: QkNormRopeInputs,
    /// The place of the first new position.
    start: usize,
    scores: ScoreInputs,
    output: Option<DownProjection>,
}

impl CpuKernel for CachedAttention {
    const NAME: &'static CStr = c"CachedAttention";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let [keys, values, attended] = outputs else {
            return Err(wrong_outputs(outputs));
        };
        // The buffers are there as outputs.
        let inputs = &inputs[2..];
        let output = self.output.as_ref().map(|output| (output, output.split(inputs)));
        let mut inputs = output.as_ref().map_or(inputs, |(_, (others, _))| others).iter();
        let queries = projected(next(&mut inputs)?, self.heads)?;
        let (new_keys, new_values) = (next(&mut inputs)?, next(&mut inputs)?);
        let prepare_queries = self.prepare_queries.over(&mut inputs)?;
        let prepare_keys = self.prepare_keys.over(&mut inputs)?;
        let isa = exec.isa;
        let write = |x, to: &mut Output, prepare: prepare::QkNormRope| {
            let &[_, heads, capacity, _] = to.shape() else {
                return Err(Error::Mlx(format!("a buffer of {:?}", to.shape())));
            };
            let x = projected(x, heads as usize)?;
            Ok(prepare.write(&x, buffer(to)?, capacity as usize, self.start, isa)?)
        };
        write(new_keys, keys, prepare_keys)?;
        write(new_values, values, prepare::QkNormRope::default())?;
        let [_, heads, length, dim] = queries.shape;
        let mut memory = Scratch::new(queries.shape.iter().product());
        let memory = memory.floats();
        prepare_queries.write(&queries, FloatsMut::F32(memory), length, 0, isa)?;
        let strides = [heads * length * dim, length * dim, dim];
        let queries = Heads { values: memory, shape: queries.shape, strides };
        let seen = self.start + length;
        let (keys, values) = (written(keys, seen)?, written(values, seen)?);
        let y = attended.slice()?;
        let Some((output, (_, matrix))) = output else {
            return self.scores.attend(queries, keys, values, &mut inputs, y, isa);
        };
        let mut memory = Scratch::new(output.factors(y.len()));
        self.scores.attend(queries, keys, values, &mut inputs, memory.floats(), isa)?;
        output.multiply(matrix, memory.floats(), y, exec)
    }
}

/// Whether [`cached_attention`] takes these.
pub fn supports(new: &NewQkv, mask: &Mask, params: &AttentionParams) -> bool {
    let arrays = [new.queries, new.keys, new.values];
    arrays.into_iter().all(|array| array.dtype() == Dtype::Float32)
        && fits(mask)
        && new.query_scale.is_none()
        && params.v_norm.is_none()
        && !params.rotate_first
        && prepared(new, params).is_some()
}

/// What is done to queries and to keys; `None` for what the kernel does not do.
fn prepared<'a>(new: &'a NewQkv, params: &'a AttentionParams) -> Option<[QkNormRope<'a>; 2]> {
    let norms = params.qk_norm.as_ref();
    let of = |index: usize| QkNormRope::of(norms.map(|norms| &norms[index]), new.rope.as_ref());
    Some([of(0)?, of(1)?])
}

/// Attention of new positions over a contiguous cache, into which their keys and values are written
/// first: `[batch, length, heads · head_dim]`, or with the product with `output`, as many features
/// as that gives.
pub fn cached_attention(
    options: NodeOptions,
    new: &NewQkv,
    cache: &mut impl KvCache,
    mask: &Mask,
    params: &AttentionParams,
    output: Option<&QuantizedTensor>,
) -> Result<Array> {
    let [batch, length] = [new.keys.dim(0), new.keys.dim(1)];
    let positions = [batch, params.kv_heads, length, params.head_dim];
    let dtype = params.kv_dtype.unwrap_or(new.keys.dtype());
    let start = cache.offset();
    cache.update_in_place(positions, dtype, |buffers| {
        attend_in_place(options, new, buffers, start, mask, params, output)
    })
}

/// [`cached_attention`] in buffers that hold `start` positions and have room for the new ones.
fn attend_in_place(
    options: NodeOptions,
    new: &NewQkv,
    [keys, values]: KvBuffers,
    start: i32,
    mask: &Mask,
    params: &AttentionParams,
    output: Option<&QuantizedTensor>,
) -> Result<(Array, KvBuffers)> {
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
    let Some(prepared) = prepared(new, params) else {
        return Err(Error::Mlx("these queries and keys need other norms".to_owned()));
    };
    let (scores, score_arrays) = ScoreInputs::new(&params.scores(), mask)?;
    let heads = new.queries.dim(2) / keys.dim(3);
    let outputs = output.map_or(heads * values.dim(3), |output| output.weight.dim(-2));
    let kernel = CachedAttention {
        heads: heads as usize,
        prepare_queries: QkNormRopeInputs::new(&prepared[0]),
        prepare_keys: QkNormRopeInputs::new(&prepared[1]),
        start: start as usize,
        scores,
        output: output.map(DownProjection::with),
    };
    let mut inputs = vec![new.queries, new.keys, new.values];
    inputs.extend(prepared.into_iter().flat_map(QkNormRope::inputs));
    inputs.extend(&score_arrays);
    inputs.extend(output.into_iter().flat_map(QuantizedTensor::arrays));
    let shape = [batch, length, outputs];
    let attended: (&[i32], _) = (&shape, Dtype::Float32);
    let kernel = options.node(kernel);
    let (buffers, [attended]) = updating(kernel, [&{ keys }, &{ values }], &inputs, [attended])?;
    Ok((attended, buffers))
}

/// How products of queries and keys become scores, but for the arrays.
struct ScoreInputs {
    scale: f32,
    cap: Option<f32>,
    causal: bool,
    /// Whether scores of sinks are given.
    sinks: bool,
    /// Whether a mask follows.
    mask: bool,
}

impl ScoreInputs {
    /// With the arrays that [`ScoreInputs::attend`] takes.
    fn new(scores: &Scores, mask: &Mask) -> Result<(Self, Vec<Array>)> {
        let Scores { scale, soft_cap: cap, sinks } = *scores;
        let sinks = sinks.map(|sinks| ops::astype(sinks, Dtype::Float32)).transpose()?;
        let (array, causal) = match mask {
            Mask::None => (None, false),
            Mask::Causal => (None, true),
            Mask::Array(array) => (Some(array.clone()), false),
        };
        let own = Self { scale, cap, causal, sinks: sinks.is_some(), mask: array.is_some() };
        Ok((own, sinks.into_iter().chain(array).collect()))
    }

    /// Attention with the next of the inputs, as far as they are needed.
    fn attend(
        &self,
        queries: Heads,
        keys: Cached,
        values: Cached,
        inputs: &mut std::slice::Iter<Input>,
        y: &mut [f32],
        isa: Isa,
    ) -> Result<()> {
        let sinks = if self.sinks { Some(next(inputs)?.values()?) } else { None };
        let mask = match () {
            () if self.mask => mask_of(next(inputs)?)?,
            () if self.causal => attention::Mask::Causal { window: None },
            () => attention::Mask::None,
        };
        let (scale, cap, sinks) = (self.scale, self.cap, sinks.as_deref());
        let attention = Attention { queries, keys, values, scale, cap, mask, sinks };
        Ok(attention.run(y, isa)?)
    }
}

/// Inputs are queries, keys and values, and what the scores need.
struct DotProductAttention(ScoreInputs);

impl CpuKernel for DotProductAttention {
    const NAME: &'static CStr = c"Attention";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let mut inputs = inputs.iter();
        let queries = next(&mut inputs)?;
        let (keys, values) = (cached(next(&mut inputs)?)?, cached(next(&mut inputs)?)?);
        let (shape, strides) = (four(queries)?, three(queries)?);
        let queries = Heads { values: queries.span()?, shape, strides };
        self.0.attend(queries, keys, values, &mut inputs, outputs[0].slice()?, exec.isa)
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

/// Whether [`scaled_dot_product_attention`] reads these.
pub fn reads(keys: &Array, values: &Array, mask: &Mask) -> bool {
    readable(keys) && readable(values) && fits(mask)
}

/// softmax(scale · q kᵀ + mask) v, `[batch, heads, length, value_dim]`; in memory the heads of a
/// position lie side by side.
pub fn scaled_dot_product_attention(
    options: NodeOptions,
    queries: &Array,
    keys: &Array,
    values: &Array,
    mask: &Mask,
    scores: &Scores,
) -> Result<Array> {
    let (scores, score_arrays) = ScoreInputs::new(scores, mask)?;
    let inputs: Vec<_> = [queries, keys, values].into_iter().chain(&score_arrays).collect();
    let shape = [queries.dim(0), queries.dim(2), queries.dim(1), values.dim(3)];
    let attended = options.build_one(DotProductAttention(scores), &inputs, &shape)?;
    ops::transpose(&attended, &[0, 2, 1, 3])
}
