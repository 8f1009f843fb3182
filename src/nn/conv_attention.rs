//! Attention whose keys and values are mixed with those of the position just before (Baichuan
//! 2025, "Baichuan-M1").

use super::attention::Attention;
use super::attention_config::{AttentionConfig, LayerConfig};
use super::conv::CausalConv;
use super::mixer::Mixer;
use super::residual::Input;
use super::rows::Rows;
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::{Array, ops};
use crate::weights::Weights;

/// Attention to conv(keys) and conv(values), over two positions, where all features of a head have
/// the same two weights. The cache is a list: the last key and value as they are projected, and
/// those that are attended to.
#[derive(Debug)]
pub struct ConvAttention {
    attention: Attention,
    convs: [CausalConv; 2],
    kv_heads: i32,
}

impl ConvAttention {
    /// Takes the attention of a layer, and `conv_k` and `conv_v`, `[1, 1, kv_heads, 1, 2]`.
    pub fn new(w: &Weights, config: &AttentionConfig, layer: LayerConfig) -> Result<Self> {
        let AttentionConfig { kv_heads, head_dim, .. } = *config;
        let conv = |name: &str| {
            let by_head = w.take_reshaped(name, &[kv_heads, 1, 2])?;
            let each = ops::broadcast_to(&by_head, &[kv_heads, head_dim, 2])?;
            CausalConv::of(w, &ops::reshape(&each, &[kv_heads * head_dim, 2])?)
        };
        let convs = [conv("conv_k")?, conv("conv_v")?];
        Ok(Self { attention: config.build(w, layer)?, convs, kv_heads })
    }

    /// The keys (0) or values (1) of all rows, mixed.
    fn mixed(&self, x: &Array, rows: &mut Rows, part: usize) -> Result<Array> {
        rows.part(0, 2)?.mix([x], |[x], row| {
            let (batch, channels) = (x.dim(0), x.dim(2));
            let state = row.cache.state()?;
            let mixed = self.convs[part].forward(x, state, part)?;
            // By heads, as mlx-lm keeps it: of one position the numbers lie alike.
            if let Some(last) = state.get(part) {
                let shape = [batch, self.kv_heads, 1, channels / self.kv_heads];
                state.set(part, ops::reshape(last, &shape)?);
            }
            if part == 1 {
                state.advance(row.length);
            }
            Ok(mixed)
        })
    }
}

impl Mixer for ConvAttention {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let (mut qkv, factors) = self.attention.project(x)?;
        qkv[1] = self.mixed(&qkv[1], rows, 0)?;
        qkv[2] = self.mixed(&qkv[2], rows, 1)?;
        self.attention.attend(qkv, factors.as_ref(), &mut rows.part(1, 2)?)
    }

    fn make_cache(&self) -> Cache {
        Cache::List(vec![Cache::arrays_of(2), self.attention.make_cache()])
    }
}
