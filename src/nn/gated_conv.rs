//! Short convolutions of keys and values that queries let through, in place of attention (Gear
//! 2026).

use super::attention::QkNorms;
use super::attention_config::{AttentionConfig, LayerConfig};
use super::conv::CausalConv;
use super::linear::{Linear, Projections};
use super::mixer::Mixer;
use super::norm::Norm;
use super::residual::Input;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::{Array, ops};
use crate::weights::Weights;

/// out(σ(q · conv(k)) · conv(v)), feature by feature, with q and k normalized in each head and the
/// heads of k and v shared by groups of queries.
#[derive(Debug)]
pub struct GatedConv {
    heads: [i32; 2],
    head_dim: i32,
    qkv: Projections,
    norms: Option<[Norm; 2]>,
    convs: [CausalConv; 2],
    output: Linear,
}

impl GatedConv {
    /// Takes the projections and norms as attention has them, and `key_conv` and `value_conv` of
    /// `kernel` positions, with biases where the projections have them.
    pub fn new(
        w: &Weights,
        config: &AttentionConfig,
        layer: LayerConfig,
        kernel: i32,
    ) -> Result<Self> {
        let AttentionConfig { heads, kv_heads, head_dim, qkv_bias: bias, .. } = *config;
        let parts = config.parts(w, layer)?;
        let conv = |name| CausalConv::new(&w.at(name), kv_heads * head_dim, kernel, bias);
        Ok(Self {
            heads: [heads, kv_heads],
            head_dim,
            qkv: parts.qkv,
            norms: match parts.qk_norms {
                Some(QkNorms::EachHead(norms) | QkNorms::AllHeads(norms)) => Some(norms),
                None => None,
            },
            convs: [conv("key_conv")?, conv("value_conv")?],
            output: parts.output,
        })
    }

    /// `[batch, length, heads · head_dim]` of a sequence.
    fn mixed(&self, [queries, keys, values]: [&Array; 3], row: Row) -> Result<Array> {
        let ([heads, kv_heads], head_dim) = (self.heads, self.head_dim);
        let (batch, length) = (queries.dim(0), row.length);
        let normed = |x: &Array, part: usize, heads: i32| -> Result<_> {
            let x = ops::reshape(x, &[batch, length, heads, head_dim])?;
            match &self.norms {
                Some(norms) => norms[part].forward(&x),
                None => Ok(x),
            }
        };
        let flat = [batch, length, kv_heads * head_dim];
        let keys = ops::reshape(&normed(keys, 1, kv_heads)?, &flat)?;
        let state = row.cache.state()?;
        let keys = self.convs[0].forward(&keys, state, 0)?;
        let values = self.convs[1].forward(values, state, 1)?;
        state.advance(length);
        let grouped = [batch, length, kv_heads, heads / kv_heads, head_dim];
        let queries = ops::reshape(&normed(queries, 0, heads)?, &grouped)?;
        let shared = |x: &Array| ops::reshape(x, &[batch, length, kv_heads, 1, head_dim]);
        let gates = ops::sigmoid(&ops::multiply(&queries, &shared(&keys)?)?)?;
        let mixed = ops::multiply(&gates, &shared(&values)?)?;
        ops::reshape(&mixed, &[batch, length, heads * head_dim])
    }
}

impl Mixer for GatedConv {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let qkv = x.project(&self.qkv)?;
        let parts = [&qkv[0], &qkv[1], &qkv[2]];
        let mixed = rows.mix(parts, |parts, row| self.mixed(parts, row))?;
        self.output.forward(&mixed)
    }

    fn make_cache(&self) -> Cache {
        Cache::arrays_of(2)
    }
}
