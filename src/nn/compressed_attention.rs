//! Attention to a window and to groups of positions (DeepSeek-AI 2026, "DeepSeek-V4"): some layers
//! make one latent vector of each group, some choose for each token the groups that it looks at,
//! and the layers behind them look at the same.

use super::expert_linear::{ExpertLinear, ExpertMatrix};
use super::group_indexer::{
    GroupIndexer, GroupIndexerConfig, Handed, HandedOn, NewGroups, rotate_last,
};
use super::linear::{Linear, matrix};
use super::mixer::Mixer;
use super::moe::Experts;
use super::norm::Norm;
use super::residual::Input;
use super::rope::Rope;
use super::rounding::{BlockScale, in_float4, in_float8};
use super::rows::{Row, Rows};
use crate::cache::{ArraysCache, Cache};
use crate::error::Result;
use crate::fused::Device;
use crate::fused::attention::{Scores, join_heads, scaled_dot_product_attention, split_heads};
use crate::fused::experts::expert_linear;
use crate::fused::linear::Matrix;
use crate::fused::rope::RopeParams;
use crate::mlx::fast::Mask;
use crate::mlx::quantized::QuantizedTensor;
use crate::mlx::{Array, Dtype, from_f32, from_u32, ops};
use crate::weights::Weights;

/// The measures of a layer's attention.
#[derive(Debug, Clone)]
pub struct CompressedConfig {
    /// Features of the layer's input.
    pub dims: i32,
    /// Query heads, all of which see the same latent vectors.
    pub heads: i32,
    /// Features of a head and of a latent vector, the last of which are rotated.
    pub head_dim: i32,
    /// Features that are rotated.
    pub rope_dim: i32,
    /// Features that queries are compressed to.
    pub rank: i32,
    /// Groups of heads, whose outputs are compressed by themselves.
    pub groups: i32,
    /// Features that these are compressed to.
    pub group_rank: i32,
    /// Positions of the window.
    pub window: i32,
    /// Epsilon of the norms.
    pub eps: f32,
    /// The rotation.
    pub rope: Rope,
    /// Positions of a group; `None` for the window alone.
    pub ratio: Option<i32>,
    /// Whether the layer makes latent vectors of groups.
    pub compresses: bool,
    /// What chooses groups.
    pub indexer: Option<GroupIndexerConfig>,
}

/// The names of its tensors.
#[derive(Debug, Clone, Copy)]
pub struct CompressedNames {
    /// Queries, compressed.
    pub queries_down: &'static str,
    /// The norm behind.
    pub query_norm: &'static str,
    /// Queries.
    pub queries: &'static str,
    /// Latent vectors.
    pub latents: &'static str,
    /// The weights of latent vectors in their group.
    pub gates: &'static str,
    /// The norm of a group's latent vector.
    pub group_norm: &'static str,
    /// The keys of the indexer.
    pub index_keys: &'static str,
    /// The outputs of each group of heads, compressed.
    pub output_down: &'static str,
    /// The outputs.
    pub output: &'static str,
    /// Scores for looking at nothing.
    pub sinks: &'static str,
}

/// Makes latent vectors of groups: Σ softmax(gate) · latent over the positions of each.
#[derive(Debug)]
struct Compressor {
    latents: Linear,
    gates: Option<Linear>,
    norm: Norm,
    ratio: i32,
}

/// The entries of a cache.
const WINDOW: usize = 0;
const LATENTS: usize = 1;
const KEYS: usize = 2;
const LAST_LATENTS: usize = 3;
const LAST_GATES: usize = 4;
const ENTRIES: usize = 5;

impl Compressor {
    /// The latent vectors `[batch, groups, head_dim]` of groups that new positions complete, and the
    /// number of the first one; `None` for no group.
    fn groups(&self, x: &Array, state: &mut ArraysCache) -> Result<Option<(Array, i32)>> {
        let (ratio, offset, length) = (self.ratio, state.offset(), x.dim(1));
        let Some(gates) = &self.gates else {
            let latents = self.norm.forward(&self.latents.forward(x)?)?;
            return Ok(Some((latents, offset)));
        };
        let open = offset % ratio;
        let complete = (open + length) / ratio;
        let precise = ops::astype(x, Dtype::Float32)?;
        // Those of the group that is still open are among the last ones.
        let mut all = |entry: usize, linear: &Linear| -> Result<Array> {
            let all = append(state.get(entry), &linear.forward(&precise)?)?;
            state.set(entry, last(&all, ratio)?);
            let end = all.dim(1);
            let start = end - length - open;
            let groups = ops::slice_axis(&all, 1, start, start + complete * ratio)?;
            ops::reshape(&groups, &[x.dim(0), complete, ratio, all.dim(2)])
        };
        let (latents, gates) = (all(LAST_LATENTS, &self.latents)?, all(LAST_GATES, gates)?);
        if complete == 0 {
            return Ok(None);
        }
        let weighted = ops::multiply(&latents, &ops::softmax(&gates, 2, true)?)?;
        let latents = ops::squeeze(&ops::sum(&weighted, 2)?, 2)?;
        let latents = self.norm.forward(&ops::astype(&latents, x.dtype())?)?;
        Ok(Some((latents, offset / ratio)))
    }
}

/// The attention block of a layer.
#[derive(Debug)]
pub struct CompressedAttention {
    config: CompressedConfig,
    queries_down: Linear,
    query_norm: Norm,
    queries: Linear,
    latents: Linear,
    latent_norm: Norm,
    compressor: Option<Compressor>,
    indexer: Option<GroupIndexer>,
    sinks: Array,
    output_down: ExpertLinear,
    output: Linear,
    handed: HandedOn,
    is_first: bool,
    device: Device,
}

impl CompressedAttention {
    /// Takes the tensors of a layer, which gets and leaves what layers hand on in `handed`;
    /// `is_first` of them clears it.
    pub fn new(
        w: &Weights,
        config: CompressedConfig,
        names: CompressedNames,
        handed: HandedOn,
        is_first: bool,
    ) -> Result<Self> {
        let CompressedConfig { dims, heads, head_dim, rank, groups, group_rank, eps, .. } = config;
        let linear = |name: &str, inputs, outputs| Linear::new(&w.at(name), inputs, outputs, false);
        let compressor = match config.ratio.filter(|_| config.compresses) {
            Some(ratio) => {
                let w = w.at("compressor");
                let linear = |name: &str| Linear::new(&w.at(name), dims, head_dim, false);
                Some(Compressor {
                    latents: linear(names.latents)?,
                    gates: if ratio > 1 { Some(linear(names.gates)?) } else { None },
                    norm: Norm::rms(&w.at(names.group_norm), head_dim, eps)?,
                    ratio,
                })
            }
            None => None,
        };
        let indexer = match (&config.indexer, config.ratio) {
            (Some(indexer), Some(_)) => {
                let (w, keys) = (w.at("indexer"), config.compresses.then_some(names.index_keys));
                let sizes = [dims, rank, head_dim];
                Some(GroupIndexer::new(&w, indexer.clone(), names.queries, keys, sizes)?)
            }
            _ => None,
        };
        let inner = heads * head_dim / groups;
        let output_down = grouped(w, names.output_down, inner, group_rank, groups)?;
        Ok(Self {
            queries_down: linear(names.queries_down, dims, rank)?,
            query_norm: Norm::rms(&w.at(names.query_norm), rank, eps)?,
            queries: linear(names.queries, rank, heads * head_dim)?,
            latents: linear(names.latents, dims, head_dim)?,
            latent_norm: Norm::rms(&w.at("kv_norm"), head_dim, eps)?,
            compressor,
            indexer,
            sinks: w.take_f32(names.sinks, &[heads])?,
            output_down,
            output: linear(names.output, groups * group_rank, dims)?,
            handed,
            is_first,
            device: w.device(),
            config,
        })
    }

    /// Makes what new positions complete of groups, and hands all groups on.
    fn compress(&self, x: &Array, state: &mut ArraysCache, handed: &mut Handed) -> Result<()> {
        let Some(compressor) = &self.compressor else { return Ok(()) };
        let ratio = compressor.ratio;
        if let Some((latents, first)) = compressor.groups(x, state)? {
            let rotation =
                RopeParams { scale: ratio as f32, ..self.config.rope.at(first, latents.dim(1)) };
            let rotated = self.rotated_last(&latents, &rotation)?;
            let rounded = in_float4(&rotated, 16, BlockScale::Float8)?;
            let most = most_groups(state, ratio);
            // The first of several new positions may still see groups that leave with the last one.
            let mut add = |entry: usize, new: &Array| -> Result<Option<Array>> {
                let all = append(state.get(entry), new)?;
                state.set(entry, most.map_or(Ok(all.clone()), |most| last(&all, most))?);
                Ok(Some(all))
            };
            handed.latents = add(LATENTS, &rounded)?;
            if let Some(keys) = self.indexer.as_ref().and_then(|it| it.keys(&latents).transpose()) {
                let rotated = self.rotated_last(&keys?, &rotation)?;
                handed.keys = add(KEYS, &in_float4(&rotated, 32, BlockScale::Power)?)?;
            }
            return Ok(());
        }
        handed.latents = state.get(LATENTS).cloned();
        if self.indexer.is_some() {
            handed.keys = state.get(KEYS).cloned();
        }
        Ok(())
    }

    /// `[batch, length, features]` with the last features rotated.
    fn rotated_last(&self, x: &Array, rotation: &RopeParams) -> Result<Array> {
        let rotated = rotate_last(self.device, &ops::expand_dims(x, 1)?, rotation)?;
        ops::squeeze(&rotated, 1)
    }

    /// What one row attends to, `[batch, length, heads · head_dim]`.
    fn attend(
        &self,
        [x, compressed, queries, latents]: [&Array; 4],
        state: &mut ArraysCache,
        handed: &mut Handed,
    ) -> Result<Array> {
        let CompressedConfig { heads, head_dim, window, ref rope, ratio, .. } = self.config;
        let (batch, length, offset) = (x.dim(0), x.dim(1), state.offset());
        let rotation = rope.at(offset, length);
        let queries = rotate_last(self.device, &split_heads(queries, heads)?, &rotation)?;
        let latents = in_float8(&self.rotated_last(latents, &rotation)?, 32)?;
        let near = append(state.get(WINDOW), &latents)?;
        state.set(WINDOW, last(&near, window)?);
        let shape = [batch, 1, length, near.dim(1)];
        let mut mask = ops::broadcast_to(&window_mask(length, near.dim(1), window)?, &shape)?;
        let mut keys = near;
        if let Some(ratio) = ratio {
            self.compress(x, state, handed)?;
            if let Some(indexer) = &self.indexer {
                let groups = NewGroups { offset, length, ratio, most: most_groups(state, ratio) };
                handed.chosen = indexer.choose([x, compressed], &rotation, groups, handed)?;
            }
            if let (Some(groups), Some(chosen)) = (&handed.latents, &handed.chosen) {
                keys = ops::concatenate(&[&keys, groups], 1)?;
                mask = ops::concatenate(&[&mask, chosen], -1)?;
            }
        }
        state.advance(length);
        // Scores of so many features need more than 16 bits.
        let precise = |x: &Array| ops::astype(x, Dtype::Float32);
        let keys = precise(&ops::expand_dims(&keys, 1)?)?;
        let scale = (head_dim as f32).sqrt().recip();
        let scores = Scores { scale, soft_cap: None, sinks: Some(&self.sinks) };
        let attended = scaled_dot_product_attention(
            self.device,
            &precise(&queries)?,
            &keys,
            &keys,
            &Mask::Array(mask),
            &scores,
        )?;
        let back = rope.clone().reversed().at(offset, length);
        let attended = rotate_last(self.device, &ops::astype(&attended, x.dtype())?, &back)?;
        join_heads(&attended)
    }
}

impl Mixer for CompressedAttention {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let x = x.array()?;
        let compressed = self.query_norm.forward(&self.queries_down.forward(x)?)?;
        let queries = self.queries.forward(&compressed)?;
        let latents = self.latent_norm.forward(&self.latents.forward(x)?)?;
        let mut handed = self.handed.0.borrow_mut();
        if self.is_first {
            handed.clear();
        }
        let mut index = 0;
        let attended = rows.mix([x, &compressed, &queries, &latents], |parts, row: Row| {
            if handed.len() <= index {
                handed.push(Handed::default());
            }
            index += 1;
            self.attend(parts, row.cache.state()?, &mut handed[index - 1])
        })?;
        let CompressedConfig { groups, group_rank, .. } = self.config;
        let (batch, length) = (x.dim(0), x.dim(1));
        let by_group = ops::reshape(&attended, &[batch, length, groups, 1, -1])?;
        let numbers: Vec<u32> = (0..groups.unsigned_abs()).collect();
        let numbers = from_u32(&numbers, &[1, 1, groups]);
        let numbers = ops::broadcast_to(&numbers, &[batch, length, groups])?;
        let down = expert_linear(self.device, &by_group, &self.output_down, &numbers, false)?;
        self.output.forward(&ops::reshape(&down, &[batch, length, groups * group_rank])?)
    }

    fn make_cache(&self) -> Cache {
        Cache::growing_arrays_of(ENTRIES)
    }
}

/// Takes a projection of each group by itself: stacked, `[groups, outputs, inputs]`, or one below
/// the other.
fn grouped(
    w: &Weights,
    name: &str,
    inputs: i32,
    outputs: i32,
    groups: i32,
) -> Result<ExpertLinear> {
    let view = w.at(name);
    if view.shape("weight").is_none_or(|shape| shape.len() == 3) {
        return Experts::projection(w, ["", name], inputs, outputs, groups);
    }
    let stacked = |a: &Array| ops::reshape(a, &[groups, outputs, -1]);
    let matrix = match matrix(&view, inputs, groups * outputs)? {
        Matrix::Quantized(tensor) => {
            let tensor = QuantizedTensor {
                weight: stacked(&tensor.weight)?,
                scales: stacked(&tensor.scales)?,
                biases: tensor.biases.as_ref().map(stacked).transpose()?,
                ..tensor
            };
            ExpertMatrix::Quantized(tensor, None)
        }
        other => ExpertMatrix::dense(&stacked(&other.dequantize()?)?)?,
    };
    let additions = view.expert_site(groups, [inputs, outputs]);
    Ok(ExpertLinear::new(matrix, None).with_additions(additions))
}

/// The most groups of `ratio` positions that a position sees; `None` for all.
fn most_groups(state: &ArraysCache, ratio: i32) -> Option<i32> {
    state.max_size().map(|most| (most + ratio - 1) / ratio)
}

fn append(before: Option<&Array>, new: &Array) -> Result<Array> {
    before.map_or(Ok(new.clone()), |before| ops::concatenate(&[before, new], 1))
}

/// The last `count` positions of `[batch, length, …]`, or all.
fn last(x: &Array, count: i32) -> Result<Array> {
    let length = x.dim(1);
    if length <= count { Ok(x.clone()) } else { ops::slice_axis(x, 1, length - count, length) }
}

/// What the last `length` of `held` positions see of all of them, `[1, 1, length, held]`.
fn window_mask(length: i32, held: i32, window: i32) -> Result<Array> {
    let before = held - length;
    let sees = |query: i32, key: i32| key <= before + query && key > before + query - window;
    let mask: Vec<f32> = (0..length)
        .flat_map(|query| {
            (0..held).map(move |key| if sees(query, key) { 0.0 } else { f32::NEG_INFINITY })
        })
        .collect();
    Ok(from_f32(&mask, &[1, 1, length, held]))
}
