//! Multi-head attention with grouped key/value heads (Ainslie et al. 2023).

use super::dot_product::attend;
use super::linear::{Linear, Projections};
use super::mixer::{Masks, Mixer, Reach};
use super::norm::Norm;
use super::residual::Residual;
use super::rope::Rope;
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::fast::{self, Mask, NewPositions, Preparation, Scores};
use crate::mlx::quantized::Packed;
use crate::mlx::{Array, Dtype, from_f32, ops};
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
    /// Whether the query projection gives each head a gate, too (after its query), by whose logistic
    /// function what it attended to is multiplied (Qiu et al. 2025).
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
    /// The same, and then a root-mean-square norm over each head, without weights, with this epsilon.
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

/// Queries multiplied by 1 + scale · ln(1 + ⌊(position + 1) / floor⌋), with positions from 0, against the
/// flattening of the soft-max over long contexts (Meta 2025, "Llama 4").
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
    /// `[batch, heads, length, head_dim]`, whose first position is `offset`, to the same shape.
    fn apply(self, queries: &Array, offset: i32) -> Result<Array> {
        let Self { scale, floor, first } = self;
        let length = queries.dim(2);
        let factor = |position: i32| 1.0 + scale * (position as f32 / floor).floor().ln_1p();
        let factors: Vec<_> = (0..length).map(|index| factor(first + offset + index)).collect();
        if factors.iter().all(|&factor| factor == 1.0) {
            return Ok(queries.clone());
        }
        let scaled = ops::multiply(queries, &from_f32(&factors, &[length, 1]))?;
        ops::astype(&scaled, queries.dtype())
    }
}

/// The attention block of one layer.
#[derive(Debug)]
pub struct Attention {
    config: AttentionConfig,
    qkv: Projections,
    output: Linear,
    norms: Option<(Norm, Norm)>,
    sinks: Option<Array>,
    /// `None` for layers that do not look at positions.
    rope: Option<Rope>,
    reach: Reach,
    temperature: Option<QueryTemperature>,
    scale: f32,
    /// The type in which keys and values are kept; `None` for as they come.
    kept: Option<Dtype>,
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
                (Projections::new(linears.collect::<Result<_>>()?)?, output)
            }
            ProjectionNames::Fused(qkv, output) => {
                let all = outputs.iter().sum();
                let linear = Linear::new(&w.at(qkv), dims, all, config.qkv_bias)?;
                (Projections::stacked(linear, &outputs), output)
            }
        };
        let output = Linear::new(&w.at(output), heads * head_dim, dims, config.output_bias)?;
        let [queries, keys] = config.norm_names.map(|name| w.at(name));
        let norms = match config.qk_norm {
            QkNorm::None => None,
            QkNorm::Head(eps) => {
                Some((Norm::rms(&queries, head_dim, eps)?, Norm::rms(&keys, head_dim, eps)?))
            }
            QkNorm::HeadPlusOne(eps) => Some((
                Norm::rms_plus_one(&queries, head_dim, eps)?,
                Norm::rms_plus_one(&keys, head_dim, eps)?,
            )),
            QkNorm::HeadUnweighted(eps) => {
                Some((Norm::Unweighted { eps }, Norm::Unweighted { eps }))
            }
            QkNorm::LayerForEachHead(eps) => Some((
                Norm::heads(&queries, heads, head_dim, eps)?,
                Norm::heads(&keys, kv_heads, head_dim, eps)?,
            )),
            QkNorm::Whole(eps) => {
                Some((Norm::rms(&queries, parts[0], eps)?, Norm::rms(&keys, parts[1], eps)?))
            }
        };
        let sinks = if config.sinks { Some(w.take("sinks", &[heads])?) } else { None };
        let scale = config.scale.unwrap_or_else(|| (head_dim as f32).sqrt().recip());
        Ok(Self {
            config,
            qkv,
            output,
            norms,
            sinks,
            rope,
            reach: window.into(),
            temperature: None,
            scale,
            kept: w.cache_dtype(),
        })
    }

    /// The same within chunks of so many positions.
    pub fn within_chunks(self, size: i32) -> Self {
        Self { reach: Reach::Chunk(size), ..self }
    }

    /// The same with queries that grow with their position.
    pub fn with_temperature(self, temperature: QueryTemperature) -> Self {
        Self { temperature: Some(temperature), ..self }
    }
}

impl Attention {
    /// What `projected` queries, keys and values find in the cache, step by step: `[batch, length, heads · head_dim]`.
    fn attend(
        &self,
        projected: &[Array],
        mask: &Mask,
        cache: &mut Cache,
        scores: &Scores,
    ) -> Result<Array> {
        let (batch, length) = (projected[0].dim(0), projected[0].dim(1));
        let AttentionConfig { heads, kv_heads, head_dim, .. } = self.config;
        let mut queries = split_heads(&projected[0], batch, length, heads, head_dim)?;
        let mut keys = split_heads(&projected[1], batch, length, kv_heads, head_dim)?;
        let values = match self.config.values {
            Values::NormedKeys(_) => keys.clone(),
            _ => split_heads(&projected[2], batch, length, kv_heads, head_dim)?,
        };
        let mut values = match self.config.values {
            Values::Projected => values,
            Values::Normed(eps) | Values::NormedKeys(eps) => fast::rms_norm(&values, None, eps)?,
        };
        if let Some((query_norm, key_norm)) = self.head_norms() {
            queries = query_norm.forward(&queries)?;
            keys = key_norm.forward(&keys)?;
        }
        if let Some(rope) = &self.rope {
            let offset = cache.offset();
            queries = rope.forward(&queries, offset)?;
            keys = rope.forward(&keys, offset)?;
        }
        if let Some(temperature) = self.temperature {
            queries = temperature.apply(&queries, cache.offset())?;
        }
        if let Some(kept) = self.kept {
            (keys, values) = (ops::astype(&keys, kept)?, ops::astype(&values, kept)?);
        }
        let (keys, values) = cache.extend(&keys, &values)?;
        join_heads(&attend(&queries, &keys, &values, mask, scores)?)
    }

    /// The same with all steps in the kernel that writes and reads the cache, and multiplied with `output`, if there is one; `None` where there is none for that.
    fn attend_in_place(
        &self,
        projected: &[Array],
        mask: &Mask,
        cache: &mut Cache,
        scores: &Scores,
        output: Option<&Packed>,
    ) -> Result<Option<Array>> {
        let [queries, keys, values] = projected else { return Ok(None) };
        if self.temperature.is_some() || !matches!(self.config.values, Values::Projected) {
            return Ok(None);
        }
        let (offset, length) = (cache.offset(), keys.dim(1));
        let (query_norm, key_norm) = self.head_norms().unzip();
        let prepare_queries = self.preparation(query_norm, offset, length);
        let prepare_keys = self.preparation(key_norm, offset, length);
        let (Some(prepare_queries), Some(prepare_keys)) = (prepare_queries, prepare_keys) else {
            return Ok(None);
        };
        let new = NewPositions { queries, keys, values, prepare_queries, prepare_keys, output };
        if !fast::takes_positions(&new, mask) {
            return Ok(None);
        }
        let AttentionConfig { kv_heads, head_dim, .. } = self.config;
        let dtype = self.kept.unwrap_or(keys.dtype());
        let positions = [keys.dim(0), kv_heads, length, head_dim];
        cache.extend_with(positions, dtype, |buffers| {
            fast::cached_attention(&new, buffers, offset, scores, mask)
        })
    }

    /// What is done to queries or keys from position `offset`, as far as kernels can.
    fn preparation<'a>(
        &self,
        norm: Option<&'a Norm>,
        offset: i32,
        length: i32,
    ) -> Option<Preparation<'a>> {
        let norm = match norm {
            Some(norm) => Some(norm.root_mean_square()?),
            None => None,
        };
        Some(Preparation { norm, rope: self.rope.as_ref().map(|rope| rope.at(offset, length)) })
    }

    /// The norms of each head of queries and keys.
    fn head_norms(&self) -> Option<(&Norm, &Norm)> {
        let norms = self.norms.as_ref().map(|(queries, keys)| (queries, keys));
        norms.filter(|_| !matches!(self.config.qk_norm, QkNorm::Whole(_)))
    }
}

impl Mixer for Attention {
    fn forward(&self, x: &Array, masks: &mut Masks, cache: &mut Cache) -> Result<Array> {
        self.mix(self.qkv.forward(x)?, masks, cache)
    }

    fn add_to(
        &self,
        stream: &Residual,
        norm: &Norm,
        masks: &mut Masks,
        cache: &mut Cache,
    ) -> Result<Residual> {
        let Some(rows) = stream.before(norm) else {
            return stream.add(norm, |normed| self.forward(normed, masks, cache));
        };
        let (x, projected) = self.qkv.normed(&rows)?;
        Ok(Residual::sum(x, self.mix(projected, masks, cache)?))
    }

    fn make_cache(&self) -> Cache {
        match self.reach {
            Reach::All => Cache::standard(),
            Reach::Window(window) => Cache::rotating(window, 0),
            Reach::Chunk(size) => Cache::chunked(size),
        }
    }
}

impl Attention {
    /// The outputs for what the projections give, `[batch, length, features]` each.
    fn mix(
        &self,
        mut projected: Vec<Array>,
        masks: &mut Masks,
        cache: &mut Cache,
    ) -> Result<Array> {
        let AttentionConfig { heads, head_dim, .. } = self.config;
        let mask = masks.get(projected[0].dim(1), self.reach, cache)?;
        let gate = if self.config.output_gate {
            let (queries, gate) = split_gate(&projected[0], heads, head_dim)?;
            projected[0] = queries;
            Some(gate)
        } else {
            None
        };
        if let (QkNorm::Whole(_), Some((query_norm, key_norm))) = (self.config.qk_norm, &self.norms)
        {
            projected[0] = query_norm.forward(&projected[0])?;
            projected[1] = key_norm.forward(&projected[1])?;
        }
        let scores =
            Scores { scale: self.scale, cap: self.config.soft_cap, sinks: self.sinks.as_ref() };
        let last = if gate.is_none() { self.output.packed() } else { None };
        let attended = match self.attend_in_place(&projected, mask, cache, &scores, last)? {
            Some(mixed) if last.is_some() => return Ok(mixed),
            Some(attended) => attended,
            None => self.attend(&projected, mask, cache, &scores)?,
        };
        match gate {
            Some(gate) => self.output.forward(&ops::multiply(&attended, &ops::sigmoid(&gate)?)?),
            None => self.output.forward(&attended),
        }
    }
}

/// The queries and the gates, `[batch, length, heads · head_dim]` each, of what projects both for each
/// head.
fn split_gate(projected: &Array, heads: i32, head_dim: i32) -> Result<(Array, Array)> {
    let (batch, length) = (projected.dim(0), projected.dim(1));
    let by_head = ops::reshape(projected, &[batch, length, heads, 2 * head_dim])?;
    let flat = [batch, length, heads * head_dim];
    let part = |start| ops::reshape(&ops::slice_axis(&by_head, 3, start, start + head_dim)?, &flat);
    Ok((part(0)?, part(head_dim)?))
}

/// `[batch, length, heads · head_dim]` to `[batch, heads, length, head_dim]`.
pub(super) fn split_heads(
    x: &Array,
    batch: i32,
    length: i32,
    heads: i32,
    head_dim: i32,
) -> Result<Array> {
    if length == 1 {
        return ops::reshape(x, &[batch, heads, 1, head_dim]);
    }
    ops::transpose(&ops::reshape(x, &[batch, length, heads, head_dim])?, &[0, 2, 1, 3])
}

/// `[batch, heads, length, head_dim]` to `[batch, length, heads · head_dim]`.
pub(super) fn join_heads(x: &Array) -> Result<Array> {
    let (batch, heads, length, head_dim) = (x.dim(0), x.dim(1), x.dim(2), x.dim(3));
    // A single token's heads lie in output order already: a reshape, no transposition.
    let ordered = if length == 1 { x.clone() } else { ops::transpose(x, &[0, 2, 1, 3])? };
    ops::reshape(&ordered, &[batch, length, heads * head_dim])
}
