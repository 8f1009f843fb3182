//! Attention to blocks of positions (MiniMax 2026, "MiniMax M3"): an indexer's heads choose for
//! each token, and for the query heads that they stand for, the blocks that attention looks at.

use super::attention::Attention;
use super::linear::{Linear, Projections};
use super::mixer::Mixer;
use super::norm::{Norm, TakeNorm};
use super::residual::Input;
use super::rope::Rope;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fused::Device;
use crate::fused::attention::{masked, split_heads};
use crate::fused::rope::rope;
use crate::mlx::fast::Mask;
use crate::mlx::{Array, Dtype, from_f32, from_u32, ops, scalar, to_f32_vec};
use crate::weights::Weights;

/// The measures of an indexer.
#[derive(Debug, Clone)]
pub struct BlockIndexerConfig {
    /// Features of the layer's input.
    pub dims: i32,
    /// Heads.
    pub heads: i32,
    /// Features of a head.
    pub head_dim: i32,
    /// Query heads that one of them chooses for.
    pub query_heads: i32,
    /// Positions of a block.
    pub block: i32,
    /// Blocks that are chosen; all where there are no more.
    pub top_k: i32,
    /// So many blocks, that of the token included, are chosen in any case.
    pub local: i32,
    /// Takes the norms over queries and keys.
    pub norm: TakeNorm,
    /// Their epsilon.
    pub eps: f32,
    /// The rotation.
    pub rope: Rope,
}

/// The score of a block is the largest q · k of its positions that a token sees.
#[derive(Debug)]
struct BlockIndexer {
    config: BlockIndexerConfig,
    projections: Projections,
    query_norm: Norm,
    key_norm: Norm,
    device: Device,
}

impl BlockIndexer {
    fn new(w: &Weights, config: BlockIndexerConfig) -> Result<Self> {
        let BlockIndexerConfig { dims, heads, head_dim, norm, eps, .. } = config;
        let parts = [("index_q_proj", heads * head_dim), ("index_k_proj", head_dim)];
        let parts = parts
            .map(|(name, outputs)| Ok((Linear::new(&w.at(name), dims, outputs, false)?, outputs)));
        Ok(Self {
            projections: Projections::new(w, parts.into_iter().collect::<Result<_>>()?)?,
            query_norm: norm(&w.at("index_q_norm"), head_dim, eps)?,
            key_norm: norm(&w.at("index_k_norm"), head_dim, eps)?,
            config,
            device: w.device(),
        })
    }

    /// What a sequence's new positions see of what `mask` lets them see; `cache` takes their keys.
    fn mask(&self, [queries, keys]: [&Array; 2], cache: &mut Cache, mask: &Mask) -> Result<Mask> {
        let BlockIndexerConfig { heads, query_heads, block, top_k, .. } = self.config;
        let (batch, length, offset) = (keys.dim(0), keys.dim(1), cache.offset());
        let params = self.config.rope.at(offset, length);
        let keys = self.key_norm.forward(&ops::expand_dims(keys, 1)?)?;
        let keys = rope(self.device, &keys, &params)?;
        let blocks = Blocks::new(cache, length, block)?;
        let (keys, _) = cache.update(&keys, &keys)?;
        let (seen, count) = (keys.dim(2), blocks.numbers.len() as i32);
        if count <= top_k {
            return Ok(mask.clone());
        }
        let queries = self.query_norm.forward(&split_heads(queries, heads)?)?;
        let queries = rope(self.device, &queries, &params)?;
        let precise = |x: &Array| ops::astype(x, Dtype::Float32);
        let scores = ops::matmul(&precise(&queries)?, &ops::swap_axes(&precise(&keys)?, -1, -2)?)?;
        // What a token does not see must not make a block win.
        let scores = blocks.grouped(&masked(&scores, mask)?, block)?;
        let scores = ops::squeeze(&ops::max(&scores, -1)?, -1)?;
        let scores = ops::add(&scores, &self.local(offset, length, &blocks.numbers))?;
        let order = ops::argpartition(&scores, count - top_k, -1)?;
        let chosen = ops::slice_axis(&order, 3, count - top_k, count)?;
        let zeros = ops::zeros(chosen.shape(), Dtype::Float32)?;
        let visible = hidden(&[batch, heads, length, count])?;
        let visible = ops::put_along(&visible, &chosen, &zeros, -1)?;
        let visible = ops::expand_dims(&blocks.spread(&visible, block, seen)?, 2)?;
        let group = query_heads / heads;
        let visible = ops::broadcast_to(&visible, &[batch, heads, group, length, seen])?;
        let visible = ops::reshape(&visible, &[batch, query_heads, length, seen])?;
        // MLX's attention takes no mask that is more precise than what it masks.
        ops::astype(&masked(&visible, mask)?, queries.dtype()).map(Mask::Array)
    }

    /// What is added to the scores of blocks with these `numbers`, so that of each of `length`
    /// positions from `offset` on the last ones win: `[length, blocks]`. Those of which nothing is
    /// seen do not.
    fn local(&self, offset: i32, length: i32, numbers: &[i32]) -> Array {
        const MUCH: f32 = 1e30;
        let BlockIndexerConfig { block, local, .. } = self.config;
        let bonus = |position: i32, number: i32| {
            let own = position / block;
            if number <= own && number > own - local { MUCH } else { 0.0 }
        };
        let bonuses: Vec<_> = (offset..offset + length)
            .flat_map(|position| numbers.iter().map(move |&number| bonus(position, number)))
            .collect();
        from_f32(&bonuses, &[length, numbers.len() as i32])
    }
}

/// The blocks of which a cache has positions.
struct Blocks {
    /// Their numbers, counted from the first position of the text.
    numbers: Vec<i32>,
    /// Of a cache that does not hold all positions in their order: which of its positions are those
    /// of each block, `[blocks · block]`, the number behind the last for none, and the index of each
    /// position's block, `[seen]`.
    order: Option<[Array; 2]>,
}

impl Blocks {
    /// Those of `cache`, which will take `length` positions.
    fn new(cache: &Cache, length: i32, block: i32) -> Result<Self> {
        let Cache::Rotating(_) = cache else {
            let seen = cache.offset() + length;
            return Ok(Self { numbers: (0..(seen + block - 1) / block).collect(), order: None });
        };
        let positions = to_f32_vec(&cache.positions(length)?)?;
        let positions: Vec<_> = positions.into_iter().map(|position| position as i32).collect();
        let mut numbers: Vec<_> = positions.iter().map(|position| position / block).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let seen = positions.len() as u32;
        let mut slots = vec![seen; numbers.len() * block.unsigned_abs() as usize];
        let mut of_slot = Vec::with_capacity(positions.len());
        for (slot, position) in (0..seen).zip(positions) {
            let index = numbers.partition_point(|&number| number < position / block);
            slots[index * block.unsigned_abs() as usize + (position % block) as usize] = slot;
            of_slot.push(index as u32);
        }
        let order = [from_u32(&slots, &[slots.len() as i32]), from_u32(&of_slot, &[seen as i32])];
        Ok(Self { numbers, order: Some(order) })
    }

    /// Scores of positions, `[batch, heads, length, seen]`, as `[…, blocks, block]`; −∞ for those
    /// that are missing.
    fn grouped(&self, scores: &Array, block: i32) -> Result<Array> {
        let (count, seen) = (self.numbers.len() as i32, scores.dim(3));
        let [batch, heads, length] = [0, 1, 2].map(|axis| scores.dim(axis));
        let missing = if self.order.is_some() { 1 } else { count * block - seen };
        let missing = hidden(&[batch, heads, length, missing])?;
        let scores = ops::concatenate(&[scores, &missing], -1)?;
        let scores = match &self.order {
            Some([slots, _]) => ops::take(&scores, slots, 3)?,
            None => scores,
        };
        ops::reshape(&scores, &[batch, heads, length, count, block])
    }

    /// What is said of blocks, `[batch, heads, length, blocks]`, of each position:
    /// `[batch, heads, length, seen]`.
    fn spread(&self, x: &Array, block: i32, seen: i32) -> Result<Array> {
        if let Some([_, of_slot]) = &self.order {
            return ops::take(x, of_slot, 3);
        }
        let [batch, heads, length, count] = [0, 1, 2, 3].map(|axis| x.dim(axis));
        let shape = [batch, heads, length, count, block];
        let spread = ops::broadcast_to(&ops::expand_dims(x, -1)?, &shape)?;
        let spread = ops::reshape(&spread, &[batch, heads, length, count * block])?;
        ops::slice_axis(&spread, 3, 0, seen)
    }
}

/// −∞ everywhere.
fn hidden(shape: &[i32]) -> Result<Array> {
    ops::broadcast_to(&scalar(f32::NEG_INFINITY), shape)
}

/// The attention block of a layer, with an indexer or to all positions.
#[derive(Debug)]
pub struct BlockSparseAttention {
    attention: Attention,
    indexer: Option<BlockIndexer>,
}

impl BlockSparseAttention {
    /// Takes `index_q_proj`, `index_k_proj` and their norms beside `attention`'s own tensors.
    pub fn new(
        w: &Weights,
        attention: Attention,
        indexer: Option<BlockIndexerConfig>,
    ) -> Result<Self> {
        let indexer = indexer.map(|config| BlockIndexer::new(w, config)).transpose()?;
        Ok(Self { attention, indexer })
    }
}

impl Mixer for BlockSparseAttention {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let (qkv, factors) = self.attention.project(x)?;
        let Some(indexer) = &self.indexer else {
            return self.attention.attend(qkv, factors.as_ref(), &mut rows.part(0, 1)?);
        };
        let index = x.project(&indexer.projections)?;
        let parts = [&qkv[0], &qkv[1], &qkv[2], &index[0], &index[1]];
        rows.mix(parts, |[queries, keys, values, of_index, index_keys], row| {
            let Row { length, masks, cache } = row;
            let [cache, index_cache] = cache.list(2)? else { return Err(no_caches()) };
            let mask = masks.get(length, None, cache)?;
            let mask = indexer.mask([of_index, index_keys], index_cache, mask)?;
            self.attention.attend_within([queries, keys, values], mask, cache)
        })
    }

    fn make_cache(&self) -> Cache {
        let count = if self.indexer.is_some() { 2 } else { 1 };
        Cache::List((0..count).map(|_| Cache::standard()).collect())
    }
}

fn no_caches() -> Error {
    Error::argument("caches", "are not those of attention and its indexer")
}
