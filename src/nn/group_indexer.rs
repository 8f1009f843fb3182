//! The choice of the groups of positions that attention looks at (DeepSeek-AI 2026,
//! "DeepSeek-V4").

use std::cell::RefCell;
use std::rc::Rc;

use super::linear::Linear;
use super::norm::Norm;
use super::rounding::{BlockScale, in_float4};
use crate::error::Result;
use crate::fused::Device;
use crate::fused::attention::split_heads;
use crate::fused::math::scaled;
use crate::fused::rope::{RopeParams, rope};
use crate::mlx::{Array, Dtype, from_f32, ops, scalar};
use crate::weights::Weights;

/// What the layers of a row hand on in a step.
#[derive(Debug, Clone, Default)]
pub(super) struct Handed {
    /// The latent vectors of groups, `[batch, groups, head_dim]`.
    pub(super) latents: Option<Array>,
    /// The keys of the same for indexers, `[batch, groups, features]`.
    pub(super) keys: Option<Array>,
    /// Which groups later indexers may choose: 0, or −∞, `[batch, 1, length, groups]`.
    pub(super) candidates: Option<Array>,
    /// Which groups are seen, as numbers to be added to scores, `[batch, 1, length, groups]`.
    pub(super) chosen: Option<Array>,
}

/// The same of each row. The first layer clears it.
#[derive(Debug, Clone, Default)]
pub struct HandedOn(pub(super) Rc<RefCell<Vec<Handed>>>);

/// The measures of an indexer.
#[derive(Debug, Clone)]
pub struct GroupIndexerConfig {
    /// Heads.
    pub heads: i32,
    /// Features of a head, the last of which are rotated.
    pub head_dim: i32,
    /// Groups that are chosen; all where there are no more.
    pub top_k: i32,
    /// Of the layer whose choice limits those of the layers behind it: how many blocks of how many
    /// groups these may choose from.
    pub candidates: Option<[i32; 2]>,
    /// Epsilon of the norm over keys.
    pub eps: f32,
}

/// The score of a group is Σₕ wₕ · max(qₕ · k, 0).
#[derive(Debug)]
pub(super) struct GroupIndexer {
    config: GroupIndexerConfig,
    queries: Linear,
    weights: Linear,
    /// Of a layer that makes groups.
    keys: Option<(Linear, Norm)>,
    device: Device,
}

impl GroupIndexer {
    /// Takes the projections from `rank` compressed features to queries, from `dims` features to
    /// the weights of heads, and where `keys` has a name from `latent` features to keys.
    pub(super) fn new(
        w: &Weights,
        config: GroupIndexerConfig,
        queries: &str,
        keys: Option<&str>,
        [dims, rank, latent]: [i32; 3],
    ) -> Result<Self> {
        let GroupIndexerConfig { heads, head_dim, eps, .. } = config;
        let linear = |name: &str, inputs, outputs| Linear::new(&w.at(name), inputs, outputs, false);
        let keys = match keys {
            Some(name) => {
                Some((linear(name, latent, head_dim)?, Norm::rms(&w.at("k_norm"), head_dim, eps)?))
            }
            None => None,
        };
        Ok(Self {
            queries: linear(queries, rank, heads * head_dim)?,
            weights: linear("weights_proj", dims, heads)?,
            keys,
            config,
            device: w.device(),
        })
    }

    /// The keys of groups with these latent vectors; `None` where the layer makes no groups.
    pub(super) fn keys(&self, latents: &Array) -> Result<Option<Array>> {
        let Some((linear, norm)) = &self.keys else { return Ok(None) };
        norm.forward(&linear.forward(latents)?).map(Some)
    }

    /// Which groups new positions see, as numbers to be added to scores,
    /// `[batch, 1, length, groups]`; `None` where there are none.
    pub(super) fn choose(
        &self,
        [x, compressed]: [&Array; 2],
        rotation: &RopeParams,
        groups: NewGroups,
        handed: &mut Handed,
    ) -> Result<Option<Array>> {
        let GroupIndexerConfig { heads, head_dim, top_k, candidates, .. } = self.config;
        let Some(keys) = handed.keys.clone() else { return Ok(None) };
        let (batch, length, held) = (x.dim(0), x.dim(1), keys.dim(1));
        let shape = [batch, 1, length, held];
        let visible = ops::broadcast_to(&groups.visible(held)?, &shape)?;
        if held <= top_k && candidates.is_none() {
            return Ok(Some(visible));
        }
        let queries = split_heads(&self.queries.forward(compressed)?, heads)?;
        let queries = rotate_last(self.device, &queries, rotation)?;
        let precise = |x: &Array| ops::astype(x, Dtype::Float32);
        let queries = precise(&in_float4(&queries, 32, BlockScale::Power)?)?;
        let keys = ops::expand_dims(&ops::swap_axes(&precise(&keys)?, -1, -2)?, 1)?;
        let weights = precise(&self.weights.forward(x)?)?;
        let weights = scaled(&weights, (heads as f32).sqrt().recip())?;
        let weights = ops::expand_dims(&ops::swap_axes(&weights, 1, 2)?, -1)?;
        // Head by head, so that the scores of all heads need not be in memory at once.
        let mut scores = visible.clone();
        for head in 0..heads {
            let of_head = |x: &Array| ops::slice_axis(x, 1, head, head + 1);
            let products = ops::matmul(&of_head(&queries)?, &keys)?;
            let products = ops::maximum(&products, &scalar(0.0))?;
            let products = scaled(&products, (head_dim as f32).sqrt().recip())?;
            scores = ops::add(&scores, &ops::multiply(&products, &of_head(&weights)?)?)?;
        }
        match (candidates, &handed.candidates) {
            (Some(blocks), _) => {
                handed.candidates =
                    Some(candidates_of(&scores, &visible, groups.first(held), blocks)?);
            }
            (None, Some(candidates)) => scores = ops::add(&scores, candidates)?,
            (None, None) => {}
        }
        if held <= top_k {
            return Ok(Some(visible));
        }
        let order = ops::argpartition(&ops::negative(&scores)?, top_k - 1, -1)?;
        let chosen = ops::slice_axis(&order, 3, 0, top_k)?;
        let nothing = ops::broadcast_to(&scalar(f32::NEG_INFINITY), &shape)?;
        let zeros = ops::zeros(chosen.shape(), Dtype::Float32)?;
        ops::add(&ops::put_along(&nothing, &chosen, &zeros, -1)?, &visible).map(Some)
    }
}

/// The groups in the `count` best blocks, 0, and −∞ for the others. A block is as good as its best
/// group; the last one that is visible is always among them. Blocks are counted from the first group
/// of a text, and the scores are those of the groups from `first` on.
fn candidates_of(
    scores: &Array,
    visible: &Array,
    first: i32,
    [count, block]: [i32; 2],
) -> Result<Array> {
    let [batch, length, held] = [scores.dim(0), scores.dim(2), scores.dim(3)];
    let before = first % block;
    let blocks = (before + held + block - 1) / block;
    if blocks <= count {
        return ops::zeros(scores.shape(), Dtype::Float32);
    }
    let hidden = |shape: &[i32]| ops::broadcast_to(&scalar(f32::NEG_INFINITY), shape);
    let padding = |groups: i32| hidden(&[batch, 1, length, groups]);
    let [before_all, behind_all] = [padding(before)?, padding(blocks * block - before - held)?];
    let in_blocks = |x: &Array| -> Result<Array> {
        let padded = ops::concatenate(&[&before_all, x, &behind_all], -1)?;
        let grouped = ops::reshape(&padded, &[batch, 1, length, blocks, block])?;
        ops::squeeze(&ops::max(&grouped, -1)?, -1)
    };
    let best = in_blocks(scores)?;
    // The number of the last block that has a visible group.
    let seen = ops::greater_equal(&in_blocks(visible)?, &scalar(0.0))?;
    let seen = ops::astype(&seen, Dtype::Float32)?;
    let numbers = ops::arange(0, blocks, Dtype::Float32)?;
    let last = ops::max(&ops::multiply(&numbers, &seen)?, -1)?;
    let is_last =
        ops::multiply(&ops::astype(&ops::greater_equal(&numbers, &last)?, Dtype::Float32)?, &seen)?;
    let is_last = ops::less(&scalar(0.5), &is_last)?;
    let best = ops::select(&is_last, &scalar(f32::INFINITY), &best)?;
    let order = ops::argpartition(&ops::negative(&best)?, count - 1, -1)?;
    let chosen = ops::slice_axis(&order, 3, 0, count)?;
    let zeros = ops::zeros(chosen.shape(), Dtype::Float32)?;
    let of_blocks = ops::put_along(&hidden(best.shape())?, &chosen, &zeros, -1)?;
    let spread = [batch, 1, length, blocks, block];
    let spread = ops::broadcast_to(&ops::expand_dims(&of_blocks, -1)?, &spread)?;
    let spread = ops::reshape(&spread, &[batch, 1, length, blocks * block])?;
    ops::slice_axis(&spread, 3, before, before + held)
}

/// `[batch, heads, length, features]` with the last features rotated.
pub(super) fn rotate_last(device: Device, x: &Array, rotation: &RopeParams) -> Result<Array> {
    let kept = x.dim(-1) - rotation.dims;
    if kept == 0 {
        return rope(device, x, rotation);
    }
    let parts = ops::split_at(x, &[kept], -1)?;
    let rotated = ops::contiguous(&parts[1])?;
    ops::concatenate(&[&parts[0], &rope(device, &rotated, rotation)?], -1)
}

/// The groups of `ratio` positions that `length` positions from `offset` on may look at.
#[derive(Clone, Copy)]
pub(super) struct NewGroups {
    pub(super) offset: i32,
    pub(super) length: i32,
    pub(super) ratio: i32,
    /// The most that each of them sees, the last ones; `None` for all.
    pub(super) most: Option<i32>,
}

impl NewGroups {
    /// The number of the first of the last `held` groups.
    fn first(&self, held: i32) -> i32 {
        (self.offset + self.length) / self.ratio - held
    }

    /// Which of the last `held` groups each position sees: those that end at or before it, and are
    /// not too far back; 0, or −∞, `[length, held]`.
    fn visible(&self, held: i32) -> Result<Array> {
        let first = self.first(held);
        let sees = |query: i32, group: i32| {
            let end = (self.offset + query + 1) / self.ratio;
            let number = first + group;
            number < end && self.most.is_none_or(|most| number >= end - most)
        };
        let hidden = |query, group| if sees(query, group) { 0.0 } else { f32::NEG_INFINITY };
        let positions = 0..self.length;
        let mask: Vec<f32> =
            positions.flat_map(|query| (0..held).map(move |group| hidden(query, group))).collect();
        Ok(from_f32(&mask, &[self.length, held]))
    }
}
