//! Differential attention (Ye et al. 2024): what one half of the heads attends to, less a share of
//! what the other half does, with the values of both.

use super::attention_config::{AttentionConfig, LayerConfig};
use super::linear::{Linear, Projections};
use super::masks::AttentionSpan;
use super::mixer::Mixer;
use super::residual::Input;
use super::rope::Rope;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::attention::{Scores, join_heads, scaled_dot_product_attention, split_heads};
use crate::fused::math::scaled;
use crate::fused::norm::rms_norm;
use crate::fused::rope::rope;
use crate::mlx::{Array, ops, to_f32_vec};
use crate::weights::Weights;

/// The attention block of a layer.
#[derive(Debug)]
pub struct DifferentialAttention {
    config: AttentionConfig,
    qkv: Projections,
    output: Linear,
    rope: Option<Rope>,
    span: AttentionSpan,
    /// What the second half of the heads counts for.
    share: f32,
    /// What is left of the outputs' norm.
    kept: f32,
    eps: f32,
    device: Device,
}

impl DifferentialAttention {
    /// Takes the projections of `config`, which has two or more key heads, an even number, and
    /// `lambda_q1`, `lambda_k1`, `lambda_q2` and `lambda_k2` of layer number `index`. The share of
    /// the second half is exp(q₁ · k₁) − exp(q₂ · k₂) + i with i = 0.8 − 0.6 · exp(−0.3 · index).
    pub fn new(
        w: &Weights,
        config: AttentionConfig,
        layer: LayerConfig,
        index: usize,
        eps: f32,
    ) -> Result<Self> {
        let AttentionConfig { dims, heads, head_dim, .. } = config;
        let exponential = |[queries, keys]: [&str; 2]| -> Result<f32> {
            let take = |name| w.take_f32(name, &[head_dim]);
            let sum = ops::sum(&ops::multiply(&take(queries)?, &take(keys)?)?, 0)?;
            Ok(to_f32_vec(&sum)?.iter().sum::<f32>().exp())
        };
        let first = 0.8 - 0.6 * (-0.3 * index as f32).exp();
        let [one, two] = [["lambda_q1", "lambda_k1"], ["lambda_q2", "lambda_k2"]].map(exponential);
        Ok(Self {
            qkv: config.qkv(w)?,
            output: Linear::new(&w.at("o_proj"), heads * head_dim, dims, config.output_bias)?,
            rope: layer.rope,
            span: layer.span,
            share: one? - two? + first,
            kept: 1.0 - first,
            eps,
            device: w.device(),
            config,
        })
    }

    /// What one row attends to, `[batch, length, heads · head_dim]`.
    fn attend(&self, [queries, keys, values]: [&Array; 3], row: Row) -> Result<Array> {
        let AttentionConfig { heads, kv_heads, .. } = self.config;
        let Row { length, masks, cache } = row;
        let rotation = self.rope.as_ref().map(|rope| rope.at(cache.offset(), length));
        let rotated = |x: &Array, heads: i32| -> Result<Array> {
            let x = split_heads(x, heads)?;
            rotation.as_ref().map_or(Ok(x.clone()), |params| rope(self.device, &x, params))
        };
        let mask = masks.get(length, self.span, cache)?.clone();
        let queries = rotated(queries, heads)?;
        let (keys, values) =
            cache.update(&rotated(keys, kv_heads)?, &split_heads(values, kv_heads)?)?;
        // Each head sees the values of a head of either half.
        let halves = ops::split_at(&values, &[kv_heads / 2], 1)?;
        let pairs = ops::concatenate(&[&halves[0], &halves[1]], -1)?;
        let values = ops::concatenate(&[&pairs, &pairs], 1)?;
        let scores = Scores::scaled(self.config.scale());
        let attended =
            scaled_dot_product_attention(self.device, &queries, &keys, &values, &mask, &scores)?;
        let halves = ops::split_at(&attended, &[heads / 2], 1)?;
        let difference = ops::subtract(&halves[0], &scaled(&halves[1], self.share)?)?;
        let normed = rms_norm(self.device, &difference, None, self.eps)?;
        join_heads(&scaled(&normed, self.kept)?)
    }
}

impl Mixer for DifferentialAttention {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let qkv = x.project(&self.qkv)?;
        let attended =
            rows.mix([&qkv[0], &qkv[1], &qkv[2]], |parts, row| self.attend(parts, row))?;
        self.output.forward(&attended)
    }

    fn make_cache(&self) -> Cache {
        self.span.make_cache()
    }
}
