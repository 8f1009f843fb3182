//! Multi-head latent attention (DeepSeek-AI 2024, "DeepSeek-V2"): the keys and values of all heads
//! are projections of one latent vector, which is all that the cache holds of a position, beside
//! one rotated key for all heads.

use super::attention::{GatePlace, QueryTemperature, for_each_feature};
use super::heads::HeadMatrices;
use super::indexer::{Chosen, Indexer, sparse_mask};
use super::linear::{Linear, Projections};
use super::mixer::Mixer;
use super::norm::Norm;
use super::residual::Input;
use super::rope::Rope;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fused::Device;
use crate::fused::attention::{Scores, join_heads, scaled_dot_product_attention, split_heads};
use crate::fused::latent_attention::{Parts, latent_attention, rope_scores};
use crate::fused::rope::rope;
use crate::mlx::fast::Mask;
use crate::mlx::{Array, ops};
use crate::weights::Weights;

/// What varies between architectures, by the names of configurations.
#[derive(Debug, Clone, Copy)]
pub struct MlaConfig {
    /// Input and output features.
    pub dims: i32,
    /// Heads.
    pub heads: i32,
    /// Features that queries are compressed to; `None` for queries straight from the input.
    pub q_lora_rank: Option<i32>,
    /// Features of the latent vector.
    pub kv_lora_rank: i32,
    /// Features of a head's queries and keys that do not look at positions.
    pub qk_nope_head_dim: i32,
    /// Features that are rotated.
    pub qk_rope_head_dim: i32,
    /// Features of a head's values.
    pub v_head_dim: i32,
    /// Whether the projections from and to the residual stream have biases.
    pub bias: bool,
    /// Multiplies the scores.
    pub scale: f32,
    /// Multiply the norms of compressed queries and of latent vectors.
    pub norm_scales: [f32; 2],
    /// Epsilon of these norms.
    pub eps: f32,
    /// The name of the output projection.
    pub output: &'static str,
    /// Gates by a projection of their own, `g_proj`, whose logistic function multiplies what is
    /// attended to.
    pub output_gate: Option<GatePlace>,
}

impl MlaConfig {
    /// Epsilon of the norms over compressed queries and latent vectors in DeepSeek's models,
    /// whatever the other norms have.
    pub const EPS: f32 = 1e-6;

    /// Whether `length` queries over `seen` positions take fewer multiplications in the absorbed
    /// form.
    ///
    /// For each head it is r · (n + v) for each query, and 2r + p for each pair; expanded, r · (n +
    /// v) for each position seen, and n + p + v for each pair, with r for `kv_lora_rank`, n and p
    /// for the two parts of keys, and v for `v_head_dim`.
    fn absorbs(&self, length: i32, seen: i32) -> bool {
        let Self { kv_lora_rank, qk_nope_head_dim, v_head_dim, .. } = *self;
        let (rank, expanded) = (f64::from(kv_lora_rank), f64::from(qk_nope_head_dim + v_head_dim));
        let (length, seen) = (f64::from(length), f64::from(seen));
        length * seen * (2.0 * rank - expanded) < (seen - length) * rank * expanded
    }
}

/// The attention block of one layer.
#[derive(Debug)]
pub struct Mla {
    config: MlaConfig,
    /// Queries (compressed, if there is a second projection), latent vector and rotated key, and
    /// perhaps gates.
    input: Projections,
    /// From compressed queries to those of the heads.
    queries: Option<(Norm, Linear)>,
    latent_norm: Norm,
    /// `[heads, qk_nope_head_dim, kv_lora_rank]`: latent vectors to keys.
    keys: HeadMatrices,
    /// `[heads, v_head_dim, kv_lora_rank]`: latent vectors to values.
    values: HeadMatrices,
    output: Linear,
    /// `None` does not look at positions.
    rope: Option<Rope>,
    temperature: Option<QueryTemperature>,
    sparse: Option<Sparse>,
    device: Device,
}

/// What chooses the positions that attention looks at: an indexer, or that of an earlier layer.
#[derive(Debug)]
struct Sparse {
    indexer: Option<Indexer>,
    chosen: Chosen,
}

impl Mla {
    /// Takes the projections and norms by DeepSeek's names; the matrices of keys and values
    /// together (`kv_b_proj`) or by themselves (`embed_q`, transposed, and `unembed_out`).
    pub fn new(w: &Weights, config: MlaConfig, rope: Option<Rope>) -> Result<Self> {
        let MlaConfig { dims, heads, kv_lora_rank: latent, bias, eps, .. } = config;
        let (nope, values) = (config.qk_nope_head_dim, config.v_head_dim);
        let outputs = heads * (nope + config.qk_rope_head_dim);
        let linear = |name, inputs, outputs, bias| Linear::new(&w.at(name), inputs, outputs, bias);
        let (first, queries) = match config.q_lora_rank {
            Some(rank) => {
                let norm = Norm::rms(&w.at("q_a_layernorm"), rank, eps)?;
                let norm = norm.scaled(config.norm_scales[0])?;
                let second = linear("q_b_proj", rank, outputs, false)?;
                ((linear("q_a_proj", dims, rank, bias)?, rank), Some((norm, second)))
            }
            None => ((linear("q_proj", dims, outputs, false)?, outputs), None),
        };
        let compressed = latent + config.qk_rope_head_dim;
        let second = (linear("kv_a_proj_with_mqa", dims, compressed, bias)?, compressed);
        let mut input = vec![first, second];
        if let Some(place) = config.output_gate {
            let gates = if place == GatePlace::EachHead { heads } else { heads * values };
            input.push((linear("g_proj", dims, gates, false)?, gates));
        }
        let joint = w.at("kv_b_proj");
        let (key_matrices, value_matrices) = if joint.has("weight") {
            HeadMatrices::pair(&joint, heads, [nope, values], latent)?
        } else {
            (
                HeadMatrices::new(&w.at("embed_q"), heads, latent, nope)?.transposed(),
                HeadMatrices::new(&w.at("unembed_out"), heads, values, latent)?,
            )
        };
        Ok(Self {
            config,
            input: Projections::new(w, input)?,
            queries,
            latent_norm: Norm::rms(&w.at("kv_a_layernorm"), latent, eps)?
                .scaled(config.norm_scales[1])?,
            keys: key_matrices,
            values: value_matrices,
            output: linear(config.output, heads * values, dims, bias)?,
            rope,
            temperature: None,
            sparse: None,
            device: w.device(),
        })
    }

    /// The same with queries that grow with their position.
    pub fn with_temperature(self, temperature: Option<QueryTemperature>) -> Self {
        Self { temperature, ..self }
    }

    /// The same that looks at the positions which the indexer chooses, or without one, at those
    /// that an earlier layer has `chosen`.
    pub fn sparse(self, indexer: Option<Indexer>, chosen: Chosen) -> Self {
        Self { sparse: Some(Sparse { indexer, chosen }), ..self }
    }

    /// The attention of a sequence's new positions, `[batch, length, heads · v_head_dim]`; `key` is
    /// the one key that is to be rotated, and `chosen` the positions to look at.
    fn attend(
        &self,
        [queries, latent, key]: [&Array; 3],
        cache: &mut Cache,
        mask: &Mask,
        chosen: Option<&Array>,
    ) -> Result<Array> {
        let (length, MlaConfig { heads, .. }) = (queries.dim(1), self.config);
        let params = self.rope.as_ref().map(|rope| rope.at(cache.offset(), length));
        let with_positions = |x: &Array| match &params {
            Some(params) => rope(self.device, x, params),
            None => Ok(x.clone()),
        };
        let mut queries = split_heads(queries, heads)?;
        // The rotation is linear, so they may as well grow before it.
        if let Some(factors) = self.temperature.and_then(|it| it.factors(length, cache.offset())) {
            queries = ops::astype(&ops::multiply(&queries, &factors)?, queries.dtype())?;
        }
        let queries = ops::split_at(&queries, &[self.config.qk_nope_head_dim], -1)?;
        let rotated = with_positions(&ops::expand_dims(key, 1)?)?;
        let (mut latent, mut rotated) = cache.update(&ops::expand_dims(latent, 1)?, &rotated)?;
        let mut mask = mask.clone();
        match chosen {
            // A single token need not read the others.
            Some(chosen) if length == 1 && matches!(mask, Mask::None) => {
                let positions = ops::swap_axes(chosen, -1, -2)?;
                latent = ops::take_along(&latent, &positions, 2)?;
                rotated = ops::take_along(&rotated, &positions, 2)?;
            }
            Some(chosen) => mask = sparse_mask(chosen, &mask, latent.dim(2))?,
            None => {}
        }
        let k = Parts { nope: &latent, rope: &rotated };
        let q = Parts { nope: &queries[0], rope: &with_positions(&queries[1])? };
        let attended = if self.config.absorbs(length, latent.dim(2)) {
            self.absorbed(q, k, &mask)?
        } else {
            self.expanded(q, k, &mask)?
        };
        join_heads(&attended)
    }

    /// What is attended to times the logistic function of its gates, where there are any.
    fn gated(&self, attended: Array, gates: Option<&Array>) -> Result<Array> {
        let Some(gates) = gates else { return Ok(attended) };
        let factors = ops::sigmoid(gates)?;
        let factors = match self.config.output_gate {
            Some(GatePlace::EachHead) => for_each_feature(&factors, self.config.v_head_dim)?,
            _ => factors,
        };
        ops::multiply(&attended, &factors)
    }

    /// Attention to the latent vectors themselves, as the one key and value of all heads: the
    /// matrices of keys go into the queries, those of values come after the sum. `k.nope` are the
    /// latent vectors.
    fn absorbed(&self, q: Parts, k: Parts, mask: &Mask) -> Result<Array> {
        let MlaConfig { heads, kv_lora_rank: rank, scale, .. } = self.config;
        let (batch, length, seen) = (q.nope.dim(0), q.nope.dim(2), k.nope.dim(2));
        let queries = self.keys.transposed_product(q.nope)?;
        // As heads share their keys, they are rows of one.
        let queries = ops::reshape(&queries, &[batch, 1, heads * length, rank])?;
        let scores = rope_scores(q.rope, k.rope, mask, scale)?;
        let mask = Mask::Array(ops::reshape(&scores, &[batch, 1, heads * length, seen])?);
        let scores = Scores::scaled(scale);
        let (device, latent) = (self.device, k.nope);
        let attended =
            scaled_dot_product_attention(device, &queries, latent, latent, &mask, &scores)?;
        self.values.product(&ops::reshape(&attended, &[batch, heads, length, rank])?)
    }

    /// Attention to the keys and values of each head. `k.nope` are the latent vectors.
    fn expanded(&self, q: Parts, k: Parts, mask: &Mask) -> Result<Array> {
        let (keys, values) = (self.keys.product(k.nope)?, self.values.product(k.nope)?);
        let k = Parts { nope: &keys, rope: k.rope };
        latent_attention(self.device, q, k, &values, mask, self.config.scale)
    }
}

impl Mixer for Mla {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let MlaConfig { kv_lora_rank, .. } = self.config;
        let projected = x.project(&self.input)?;
        let (compressed_queries, queries) = match &self.queries {
            Some((norm, linear)) => {
                let compressed = norm.forward(&projected[0])?;
                let queries = linear.forward(&compressed)?;
                (compressed, queries)
            }
            None => (projected[0].clone(), projected[0].clone()),
        };
        let compressed = ops::split_at(&projected[1], &[kv_lora_rank], -1)?;
        let latent = self.latent_norm.forward(&compressed[0])?;
        let parts = [&queries, &latent, &compressed[1]];
        let attended = match &self.sparse {
            None => rows.mix(parts, |parts, Row { length, masks, cache }| {
                let mask = masks.get(length, None, cache)?;
                self.attend(parts, cache, mask, None)
            }),
            Some(Sparse { indexer: None, chosen }) => {
                let mut row = 0..;
                rows.mix(parts, |parts, Row { length, masks, cache }| {
                    let chosen = row.next().and_then(|row| chosen.of(row));
                    let mask = masks.get(length, None, cache)?;
                    self.attend(parts, cache, mask, chosen.as_ref())
                })
            }
            Some(Sparse { indexer: Some(indexer), chosen }) => {
                let [queries, latent, key] = parts;
                let [of_index, keys, weights] =
                    &indexer.project(x.array()?, &compressed_queries)?;
                let parts = [queries, latent, key, of_index, keys, weights];
                chosen.clear();
                rows.mix(parts, |[queries, latent, key, of_index, keys, weights], row| {
                    let Row { length, masks, cache } = row;
                    let [cache, index_cache] = cache.list(2)? else { return Err(no_caches()) };
                    let mask = masks.get(length, None, cache)?;
                    let positions = indexer.choose([of_index, keys, weights], index_cache, mask)?;
                    let parts = [queries, latent, key];
                    let attended = self.attend(parts, cache, mask, positions.as_ref())?;
                    chosen.add(positions);
                    Ok(attended)
                })
            }
        }?;
        self.output.forward(&self.gated(attended, projected.get(2))?)
    }

    fn make_cache(&self) -> Cache {
        match &self.sparse {
            Some(Sparse { indexer: Some(_), .. }) => {
                Cache::List(vec![Cache::standard(), Cache::standard()])
            }
            _ => Cache::standard(),
        }
    }
}

fn no_caches() -> Error {
    Error::argument("caches", "are not those of latent attention and its indexer")
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::fused::latent_attention::attention_with_scores;
    use crate::mlx::{DeviceKind, Dtype, enter, from_f32, to_f32_vec};
    use crate::nn::RopeConfig;
    use crate::weights::{Checkpoint, LoadPlan, Quantization};

    fn close(a: &Array, b: &Array) {
        assert_eq!(a.shape(), b.shape());
        let (a, b) = (to_f32_vec(a).unwrap(), to_f32_vec(b).unwrap());
        let difference = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-4, "{difference}");
    }

    #[test]
    fn every_form_gives_the_same_attention() {
        enter(DeviceKind::Cpu).unwrap();
        let checkpoint = Checkpoint::open(&seeded::folder("deepseek-v3-raw")).unwrap();
        let quantization = Quantization::default();
        let plan = LoadPlan::new(Device::default(), Some(Dtype::Float32));
        let weights = Weights::new(&checkpoint, &quantization, plan, |_| true);
        let config = MlaConfig {
            dims: 32,
            heads: 2,
            q_lora_rank: Some(24),
            kv_lora_rank: 16,
            qk_nope_head_dim: 16,
            qk_rope_head_dim: 8,
            v_head_dim: 12,
            bias: false,
            scale: 0.3,
            norm_scales: [1.0; 2],
            eps: MlaConfig::EPS,
            output: "o_proj",
            output_gate: None,
        };
        let rope = Rope::new(&RopeConfig {
            dims: 8,
            base: 10_000.0,
            traditional: true,
            scaling: None,
            max_positions: None,
            longest: None,
        });
        let mla =
            Mla::new(&weights.at("model.layers.0.self_attn"), config, Some(rope.unwrap())).unwrap();
        for (batch, length, seen) in [(1, 1, 7), (2, 3, 5), (1, 4, 4)] {
            let draw = |shape: &[i32]| {
                let count = shape.iter().product::<i32>();
                let values: Vec<_> = (0..count).map(|i| ((i * 37 % 101) as f32).sin()).collect();
                from_f32(&values, shape)
            };
            let [nope, rope] = [16, 8].map(|dims| draw(&[batch, 2, length, dims]));
            let [latent, shared] = [16, 8].map(|dims| draw(&[batch, 1, seen, dims]));
            let q = Parts { nope: &nope, rope: &rope };
            let k = Parts { nope: &latent, rope: &shared };
            let mask = Mask::Causal;
            let expanded = mla.expanded(q, k, &mask).unwrap();
            close(&mla.absorbed(q, k, &mask).unwrap(), &expanded);
            let keys = mla.keys.product(&latent).unwrap();
            let values = mla.values.product(&latent).unwrap();
            let k = Parts { nope: &keys, rope: &shared };
            let added = attention_with_scores(mla.device, q, k, &values, &mask, mla.config.scale);
            close(&added.unwrap(), &expanded);
        }
    }

    #[test]
    fn few_queries_over_a_long_past_are_absorbed() {
        let config = MlaConfig {
            dims: 7168,
            heads: 128,
            q_lora_rank: Some(1536),
            kv_lora_rank: 512,
            qk_nope_head_dim: 128,
            qk_rope_head_dim: 64,
            v_head_dim: 128,
            bias: false,
            scale: 1.0,
            norm_scales: [1.0; 2],
            eps: MlaConfig::EPS,
            output: "o_proj",
            output_gate: None,
        };
        assert!(config.absorbs(1, 2) && config.absorbs(8, 4096));
        assert!(!config.absorbs(2048, 2048) && !config.absorbs(2048, 100_000));
    }
}
