//! Attention as configurations describe it, and the functions that build it of a checkpoint's
//! tensors.

use super::alibi::{Alibi, AlibiConfig};
use super::attention::{
    Attention, AttentionParts, GatePlace, OutputGate, QkNorms, QueryTemperature,
};
use super::linear::{Linear, Projections, TakeLinear, regrouped};
use super::masks::AttentionSpan;
use super::norm::{Norm, TakeNorm};
use super::rope::Rope;
use crate::error::Result;
use crate::weights::Weights;

/// The attention of a model's layers.
#[derive(Debug, Clone, Copy)]
pub struct AttentionConfig {
    /// Output features.
    pub dims: i32,
    /// Input features; `None` for as many.
    pub inputs: Option<i32>,
    /// Query heads.
    pub heads: i32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: i32,
    /// Whether the queries of a key head are those of every `kv_heads`-th head, and not of heads
    /// that follow each other.
    pub interleaved_groups: bool,
    /// Features of a head's queries and keys.
    pub head_dim: i32,
    /// Features of a head's values; `None` for as many.
    pub v_head_dim: Option<i32>,
    /// The names of the projections of queries, keys and values, and perhaps of gates: one for
    /// each, or one for all.
    pub qkv: &'static [&'static str],
    /// In which order the outputs of one projection for all follow each other.
    pub fused_order: FusedOrder,
    /// Takes each projection.
    pub linear: TakeLinear,
    /// Whether these projections have biases.
    pub qkv_bias: bool,
    /// Bounds queries, keys and values on both sides, behind a norm over all heads.
    pub clip_qkv: Option<f32>,
    /// Multiplies the values; `None` for 1.
    pub value_scale: Option<f32>,
    /// The name of the output projection.
    pub output: &'static str,
    /// Whether it has a bias.
    pub output_bias: bool,
    /// The norms over queries and keys.
    pub qk_norm: Option<QkNorm>,
    /// The epsilon of a root-mean-square norm over each head's values, without weights.
    pub v_norm: Option<f32>,
    /// The names of the steps that keys and values are rounded to, to −128 to 127 of them, as in
    /// training that minds quantization (Jacob et al. 2018).
    pub kv_steps: Option<[&'static str; 2]>,
    /// Whether the keys, as they are before their norm and rotation, serve as values.
    pub values_are_keys: bool,
    /// Multiplies q kᵀ; `None` for 1 / √head_dim.
    pub scale: Option<f32>,
    /// Bounds what the soft-max sees: cap · tanh(scores / cap); `None` does not.
    pub soft_cap: Option<f32>,
    /// Biases of the scores for positions; `None` for none.
    pub alibi: Option<AlibiConfig>,
    /// The name of the scores for looking at nothing, one for each head.
    pub sinks: Option<&'static str>,
    /// The gates of the output.
    pub output_gate: Option<OutputGate>,
    /// The name of their projection, where it is not the last of `qkv`.
    pub gate: Option<&'static str>,
    /// The epsilon of a root-mean-square norm over what each head attended to, without weights.
    pub output_head_norm: Option<f32>,
    /// The name, kind and epsilon of a norm over all heads in front of the output projection.
    pub output_norm: Option<(&'static str, TakeNorm, f32)>,
}

/// What differs between the layers of a decoder.
#[derive(Debug, Clone)]
pub struct LayerConfig {
    /// How far back a token sees.
    pub span: AttentionSpan,
    /// How positions are told apart; `None` does not look at them.
    pub rope: Option<Rope>,
    /// How queries grow with their position.
    pub temperature: Option<QueryTemperature>,
}

/// How queries and keys are normalized, before the rotation unless it says otherwise.
#[derive(Debug, Clone, Copy)]
pub struct QkNorm {
    names: [&'static str; 2],
    over: Over,
    eps: f32,
    rotate_first: bool,
}

/// Takes a norm of `heads` heads of `head_dim` features: the view, these, and epsilon.
type TakeHeadsNorm = fn(&Weights, i32, i32, f32) -> Result<Norm>;

#[derive(Debug, Clone, Copy)]
enum Over {
    EachHead(TakeNorm),
    EachHeadApart(TakeHeadsNorm),
    AllHeads(TakeNorm),
}

impl QkNorm {
    /// One norm for every head.
    pub fn each_head(take: TakeNorm, eps: f32) -> Self {
        Self { names: ["q_norm", "k_norm"], over: Over::EachHead(take), eps, rotate_first: false }
    }

    /// A norm for each head, with weights of its own.
    pub fn each_head_apart(take: TakeHeadsNorm, eps: f32) -> Self {
        Self { over: Over::EachHeadApart(take), ..Self::each_head(Norm::rms, eps) }
    }

    /// One norm over all heads together.
    pub fn all_heads(take: TakeNorm, eps: f32) -> Self {
        Self { over: Over::AllHeads(take), ..Self::each_head(take, eps) }
    }

    /// The same by other names.
    pub fn named(self, names: [&'static str; 2]) -> Self {
        Self { names, ..self }
    }

    /// The same behind the rotation.
    pub fn after_rotation(self) -> Self {
        Self { rotate_first: true, ..self }
    }

    /// Whether the rotation comes before them.
    pub(super) fn rotates_first(&self) -> bool {
        self.rotate_first
    }

    /// The norm of the queries (0) or keys (1).
    fn norm(&self, w: &Weights, part: usize, heads: i32, head_dim: i32) -> Result<Norm> {
        let w = w.at(self.names[part]);
        match self.over {
            Over::EachHead(take) => take(&w, head_dim, self.eps),
            Over::EachHeadApart(take) => take(&w, heads, head_dim, self.eps),
            Over::AllHeads(take) => take(&w, heads * head_dim, self.eps),
        }
    }
}

/// In which order the outputs of a fused projection follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FusedOrder {
    /// All queries, all keys, all values.
    ByPart,
    /// For each key head the queries that attend to it, that key, and its value.
    ByKeyHead,
}

impl AttentionConfig {
    /// Takes the tensors of a layer's attention.
    pub fn build(&self, w: &Weights, layer: LayerConfig) -> Result<Attention> {
        Ok(Attention::new(w, self.parts(w, layer)?))
    }

    /// The same before it is put together.
    pub fn parts(&self, w: &Weights, layer: LayerConfig) -> Result<AttentionParts> {
        self.parts_of(w, layer, self.qkv(w)?)
    }

    /// [`Self::build`] of a layer that projects its queries alone.
    pub(super) fn build_queries(&self, w: &Weights, layer: LayerConfig) -> Result<Attention> {
        let outputs = self.outputs()[0];
        let queries = (self.linear)(&w.at(self.qkv[0]), self.inputs(), outputs, self.qkv_bias)?;
        let queries = Projections::new(w, vec![(queries, outputs)])?;
        Ok(Attention::new(w, self.parts_of(w, layer, queries)?))
    }

    fn parts_of(
        &self,
        w: &Weights,
        layer: LayerConfig,
        qkv: Projections,
    ) -> Result<AttentionParts> {
        let Self { dims, heads, kv_heads, head_dim, .. } = *self;
        let v_head_dim = self.v_head_dim();
        let inner = heads * v_head_dim;
        let LayerConfig { span, rope, temperature } = layer;
        Ok(AttentionParts {
            heads,
            kv_heads,
            interleaved_groups: self.interleaved_groups,
            head_dim,
            v_head_dim,
            qkv,
            clip_qkv: self.clip_qkv,
            value_scale: self.value_scale,
            output_gate: self.output_gate,
            gate: self.gate_projection(w)?,
            qk_norms: self.qk_norms(w)?,
            rotate_first: self.qk_norm.is_some_and(|norm| norm.rotate_first),
            v_norm: self.v_norm,
            values_are_keys: self.values_are_keys,
            kv_steps: match self.kv_steps {
                Some([keys, values]) => Some([w.take(keys, &[])?, w.take(values, &[])?]),
                None => None,
            },
            rope,
            alibi: self.alibi.map(|it| Alibi::new(it, heads, self.scale())).transpose()?,
            temperature,
            span,
            scale: self.scale(),
            soft_cap: self.soft_cap,
            sinks: self.sinks.map(|name| w.take(name, &[heads])).transpose()?,
            output_head_norm: self.output_head_norm,
            output_norm: self
                .output_norm
                .map(|(name, take, eps)| take(&w.at(name), inner, eps))
                .transpose()?,
            output: (self.linear)(&w.at(self.output), inner, dims, self.output_bias)?,
        })
    }

    /// Features of what is attended from.
    fn inputs(&self) -> i32 {
        self.inputs.unwrap_or(self.dims)
    }

    /// Features of a head's values.
    fn v_head_dim(&self) -> i32 {
        self.v_head_dim.unwrap_or(self.head_dim)
    }

    /// Multiplies q kᵀ.
    pub(super) fn scale(&self) -> f32 {
        self.scale.unwrap_or_else(|| (self.head_dim as f32).sqrt().recip())
    }

    /// The norm of the queries alone.
    pub(super) fn q_norm(&self, w: &Weights) -> Result<Option<Norm>> {
        self.qk_norm.map(|norm| norm.norm(w, 0, self.heads, self.head_dim)).transpose()
    }

    fn qk_norms(&self, w: &Weights) -> Result<Option<QkNorms>> {
        let Some(norm) = self.qk_norm else { return Ok(None) };
        let norms = [
            norm.norm(w, 0, self.heads, self.head_dim)?,
            norm.norm(w, 1, self.kv_heads, self.head_dim)?,
        ];
        Ok(Some(match norm.over {
            Over::AllHeads(_) => QkNorms::AllHeads(norms),
            Over::EachHead(_) | Over::EachHeadApart(_) => QkNorms::EachHead(norms),
        }))
    }

    /// The outputs of queries, keys, values unless the keys serve, and gates.
    fn outputs(&self) -> Vec<i32> {
        let [queries, keys] = [self.heads, self.kv_heads].map(|heads| heads * self.head_dim);
        let gates = self.output_gate.map(|gate| gate.place);
        let with_gates = gates == Some(GatePlace::WithQueries);
        let mut outputs = vec![if with_gates { 2 * queries } else { queries }, keys];
        if !self.values_are_keys {
            outputs.push(self.kv_heads * self.v_head_dim());
        }
        if self.gate.is_none() {
            outputs.extend(self.gates());
        }
        outputs
    }

    /// The outputs of a projection of gates.
    fn gates(&self) -> Option<i32> {
        match self.output_gate?.place {
            GatePlace::EachFeature => Some(self.heads * self.v_head_dim()),
            GatePlace::EachHead => Some(self.heads),
            GatePlace::WithQueries => None,
        }
    }

    /// The projection of the gates, where it is apart from the others.
    fn gate_projection(&self, w: &Weights) -> Result<Option<Linear>> {
        let Some((name, gates)) = self.gate.zip(self.gates()) else { return Ok(None) };
        let w = w.at(name);
        (self.linear)(&w, self.inputs(), gates, w.has("bias")).map(Some)
    }

    pub(super) fn qkv(&self, w: &Weights) -> Result<Projections> {
        let outputs = self.outputs();
        let linear = |name, outputs, bias| (self.linear)(&w.at(name), self.inputs(), outputs, bias);
        if let [fused] = self.qkv {
            let fused = linear(fused, outputs.iter().sum(), self.qkv_bias)?;
            let fused = match self.fused_order {
                FusedOrder::ByPart => fused,
                FusedOrder::ByKeyHead => {
                    let Self { heads, kv_heads, head_dim, .. } = *self;
                    let queries = heads / kv_heads * head_dim;
                    fused.with_rows(&regrouped(kv_heads, &[queries, head_dim, head_dim]))?
                }
            };
            return Ok(Projections::stacked(fused, &outputs));
        }
        let parts = self.qkv.iter().zip(outputs).enumerate().map(|(part, (name, outputs))| {
            // Gates by themselves have none.
            Ok((linear(name, outputs, self.qkv_bias && part < 3)?, outputs))
        });
        Projections::new(w, parts.collect::<Result<_>>()?)
    }
}
