//! Multi-head attention with grouped key/value heads (Ainslie et al. 2023).

use super::linear::{Linear, Projections};
use super::mixer::{AttentionSpan, Masks, Mixer};
use super::norm::Norm;
use super::residual::Input;
use super::rope::Rope;
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::attention::{AttentionParams, NewQkv, attention};
use crate::mlx::{Array, from_f32, ops};
use crate::weights::Weights;

/// What varies between architectures.
#[derive(Debug, Clone)]
pub struct AttentionConfig {
    /// Input and output features.
    pub dims: i32,
    /// Query heads.
    pub heads: i32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: i32,
    /// Features of a head.
    pub head_dim: i32,
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the output projection has one.
    pub output_bias: bool,
    /// The names of the projections.
    pub names: ProjectionNames,
    /// A norm over queries and keys, before the rotation.
    pub qk_norm: QkNorm,
    /// The names of these norms.
    pub norm_names: [&'static str; 2],
    /// Where values come from.
    pub values: Values,
    /// Multiplies q kᵀ; `None` for 1 / √head_dim.
    pub scale: Option<f32>,
    /// Bounds what the soft-max sees: cap · tanh(scores / cap); `None` does not.
    pub soft_cap: Option<f32>,
    /// Whether each head has a score for looking at nothing (`sinks`).
    pub sinks: bool,
    /// Whether the query projection gives each head a gate, too (after its query), by whose
    /// logistic function what it attended to is multiplied (Qiu et al. 2025).
    pub output_gate: bool,
}

/// How a checkpoint names and cuts attention's projections.
#[derive(Debug, Clone, Copy)]
pub enum ProjectionNames {
    /// `q_proj`, `k_proj`, `v_proj`, and this one for the output.
    Separate(&'static str),
    /// Queries, keys and values in one, and the output.
    Fused(&'static str, &'static str),
}

/// Where a layer's values come from, and whether they are normalized.
#[derive(Debug, Clone, Copy)]
pub enum Values {
    /// A projection of their own.
    Projected,
    /// The same, and then a root-mean-square norm over each head, without weights, with this
    /// epsilon.
    Normed(f32),
    /// The keys as they are before their norm and rotation, and then such a norm.
    NormedKeys(f32),
}

/// How queries and keys are normalized.
#[derive(Debug, Clone, Copy)]
pub enum QkNorm {
    /// Not at all.
    None,
    /// Root-mean-square over each head, with this epsilon.
    Head(f32),
    /// The same, stored less 1.
    HeadPlusOne(f32),
    /// Root-mean-square over each head, without weights, with this epsilon.
    HeadUnweighted(f32),
    /// Layer norm over each head, with weights of its own and this epsilon.
    LayerForEachHead(f32),
    /// Root-mean-square over all heads together, with this epsilon.
    Whole(f32),
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
    fn factors(self, length: i32, offset: i32) -> Option<Array> {
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
    /// Whether the query projection gives each head a gate, too.
    output_gate: bool,
    /// The norms over all heads of queries and of keys together.
    whole_norms: Option<[Norm; 2]>,
    params: AttentionParams,
    /// `None` for layers that do not look at positions.
    rope: Option<Rope>,
    span: AttentionSpan,
    temperature: Option<QueryTemperature>,
    device: Device,
}

impl Attention {
    /// Takes the projections, and the norms of queries and keys where configured.
    pub fn new(
        w: &Weights,
        config: AttentionConfig,
        rope: Option<Rope>,
        window: Option<i32>,
    ) -> Result<Self> {
        let AttentionConfig { dims, heads, kv_heads, head_dim, .. } = config;
        let parts = [heads, kv_heads, kv_heads].map(|heads| heads * head_dim);
        let gates = if config.output_gate { parts[0] } else { 0 };
        let outputs = [parts[0] + gates, parts[1], parts[2]];
        let (qkv, output) = match config.names {
            ProjectionNames::Separate(output) => {
                let linear = |(name, outputs)| {
                    Ok((Linear::new(&w.at(name), dims, outputs, config.qkv_bias)?, outputs))
                };
                let names: &[&str] = match config.values {
                    Values::NormedKeys(_) => &["q_proj", "k_proj"],
                    Values::Projected | Values::Normed(_) => &["q_proj", "k_proj", "v_proj"],
                };
                let linears = names.iter().copied().zip(outputs).map(linear);
                (Projections::new(w, linears.collect::<Result<_>>()?)?, output)
            }
            ProjectionNames::Fused(qkv, output) => {
                let all = outputs.iter().sum();
                let linear = Linear::new(&w.at(qkv), dims, all, config.qkv_bias)?;
                (Projections::stacked(linear, &outputs), output)
            }
        };
        let output = Linear::new(&w.at(output), heads * head_dim, dims, config.output_bias)?;
        let [q, k] = config.norm_names.map(|name| w.at(name));
        let (mut qk_norm, mut whole_norms) = (None, None);
        match config.qk_norm {
            QkNorm::None => {}
            QkNorm::Head(eps) => {
                qk_norm = Some([Norm::rms(&q, head_dim, eps)?, Norm::rms(&k, head_dim, eps)?]);
            }
            QkNorm::HeadPlusOne(eps) => {
                let norm = |w| Norm::rms_plus_one(w, head_dim, eps);
                qk_norm = Some([norm(&q)?, norm(&k)?]);
            }
            QkNorm::HeadUnweighted(eps) => {
                qk_norm = Some([Norm::unweighted(&q, eps), Norm::unweighted(&k, eps)]);
            }
            QkNorm::LayerForEachHead(eps) => {
                let norm = |w, heads| Norm::layer_per_head(w, heads, head_dim, eps);
                qk_norm = Some([norm(&q, heads)?, norm(&k, kv_heads)?]);
            }
            QkNorm::Whole(eps) => {
                whole_norms = Some([Norm::rms(&q, parts[0], eps)?, Norm::rms(&k, parts[1], eps)?]);
            }
        }
        let params = AttentionParams {
            heads,
            kv_heads,
            head_dim,
            qk_norm: qk_norm.map(|norms| norms.map(Norm::into_params)),
            v_norm: match config.values {
                Values::Projected => None,
                Values::Normed(eps) | Values::NormedKeys(eps) => Some(eps),
            },
            scale: config.scale.unwrap_or_else(|| (head_dim as f32).sqrt().recip()),
            soft_cap: config.soft_cap,
            sinks: if config.sinks { Some(w.take("sinks", &[heads])?) } else { None },
            kv_dtype: w.cache_dtype(),
            output: output.into_weights(),
        };
        Ok(Self {
            qkv,
            values_are_keys: matches!(config.values, Values::NormedKeys(_)),
            output_gate: config.output_gate,
            whole_norms,
            params,
            rope,
            span: window.into(),
            temperature: None,
            device: w.device(),
        })
    }

    /// The same within chunks of this many positions.
    pub fn within_chunks(self, size: i32) -> Self {
        Self { span: AttentionSpan::Chunked(size), ..self }
    }

    /// The same with queries that grow with their position.
    pub fn with_temperature(self, temperature: QueryTemperature) -> Self {
        Self { temperature: Some(temperature), ..self }
    }
}

impl Mixer for Attention {
    fn forward(&self, x: &Input, masks: &mut Masks, cache: &mut Cache) -> Result<Array> {
        let AttentionParams { heads, head_dim, .. } = self.params;
        let (length, offset) = (x.dim(1), cache.offset());
        let mut qkv = x.project(&self.qkv)?;
        let mut gate = None;
        if self.output_gate {
            let (queries, gates) = split_gate(&qkv[0], heads, head_dim)?;
            (qkv[0], gate) = (queries, Some(gates));
        }
        if let Some([q_norm, k_norm]) = &self.whole_norms {
            qkv[0] = q_norm.forward(&qkv[0])?;
            qkv[1] = k_norm.forward(&qkv[1])?;
        }
        let new = NewQkv {
            queries: &qkv[0],
            keys: &qkv[1],
            values: if self.values_are_keys { &qkv[1] } else { &qkv[2] },
            rope: self.rope.as_ref().map(|rope| rope.at(offset, length)),
            query_scale: self.temperature.and_then(|it| it.factors(length, offset)),
            gate: gate.as_ref(),
        };
        let mask = masks.get(length, self.span, cache)?;
        attention(self.device, &new, cache, mask, &self.params)
    }

    fn make_cache(&self) -> Cache {
        match self.span {
            AttentionSpan::Full => Cache::standard(),
            AttentionSpan::SlidingWindow(window) => Cache::rotating(window, 0),
            AttentionSpan::Chunked(size) => Cache::chunked(size),
        }
    }
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
