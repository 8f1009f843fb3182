//! Multi-head attention with grouped key/value heads (Ainslie et al. 2023).

use super::alibi::Alibi;
use super::linear::{Linear, Projections};
use super::masks::AttentionSpan;
use super::mixer::Mixer;
use super::norm::Norm;
use super::residual::Input;
use super::rope::Rope;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::activation::clipped;
use crate::fused::attention::{AttentionParams, AttentionRow, Qkv, attention, make_room};
use crate::fused::math::{scaled, softplus};
use crate::mlx::fast::Mask;
use crate::mlx::{Array, Dtype, from_f32, ops};
use crate::weights::Weights;

/// What an attention block is made of. [`super::AttentionConfig`] builds it of a checkpoint's
/// tensors.
#[derive(Debug)]
pub struct AttentionParts {
    /// Query heads.
    pub heads: i32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: i32,
    /// Whether the queries of a key head are those of every `kv_heads`-th head.
    pub interleaved_groups: bool,
    /// Features of a head's queries and keys.
    pub head_dim: i32,
    /// Features of a head's values.
    pub v_head_dim: i32,
    /// Queries, keys and values; the last are missing where the keys serve as values, as they are
    /// before their norm and rotation.
    pub qkv: Projections,
    /// Bounds queries, keys and values on both sides, behind a norm over all heads.
    pub clip_qkv: Option<f32>,
    /// Multiplies the values.
    pub value_scale: Option<f32>,
    /// What was attended to is multiplied by gates (Qiu et al. 2025).
    pub output_gate: Option<OutputGate>,
    /// The projection of the gates, where `qkv` does not give them.
    pub gate: Option<Linear>,
    /// The norms of queries and of keys.
    pub qk_norms: Option<QkNorms>,
    /// Whether the rotation comes before these norms.
    pub rotate_first: bool,
    /// The epsilon of a root-mean-square norm over each head's values, without weights.
    pub v_norm: Option<f32>,
    /// Whether the keys serve as values.
    pub values_are_keys: bool,
    /// The steps `[]` that keys and values are rounded to, to −128 to 127 of them.
    pub kv_steps: Option<[Array; 2]>,
    /// `None` for layers that do not rotate.
    pub rope: Option<Rope>,
    /// Biases of the scores for positions.
    pub alibi: Option<Alibi>,
    /// How queries grow with their position.
    pub temperature: Option<QueryTemperature>,
    /// How far back a token sees.
    pub span: AttentionSpan,
    /// Multiplies q kᵀ.
    pub scale: f32,
    /// Bounds what the soft-max sees: cap · tanh(scores / cap); `None` does not.
    pub soft_cap: Option<f32>,
    /// A score for each head for looking at nothing, `[heads]`.
    pub sinks: Option<Array>,
    /// The epsilon of a root-mean-square norm over what each head attended to, without weights.
    pub output_head_norm: Option<f32>,
    /// The norm over all heads of what was attended to.
    pub output_norm: Option<Norm>,
    /// The output projection.
    pub output: Linear,
}

/// The gates of attention's output.
#[derive(Debug, Clone, Copy)]
pub struct OutputGate {
    /// Where they are.
    pub place: GatePlace,
    /// What makes factors of them.
    pub function: fn(&Array) -> Result<Array>,
}

/// Where the gates of attention's output are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatePlace {
    /// The query projection gives each head its gates, after its query.
    WithQueries,
    /// A projection of their own, the last, gives one for each feature.
    EachFeature,
    /// The same with one for each head.
    EachHead,
}

impl OutputGate {
    /// Gates whose logistic functions are the factors.
    pub const fn sigmoid(place: GatePlace) -> Self {
        Self { place, function: ops::sigmoid }
    }

    /// Gates whose soft-plus, ln(1 + eˣ), are the factors.
    pub const fn softplus(place: GatePlace) -> Self {
        Self { place, function: softplus }
    }
}

/// The norms of queries and of keys.
#[derive(Debug)]
pub enum QkNorms {
    /// Over each head.
    EachHead([Norm; 2]),
    /// Over all heads together.
    AllHeads([Norm; 2]),
}

/// Queries multiplied by 1 + scale · ln(1 + ⌊(position + 1) / floor⌋), with positions from 0,
/// against the flattening of the soft-max over long contexts (Meta 2025, "Llama 4").
#[derive(Debug, Clone, Copy)]
pub struct QueryTemperature {
    /// How much they grow.
    pub scale: f32,
    /// The positions after which they do.
    pub floor: f32,
    /// The number of the first position.
    pub first: i32,
}

impl QueryTemperature {
    /// The factors of `length` queries, the first at position `offset`, `[length, 1]`; `None` where
    /// all of them are 1.
    pub(super) fn factors(self, length: i32, offset: i32) -> Option<Array> {
        let Self { scale, floor, first } = self;
        let factor = |position: i32| 1.0 + scale * (position as f32 / floor).floor().ln_1p();
        let factors: Vec<_> = (0..length).map(|index| factor(first + offset + index)).collect();
        let grow = factors.iter().any(|&factor| factor != 1.0);
        grow.then(|| from_f32(&factors, &[length, 1]))
    }
}

/// The attention block of one layer.
#[derive(Debug)]
pub struct Attention {
    qkv: Projections,
    /// Where values come from: the keys as they are projected, or a projection of their own.
    values_are_keys: bool,
    clip_qkv: Option<f32>,
    value_scale: Option<f32>,
    output_gate: Option<OutputGate>,
    /// The projection of the gates, where it is apart from the others.
    gate: Option<Linear>,
    /// The norms over all heads of queries and of keys together.
    whole_norms: Option<[Norm; 2]>,
    params: AttentionParams,
    /// `None` for layers that do not rotate.
    rope: Option<Rope>,
    alibi: Option<Alibi>,
    span: AttentionSpan,
    temperature: Option<QueryTemperature>,
    device: Device,
}

impl Attention {
    /// Attention of these parts, with what `w` says of the device and of caches.
    pub fn new(w: &Weights, parts: AttentionParts) -> Self {
        let (qk_norm, whole_norms) = match parts.qk_norms {
            Some(QkNorms::EachHead(norms)) => (Some(norms.map(Norm::into_params)), None),
            Some(QkNorms::AllHeads(norms)) => (None, Some(norms)),
            None => (None, None),
        };
        let params = AttentionParams {
            heads: parts.heads,
            kv_heads: parts.kv_heads,
            interleaved_groups: parts.interleaved_groups,
            head_dim: parts.head_dim,
            v_head_dim: parts.v_head_dim,
            qk_norm,
            rotate_first: parts.rotate_first,
            v_norm: parts.v_norm,
            kv_steps: parts.kv_steps,
            scale: parts.scale,
            soft_cap: parts.soft_cap,
            sinks: parts.sinks,
            kv_dtype: w.cache_dtype(),
            output_head_norm: parts.output_head_norm,
            output_norm: parts.output_norm.map(Norm::into_params),
            output: parts.output.into_weights(),
        };
        Self {
            qkv: parts.qkv,
            values_are_keys: parts.values_are_keys,
            clip_qkv: parts.clip_qkv,
            value_scale: parts.value_scale,
            output_gate: parts.output_gate,
            gate: parts.gate,
            whole_norms,
            params,
            rope: parts.rope,
            alibi: parts.alibi,
            span: parts.span,
            temperature: parts.temperature,
            device: w.device(),
        }
    }

    /// What attention is to know of a row, before its new positions go in.
    fn row<'a>(&self, row: Row<'a>, dtype: Dtype) -> Result<AttentionRow<'a, Cache>> {
        let Row { length, masks, cache } = row;
        let offset = cache.offset();
        let mask = match &self.alibi {
            Some(alibi) => masks.biased(length, self.span, cache, alibi, dtype)?,
            None => masks.get(length, self.span, cache)?,
        };
        Ok(AttentionRow {
            length,
            rope: self.rope.as_ref().map(|rope| rope.at(offset, length)),
            query_scale: self.temperature.and_then(|it| it.factors(length, offset)),
            mask: mask.clone(),
            cache,
        })
    }

    /// What the projections give, and last the factors of the output, where there are gates.
    pub(super) fn project(&self, x: &Input) -> Result<(Vec<Array>, Option<Array>)> {
        let AttentionParams { heads, head_dim, v_head_dim, .. } = self.params;
        // The other projections read it, too.
        let gates = self.gate.as_ref().map(|gate| gate.forward(x.array()?)).transpose()?;
        let mut qkv = x.project(&self.qkv)?;
        let Some(gate) = self.output_gate else { return Ok((qkv, None)) };
        let gates = match gate.place {
            GatePlace::EachFeature | GatePlace::EachHead => gates.or_else(|| qkv.pop()),
            GatePlace::WithQueries => {
                let (queries, gates) = split_gate(&qkv[0], heads, head_dim)?;
                qkv[0] = queries;
                Some(gates)
            }
        };
        let factors = gates.map(|gates| (gate.function)(&gates)).transpose()?;
        let factors = match gate.place {
            GatePlace::EachHead => {
                factors.map(|factors| for_each_feature(&factors, v_head_dim)).transpose()?
            }
            GatePlace::EachFeature | GatePlace::WithQueries => factors,
        };
        Ok((qkv, factors))
    }

    /// The attention of what is projected.
    pub(super) fn attend(
        &self,
        mut qkv: Vec<Array>,
        factors: Option<&Array>,
        rows: &mut Rows,
    ) -> Result<Array> {
        if let Some([q_norm, k_norm]) = &self.whole_norms {
            qkv[0] = q_norm.forward(&qkv[0])?;
            qkv[1] = k_norm.forward(&qkv[1])?;
        }
        if let Some(limit) = self.clip_qkv {
            for part in &mut qkv {
                *part = clipped(part, limit)?;
            }
        }
        if let Some(factor) = self.value_scale {
            qkv[2] = scaled(&qkv[2], factor)?;
        }
        let new = Qkv {
            queries: &qkv[0],
            keys: &qkv[1],
            values: if self.values_are_keys { &qkv[1] } else { &qkv[2] },
            gate: factors,
        };
        let rows = rows.iter_mut().map(|row| self.row(row, qkv[0].dtype()));
        let rows = rows.collect::<Result<_>>()?;
        attention(self.device, &new, rows, &self.params)
    }
}

impl Attention {
    /// The attention of one row's projections, of which `mask` says what they see.
    pub(super) fn attend_within(
        &self,
        [queries, keys, values]: [&Array; 3],
        mask: Mask,
        cache: &mut Cache,
    ) -> Result<Array> {
        let (length, offset) = (queries.dim(1), cache.offset());
        let row = AttentionRow {
            length,
            rope: self.rope.as_ref().map(|rope| rope.at(offset, length)),
            query_scale: self.temperature.and_then(|it| it.factors(length, offset)),
            mask,
            cache,
        };
        let new = Qkv { queries, keys, values, gate: None };
        attention(self.device, &new, vec![row], &self.params)
    }
}

impl Mixer for Attention {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let (qkv, factors) = self.project(x)?;
        self.attend(qkv, factors.as_ref(), rows)
    }

    fn make_room(&self, rows: &mut Rows, batch: i32, dtype: Dtype) -> Result<Vec<Array>> {
        let mut made = Vec::new();
        for row in rows.iter_mut() {
            let new = [batch, row.length];
            made.extend(make_room(self.device, row.cache, new, dtype, &self.params)?);
        }
        Ok(made)
    }

    fn make_cache(&self) -> Cache {
        self.span.make_cache()
    }
}

/// The gate of each head, `[batch, length, heads]`, once for each of its features.
pub(super) fn for_each_feature(gates: &Array, features: i32) -> Result<Array> {
    let (batch, length, heads) = (gates.dim(0), gates.dim(1), gates.dim(2));
    let gates = ops::expand_dims(gates, -1)?;
    let gates = ops::broadcast_to(&gates, &[batch, length, heads, features])?;
    ops::reshape(&gates, &[batch, length, heads * features])
}

/// The queries and the gates, `[batch, length, heads · head_dim]` each, of what projects both for
/// each head.
fn split_gate(projected: &Array, heads: i32, head_dim: i32) -> Result<(Array, Array)> {
    let (batch, length) = (projected.dim(0), projected.dim(1));
    let by_head = ops::reshape(projected, &[batch, length, heads, 2 * head_dim])?;
    let flat = [batch, length, heads * head_dim];
    let part = |start| ops::reshape(&ops::slice_axis(&by_head, 3, start, start + head_dim)?, &flat);
    Ok((part(0)?, part(head_dim)?))
}
