//! Attention of layers that run twice (IQuest 2026, "LoopCoder"): the second time each head weighs
//! what it finds among the keys and values of the first time against what it finds among those of
//! the second, of which it sees a window.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::attention_config::{AttentionConfig, LayerConfig};
use super::linear::{Linear, Projections};
use super::masks::AttentionSpan;
use super::mixer::Mixer;
use super::residual::Input;
use super::rope::Rope;
use super::rows::{Row, Rows};
use crate::cache::{Cache, KvTensor};
use crate::error::Result;
use crate::fused::Device;
use crate::fused::attention::{Scores, cached_attention, join_heads, split_heads};
use crate::fused::kv::KvCache;
use crate::fused::rope::rope;
use crate::mlx::{Array, Dtype, ops};
use crate::weights::Weights;

/// Which time the layers run, which all of them ask.
#[derive(Debug, Clone, Default)]
pub struct SecondTime(Rc<Cell<bool>>);

impl SecondTime {
    /// Says whether it is the second time.
    pub fn set(&self, is_second: bool) {
        self.0.set(is_second);
    }
}

/// The first time out(softmax(q₁ k₁ᵀ) v₁), the second time
/// out(g · softmax(q₂ k₁ᵀ) v₁ + (1 − g) · softmax(q₂ k₂ᵀ) v₂), g = σ(w · q₂ + b) of each head.
#[derive(Debug)]
pub struct LoopedAttention {
    qkv: Projections,
    heads: [i32; 2],
    rope: Option<Rope>,
    scale: f32,
    /// w, `[heads, head_dim, 1]`.
    gate: Array,
    /// b, `[heads, 1, 1]`.
    gate_bias: Array,
    output: Linear,
    /// Positions that are seen among the keys of the second time.
    window: i32,
    second: SecondTime,
    /// The keys and values of the first time in this step, row by row.
    first: RefCell<Vec<(KvTensor, KvTensor)>>,
    kv_dtype: Option<Dtype>,
    device: Device,
}

impl LoopedAttention {
    /// Takes the attention of a layer, and `weight` and `bias` of its gates.
    pub fn new(
        w: &Weights,
        gates: &Weights,
        config: &AttentionConfig,
        layer: LayerConfig,
        window: i32,
        second: SecondTime,
    ) -> Result<Self> {
        let AttentionConfig { heads, kv_heads, head_dim, .. } = *config;
        let parts = config.parts(w, layer)?;
        let gate = gates.take("weight", &[heads, head_dim])?;
        let gate_bias = gates.take("bias", &[heads])?;
        Ok(Self {
            qkv: parts.qkv,
            heads: [heads, kv_heads],
            rope: parts.rope,
            scale: parts.scale,
            gate: ops::reshape(&gate, &[heads, head_dim, 1])?,
            gate_bias: ops::reshape(&gate_bias, &[heads, 1, 1])?,
            output: parts.output,
            window,
            second,
            first: RefCell::default(),
            kv_dtype: w.cache_dtype(),
            device: w.device(),
        })
    }

    /// What a row attends to, `[batch, length, heads · head_dim]`; it is the row number `index`.
    fn attend(&self, parts: [&Array; 3], row: Row, index: usize) -> Result<Array> {
        let Row { length, masks, cache } = row;
        let [heads, kv_heads] = self.heads;
        let params = self.rope.as_ref().map(|rope| rope.at(cache.offset(), length));
        let rotated = |x: &Array, heads: i32| {
            let x = split_heads(x, heads)?;
            params.as_ref().map_or(Ok(x.clone()), |params| rope(self.device, &x, params))
        };
        let kept = |x: Array| self.kv_dtype.map_or(Ok(x.clone()), |dtype| ops::astype(&x, dtype));
        let queries = rotated(parts[0], heads)?;
        let keys = kept(rotated(parts[1], kv_heads)?)?;
        let values = kept(split_heads(parts[2], kv_heads)?)?;
        let scores = Scores::scaled(self.scale);
        // Asked for the first time before the cache of that time takes its positions.
        let all = masks.get(length, AttentionSpan::Full, cache)?.clone();
        if !self.second.0.get() {
            let (keys, values) = cache.update_and_fetch(&keys, &values)?;
            let found = cached_attention(self.device, &queries, &keys, &values, &all, &scores)?;
            self.first.borrow_mut().push((keys, values));
            return join_heads(&found);
        }
        let near = masks.get(length, AttentionSpan::SlidingWindow(self.window), cache)?.clone();
        let (keys, values) = cache.update_and_fetch(&keys, &values)?;
        let local = cached_attention(self.device, &queries, &keys, &values, &near, &scores)?;
        let first = self.first.borrow();
        let Some((keys, values)) = first.get(index) else { return join_heads(&local) };
        let found = cached_attention(self.device, &queries, keys, values, &all, &scores)?;
        let gate = ops::add(&ops::matmul(&queries, &self.gate)?, &self.gate_bias)?;
        let difference = ops::subtract(&found, &local)?;
        let mixed = ops::add(&local, &ops::multiply(&ops::sigmoid(&gate)?, &difference)?)?;
        join_heads(&mixed)
    }
}

impl Mixer for LoopedAttention {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let qkv = x.project(&self.qkv)?;
        if !self.second.0.get() {
            self.first.borrow_mut().clear();
        }
        let (parts, mut index) = ([&qkv[0], &qkv[1], &qkv[2]], 0..);
        let attended = rows
            .mix(parts, |parts, row| self.attend(parts, row, index.next().unwrap_or_default()))?;
        self.output.forward(&attended)
    }

    fn make_cache(&self) -> Cache {
        Cache::standard()
    }
}
