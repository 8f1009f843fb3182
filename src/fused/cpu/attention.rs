//! Rotation and attention.

use std::borrow::Cow;
use std::ffi::CStr;

use super::super::attention::{AttentionParams, AttentionRow, Qkv, Scores};
use super::super::kv::KvCache;
use super::super::norm::NormParams;
use super::super::rope::{RopeFreqs, RopeParams};
use super::products::DownProjection;
use super::{CpuKernel, NodeOptions, float_span, floats, readable, wrong_outputs};
use crate::cpu::attention::{self, Attention, Cached, CachedRow};
use crate::cpu::heads::Heads;
use crate::cpu::prepare::{HeadNorm, QkNormRope};
use crate::cpu::rope::{Angles, Rope};
use crate::cpu::scratch::Scratch;
use crate::cpu::{ExecOptions, FloatsMut};
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

/// The norm of each head's queries or keys, but for the weight: its epsilon, and whether it has
/// one.
type NormInputs = (f32, bool);

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

/// A norm with the next of the inputs, if it has a weight.
fn head_norm<'a>(
    (eps, weight): NormInputs,
    inputs: &mut std::slice::Iter<Input<'a>>,
) -> Result<HeadNorm<'a>> {
    let weight = if weight { Some(floats(next(inputs)?)?) } else { None };
    Ok(HeadNorm { weight, eps })
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

/// The heads of `length` positions, from the one numbered `from`, of what a projection gives,
/// `[batch, positions, heads · head_dim]`.
fn projected<'a>(x: &Input<'a>, heads: usize, from: usize, length: usize) -> Result<Heads<'a>> {
    let (&[batch, positions, features], &[batch_stride, stride, step]) = (x.shape(), x.strides())
    else {
        return Err(Error::Mlx(format!("three axes were expected, not {:?}", x.shape())));
    };
    let [batch, positions, features] = [batch, positions, features].map(|dim| dim as usize);
    if step != 1 && features > 1 {
        return Err(Error::Mlx("the features must lie side by side".to_owned()));
    }
    if from + length > positions {
        return Err(Error::Mlx(format!("{positions} positions, not {}", from + length)));
    }
    let (dim, stride) = (features / heads, stride as usize);
    let values = x.span()?.get(from * stride..).unwrap_or_default();
    let strides = [batch_stride as usize, dim, stride];
    Ok(Heads { values, shape: [batch, heads, length, dim], strides })
}

/// A buffer of a cache, `[batch, kv_heads, capacity, head_dim]`.
fn buffer<'a>(output: &'a mut Output) -> Result<FloatsMut<'a>> {
    Ok(match output.dtype() {
        Dtype::Float32 => FloatsMut::F32(output.slice()?),
        Dtype::Float16 => FloatsMut::F16(output.slice()?),
        Dtype::Bfloat16 => FloatsMut::Bf16(output.slice()?),
        other => return Err(Error::Mlx(format!("a buffer of {other:?}"))),
    })
}

/// Attention of new positions of some rows over the buffers of their caches, into which they are
/// written first. Inputs are the buffers, what the projections give of all rows, the weights of the
/// norms, scores of sinks, and of each row the periods of its rotation and its mask, as far as
/// there are any; then the output projection.
struct CachedAttention {
    heads: usize,
    /// Those of queries and of keys.
    norms: [Option<NormInputs>; 2],
    scores: ScoreInputs,
    rows: Vec<RowInputs>,
    output: Option<DownProjection>,
}

/// What differs between rows, but for the arrays.
struct RowInputs {
    /// How many positions are new.
    length: usize,
    /// The place of the first of them.
    start: usize,
    rope: Option<RopeInputs>,
    mask: MaskInputs,
}

impl CpuKernel for CachedAttention {
    const NAME: &'static CStr = c"CachedAttention";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let buffers = 2 * self.rows.len();
        if outputs.len() != buffers + 1 {
            return Err(wrong_outputs(outputs));
        }
        let (buffers, attended) = outputs.split_at_mut(buffers);
        // The buffers are there as outputs.
        let inputs = &inputs[buffers.len()..];
        let output = self.output.as_ref().map(|output| (output, output.split(inputs)));
        let mut inputs = output.as_ref().map_or(inputs, |(_, (others, _))| others).iter();
        let (queries, keys, values) = (next(&mut inputs)?, next(&mut inputs)?, next(&mut inputs)?);
        let [query_norm, key_norm] = self.norms;
        let query_norm = query_norm.map(|norm| head_norm(norm, &mut inputs)).transpose()?;
        let key_norm = key_norm.map(|norm| head_norm(norm, &mut inputs)).transpose()?;
        let sinks = self.scores.sinks(&mut inputs)?;
        let mut rows = Vec::with_capacity(self.rows.len());
        let mut from = 0;
        for (row, buffers) in self.rows.iter().zip(buffers.chunks_exact_mut(2)) {
            let &[_, kv_heads, capacity, _] = buffers[0].shape() else {
                return Err(Error::Mlx(format!("a buffer of {:?}", buffers[0].shape())));
            };
            let own = |x, heads| projected(x, heads, from, row.length);
            let kv_heads = kv_heads as usize;
            let rope = row.rope.map(|rope| rope.over(&mut inputs)).transpose()?;
            let [key_buffer, value_buffer] = buffers else { return Err(wrong_outputs(buffers)) };
            rows.push(CachedRow {
                queries: own(queries, self.heads)?,
                keys: own(keys, kv_heads)?,
                values: own(values, kv_heads)?,
                buffers: [buffer(key_buffer)?, buffer(value_buffer)?],
                capacity: capacity as usize,
                start: row.start,
                prepare: [query_norm, key_norm].map(|norm| QkNormRope { norm, rope }),
                mask: row.mask.over(&mut inputs)?,
            });
            from += row.length;
        }
        let ScoreInputs { scale, cap, .. } = self.scores;
        let scores = attention::Scores { scale, cap, sinks: sinks.as_deref() };
        let y = attended[0].slice()?;
        let Some((output, (_, matrix))) = output else {
            return Ok(attention::attend(rows, scores, y, exec.isa)?);
        };
        let mut memory = Scratch::new(output.factors(y.len()));
        attention::attend(rows, scores, memory.floats(), exec.isa)?;
        output.multiply(matrix, memory.floats(), y, exec)
    }
}

/// Whether [`cached_attention`] takes these.
pub fn supports<C: KvCache>(new: &Qkv, rows: &[AttentionRow<C>], params: &AttentionParams) -> bool {
    let arrays = [new.queries, new.keys, new.values];
    let takes = |row: &AttentionRow<C>| {
        row.cache.is_contiguous() && fits(&row.mask) && row.query_scale.is_none()
    };
    arrays.into_iter().all(|array| array.dtype() == Dtype::Float32)
        // Positions of a row lie together.
        && (rows.len() == 1 || new.queries.dim(0) == 1)
        && rows.iter().all(takes)
        && params.v_norm.is_none()
        && params.kv_steps.is_none()
        && params.v_head_dim == params.head_dim
        && !params.rotate_first
        && params.qk_norm.iter().flatten().all(|norm| norm.root_mean_square().is_some())
}

/// Attention of new positions over contiguous caches, into which their keys and values are written
/// first: `[batch, length, heads · head_dim]`, or with the product with `output`, as many features
/// as that gives. One node for all rows: what a row gets does not depend on the others.
pub fn cached_attention<C: KvCache>(
    options: NodeOptions,
    new: &Qkv,
    rows: &mut [AttentionRow<C>],
    params: &AttentionParams,
    output: Option<&QuantizedTensor>,
) -> Result<Array> {
    let dtype = params.kv_dtype.unwrap_or(new.keys.dtype());
    let [batch, length] = [new.queries.dim(0), new.queries.dim(1)];
    let mut buffers = Vec::with_capacity(2 * rows.len());
    for row in &*rows {
        let positions = [batch, params.kv_heads, row.length, params.head_dim];
        let own = row.cache.with_room(positions, dtype)?;
        let (start, kv_heads) = (row.cache.offset(), own[0].dim(1));
        for (buffer, x) in own.iter().zip([new.keys, new.values]) {
            let room = [batch, kv_heads, buffer.dim(2), x.dim(2) / kv_heads];
            if buffer.shape() != room
                || buffer.dim(2) < start + row.length
                || x.shape()[..2] != [batch, length]
            {
                let (buffer, x) = (buffer.shape(), x.shape());
                return Err(Error::Mlx(format!(
                    "{x:?} at {start} do not fit a cache of {buffer:?}"
                )));
            }
        }
        buffers.extend(own);
    }
    let (heads, values) = (new.queries.dim(2) / buffers[0].dim(3), buffers[1].dim(3));
    let outputs = output.map_or(heads * values, |output| output.weight.dim(-2));
    let (node, mut inputs) = node(new, rows, params, heads)?;
    let node = CachedAttention { output: output.map(DownProjection::with), ..node };
    inputs.extend(output.into_iter().flat_map(QuantizedTensor::arrays).cloned());
    let shape = [batch, length, outputs];
    let (updated, mut others) = updating(
        options.node(node),
        &buffers.iter().collect::<Vec<_>>(),
        &inputs.iter().collect::<Vec<_>>(),
        &[(&shape, Dtype::Float32)],
    )?;
    for (row, buffers) in rows.iter_mut().zip(updated.chunks_exact(2)) {
        row.cache.put([buffers[0].clone(), buffers[1].clone()], row.length);
    }
    Ok(others.remove(0))
}

/// The node without an output projection, and its inputs but for the buffers.
fn node<C: KvCache>(
    new: &Qkv,
    rows: &[AttentionRow<C>],
    params: &AttentionParams,
    heads: i32,
) -> Result<(CachedAttention, Vec<Array>)> {
    let mut inputs: Vec<Array> = [new.queries, new.keys, new.values].map(Array::clone).into();
    let norms =
        params.qk_norm.as_ref().map(|norms| norms.each_ref().map(NormParams::root_mean_square));
    let norms = norms.unwrap_or_default().map(|norm| {
        let (weight, eps) = norm?;
        inputs.extend(weight.cloned());
        Some((eps, weight.is_some()))
    });
    let (scores, sinks) = ScoreInputs::new(&params.scores())?;
    inputs.extend(sinks);
    let mut of_rows = Vec::with_capacity(rows.len());
    for AttentionRow { length, rope, mask, cache, .. } in rows {
        inputs.extend(rope.as_ref().and_then(RopeParams::explicit_freqs).cloned());
        let (mask, array) = MaskInputs::new(mask);
        inputs.extend(array.cloned());
        of_rows.push(RowInputs {
            length: *length as usize,
            start: cache.offset() as usize,
            rope: rope.as_ref().map(RopeInputs::new),
            mask,
        });
    }
    let heads = heads as usize;
    Ok((CachedAttention { heads, norms, scores, rows: of_rows, output: None }, inputs))
}

/// How products of queries and keys become scores, but for the arrays.
#[derive(Clone, Copy)]
struct ScoreInputs {
    scale: f32,
    cap: Option<f32>,
    /// Whether scores of sinks are given.
    has_sinks: bool,
}

impl ScoreInputs {
    /// With the array that [`ScoreInputs::sinks`] takes.
    fn new(scores: &Scores) -> Result<(Self, Option<Array>)> {
        let Scores { scale, soft_cap: cap, sinks } = *scores;
        let sinks = sinks.map(|sinks| ops::astype(sinks, Dtype::Float32)).transpose()?;
        Ok((Self { scale, cap, has_sinks: sinks.is_some() }, sinks))
    }

    /// The next of the inputs, if there are to be sinks.
    fn sinks<'a>(
        &self,
        inputs: &mut std::slice::Iter<Input<'a>>,
    ) -> Result<Option<Cow<'a, [f32]>>> {
        if self.has_sinks { next(inputs)?.values().map(Some) } else { Ok(None) }
    }
}

/// A mask, but for the array.
#[derive(Clone, Copy)]
enum MaskInputs {
    None,
    Causal,
    Array,
}

impl MaskInputs {
    /// With the array that [`MaskInputs::over`] takes.
    fn new(mask: &Mask) -> (Self, Option<&Array>) {
        match mask {
            Mask::None => (Self::None, None),
            Mask::Causal => (Self::Causal, None),
            Mask::Array(array) => (Self::Array, Some(array)),
        }
    }

    /// Takes the next of the inputs, if there is to be an array.
    fn over<'a>(self, inputs: &mut std::slice::Iter<Input<'a>>) -> Result<attention::Mask<'a>> {
        match self {
            Self::None => Ok(attention::Mask::None),
            Self::Causal => Ok(attention::Mask::Causal { window: None }),
            Self::Array => mask_of(next(inputs)?),
        }
    }
}

/// Inputs are queries, keys and values, and what the scores and the mask need.
struct DotProductAttention(ScoreInputs, MaskInputs);

impl CpuKernel for DotProductAttention {
    const NAME: &'static CStr = c"Attention";

    fn run(&self, inputs: &[Input], outputs: &mut [Output], exec: ExecOptions) -> Result<()> {
        let mut inputs = inputs.iter();
        let queries = next(&mut inputs)?;
        let (keys, values) = (cached(next(&mut inputs)?)?, cached(next(&mut inputs)?)?);
        let (shape, strides) = (four(queries)?, three(queries)?);
        let queries = Heads { values: queries.span()?, shape, strides };
        let sinks = self.0.sinks(&mut inputs)?;
        let mask = self.1.over(&mut inputs)?;
        let (ScoreInputs { scale, cap, .. }, sinks) = (self.0, sinks.as_deref());
        let attention = Attention { queries, keys, values, scale, cap, mask, sinks };
        Ok(attention.run(outputs[0].slice()?, exec.isa)?)
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
    let (scores, sinks) = ScoreInputs::new(scores)?;
    let (mask, array) = MaskInputs::new(mask);
    let inputs: Vec<_> = [queries, keys, values].into_iter().chain(&sinks).chain(array).collect();
    let shape = [queries.dim(0), queries.dim(2), queries.dim(1), values.dim(3)];
    let attended = options.build_one(DotProductAttention(scores, mask), &inputs, &shape)?;
    ops::transpose(&attended, &[0, 2, 1, 3])
}
