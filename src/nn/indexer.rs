//! The lightning indexer (DeepSeek-AI 2025, "DeepSeek-V3.2"): a few light heads choose for each
//! token the positions that attention looks at.

use std::cell::RefCell;
use std::rc::Rc;

use super::linear::Linear;
use super::norm::Norm;
use super::rope::Rope;
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::attention::{masked, split_heads};
use crate::fused::rope::rope as rotate;
use crate::mlx::fast::Mask;
use crate::mlx::{Array, Dtype, ops, scalar};
use crate::weights::Weights;

/// The measures of an indexer.
#[derive(Debug, Clone)]
pub struct IndexerConfig {
    /// Heads.
    pub heads: i32,
    /// Features of a head.
    pub head_dim: i32,
    /// Positions that are chosen; all where there are no more.
    pub top_k: i32,
    /// The rotation of the first features.
    pub rope: Rope,
}

/// The positions that a layer has chosen in the current step, for each row `[batch, 1, length,
/// top_k]`, or `None` for all. Layers without an indexer look at those of the last one.
#[derive(Debug, Clone, Default)]
pub struct Chosen(Rc<RefCell<Vec<Option<Array>>>>);

impl Chosen {
    pub(super) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    pub(super) fn add(&self, positions: Option<Array>) {
        self.0.borrow_mut().push(positions);
    }

    /// Those of row number `index`.
    pub(super) fn of(&self, index: usize) -> Option<Array> {
        self.0.borrow().get(index).cloned().flatten()
    }
}

/// The score of a position is Σₕ wₕ · max(qₕ · k, 0).
#[derive(Debug)]
pub struct Indexer {
    config: IndexerConfig,
    queries: Linear,
    keys: Linear,
    key_norm: Norm,
    weights: Linear,
    device: Device,
}

/// Epsilon of the norm over keys, whatever the other norms have.
const EPS: f32 = 1e-6;

impl Indexer {
    /// Takes `wq_b`, from `rank` compressed features to queries, and `wk`, `k_norm` and
    /// `weights_proj`, from `dims` features.
    pub fn new(w: &Weights, config: IndexerConfig, dims: i32, rank: i32) -> Result<Self> {
        let IndexerConfig { heads, head_dim, .. } = config;
        let linear = |name: &str, inputs, outputs| Linear::new(&w.at(name), inputs, outputs, false);
        Ok(Self {
            queries: linear("wq_b", rank, heads * head_dim)?,
            keys: linear("wk", dims, head_dim)?,
            key_norm: Norm::layer(&w.at("k_norm"), head_dim, EPS)?,
            weights: linear("weights_proj", dims, heads)?,
            config,
            device: w.device(),
        })
    }

    /// Queries, keys and the weights of heads, of a layer's input and its compressed queries.
    pub(super) fn project(&self, x: &Array, compressed: &Array) -> Result<[Array; 3]> {
        let keys = self.key_norm.forward(&self.keys.forward(x)?)?;
        Ok([self.queries.forward(compressed)?, keys, self.weights.forward(x)?])
    }

    /// The positions that a sequence's new ones look at, whose keys `cache` takes.
    pub(super) fn choose(
        &self,
        [queries, keys, weights]: [&Array; 3],
        cache: &mut Cache,
        mask: &Mask,
    ) -> Result<Option<Array>> {
        let IndexerConfig { heads, top_k, ref rope, .. } = self.config;
        let params = rope.at(cache.offset(), queries.dim(1));
        let rotated = |x: &Array| rotate(self.device, x, &params);
        let queries = rotated(&split_heads(queries, heads)?)?;
        let keys = rotated(&ops::expand_dims(keys, 1)?)?;
        let (keys, _) = cache.update(&keys, &keys)?;
        let seen = keys.dim(2);
        if seen <= top_k {
            return Ok(None);
        }
        let keys = ops::astype(&ops::swap_axes(&keys, -1, -2)?, Dtype::Float32)?;
        let weights = ops::expand_dims(&ops::swap_axes(weights, 1, 2)?, -1)?;
        let weights = ops::astype(&weights, Dtype::Float32)?;
        let queries = ops::astype(&queries, Dtype::Float32)?;
        // Head by head, so that the scores of all heads need not be in memory at once.
        let mut sum = None;
        for head in 0..heads {
            let of_head = |x: &Array| ops::slice_axis(x, 1, head, head + 1);
            let scores = ops::matmul(&of_head(&queries)?, &keys)?;
            let scores = ops::maximum(&scores, &scalar(0.0))?;
            let scores = ops::multiply(&scores, &of_head(&weights)?)?;
            sum = Some(match sum {
                Some(sum) => ops::add(&sum, &scores)?,
                None => scores,
            });
        }
        let Some(scores) = sum else { return Ok(None) };
        let order = ops::argpartition(&masked(&scores, mask)?, seen - top_k, -1)?;
        ops::slice_axis(&order, 3, seen - top_k, seen).map(Some)
    }
}

/// What `positions` lets `length` queries see of `seen` positions, as numbers to add to scores.
pub(super) fn sparse_mask(positions: &Array, mask: &Mask, seen: i32) -> Result<Mask> {
    let (batch, length) = (positions.dim(0), positions.dim(2));
    let nothing = ops::broadcast_to(&scalar(f32::NEG_INFINITY), &[batch, 1, length, seen])?;
    let zeros = ops::zeros(positions.shape(), Dtype::Float32)?;
    let visible = ops::put_along(&nothing, positions, &zeros, -1)?;
    masked(&visible, mask).map(Mask::Array)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{DeviceKind, enter, from_u32, to_f32_vec};

    #[test]
    fn only_chosen_positions_that_lie_behind_are_visible() {
        enter(DeviceKind::Cpu).unwrap();
        // Two queries at positions 2 and 3 of 4, and two positions for each.
        let positions = from_u32(&[3, 0, 1, 3], &[1, 1, 2, 2]);
        let Mask::Array(mask) = sparse_mask(&positions, &Mask::Causal, 4).unwrap() else {
            unreachable!("chosen positions are a mask of numbers")
        };
        let hidden = f32::NEG_INFINITY;
        let expected = [[0.0, hidden, hidden, hidden], [hidden, 0.0, hidden, 0.0]].concat();
        assert_eq!(to_f32_vec(&mask).unwrap(), expected);
    }
}
