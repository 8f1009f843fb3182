//! Attention whose scores get a bias for each position, made of its value, and which looks only at
//! the positions with the largest ones (Shi et al. 2024, "Wonderful matrices").

use super::attention_config::{AttentionConfig, LayerConfig};
use super::linear::{Linear, Projections};
use super::masks::AttentionSpan;
use super::mixer::Mixer;
use super::norm::Norm;
use super::residual::Input;
use super::rope::Rope;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::Result;
use crate::fused::Device;
use crate::fused::attention::{
    Scores, join_heads, masked, scaled_dot_product_attention, split_heads,
};
use crate::fused::math::{scaled, softplus};
use crate::fused::rope::rope;
use crate::mlx::fast::Mask;
use crate::mlx::{Array, Dtype, ops, scalar};
use crate::weights::Weights;

/// Logarithms of biases that differ by less than about this are taken for equal: those of repeated
/// tokens are, but for how the products that make them round.
const EQUAL: f32 = 1.0 / 65_536.0;

/// The attention block of a layer. The bias of a position and key head is exp(a · ln(1 + eᵗ)) with
/// t, of the values of all heads. Of positions with equal biases the latest are looked at.
#[derive(Debug)]
pub struct DynamicMaskAttention {
    config: AttentionConfig,
    qkv: Projections,
    norms: [Norm; 2],
    /// a of each key head, `[kv_heads]`, `f32`.
    rates: Array,
    steps: Linear,
    output: Linear,
    rope: Option<Rope>,
    span: AttentionSpan,
    /// Positions that are looked at; all where there are no more.
    kept: i32,
    device: Device,
}

impl DynamicMaskAttention {
    /// Takes the projections of `config`, norms over each head, `A` and `dt_proj`.
    pub fn new(
        w: &Weights,
        config: AttentionConfig,
        layer: LayerConfig,
        kept: i32,
        eps: f32,
    ) -> Result<Self> {
        let AttentionConfig { dims, heads, kv_heads, head_dim, qkv_bias, .. } = config;
        let [q_norm, k_norm] = ["q_norm", "k_norm"].map(|it| Norm::rms(&w.at(it), head_dim, eps));
        Ok(Self {
            qkv: config.qkv(w)?,
            norms: [q_norm?, k_norm?],
            rates: w.take_f32("A", &[kv_heads])?,
            steps: Linear::new(&w.at("dt_proj"), kv_heads * head_dim, kv_heads, qkv_bias)?,
            output: Linear::new(&w.at("o_proj"), heads * head_dim, dims, config.output_bias)?,
            rope: layer.rope,
            span: layer.span,
            kept,
            device: w.device(),
            config,
        })
    }

    /// The logarithms of the biases of positions with these values,
    /// `[batch, kv_heads, seen, head_dim]`: `[batch, kv_heads, 1, seen]`.
    fn log_biases(&self, values: &Array) -> Result<Array> {
        let steps = ops::astype(&self.steps.forward(&join_heads(values)?)?, Dtype::Float32)?;
        let logs = ops::multiply(&softplus(&steps)?, &self.rates)?;
        ops::expand_dims(&ops::swap_axes(&logs, 1, 2)?, 2)
    }

    /// What `mask` leaves of the biases for `length` positions, and what is looked at of that:
    /// `[batch, heads, length, seen]`.
    fn mask(&self, log_biases: &Array, length: i32, mask: &Mask) -> Result<Array> {
        let AttentionConfig { heads, kv_heads, .. } = self.config;
        let (batch, seen) = (log_biases.dim(0), log_biases.dim(3));
        let shape = [batch, kv_heads, length, seen];
        let of_all = |x: &Array| masked(&ops::broadcast_to(x, &shape)?, mask);
        let mut visible = of_all(&ops::exp(log_biases)?)?;
        if seen > self.kept {
            // The place of each in their order, which leaves no two equal.
            let rounded = ops::round(&scaled(log_biases, EQUAL.recip())?)?;
            let places = ops::argsort(&ops::argsort(&rounded, -1)?, -1)?;
            let places = of_all(&ops::astype(&places, Dtype::Float32)?)?;
            let order = ops::argpartition(&places, seen - self.kept, -1)?;
            let left_out = ops::slice_axis(&order, 3, 0, seen - self.kept)?;
            visible = ops::put_along(&visible, &left_out, &scalar(f32::NEG_INFINITY), -1)?;
        }
        let group = [batch, kv_heads, heads / kv_heads, length, seen];
        let visible = ops::broadcast_to(&ops::expand_dims(&visible, 2)?, &group)?;
        ops::reshape(&visible, &[batch, heads, length, seen])
    }

    /// What one row attends to, `[batch, length, heads · head_dim]`.
    fn attend(&self, [queries, keys, values]: [&Array; 3], row: Row) -> Result<Array> {
        let AttentionConfig { heads, kv_heads, .. } = self.config;
        let Row { length, masks, cache } = row;
        let rotation = self.rope.as_ref().map(|rope| rope.at(cache.offset(), length));
        let prepared = |x: &Array, heads: i32, norm: &Norm| -> Result<Array> {
            let x = norm.forward(&split_heads(x, heads)?)?;
            rotation.as_ref().map_or(Ok(x.clone()), |params| rope(self.device, &x, params))
        };
        let mask = masks.get(length, self.span, cache)?.clone();
        let queries = prepared(queries, heads, &self.norms[0])?;
        let keys = prepared(keys, kv_heads, &self.norms[1])?;
        let (keys, values) = cache.update(&keys, &split_heads(values, kv_heads)?)?;
        let mask = self.mask(&self.log_biases(&values)?, length, &mask)?;
        let mask = Mask::Array(ops::astype(&mask, queries.dtype())?);
        let scores = Scores::scaled(self.config.scale());
        join_heads(&scaled_dot_product_attention(
            self.device,
            &queries,
            &keys,
            &values,
            &mask,
            &scores,
        )?)
    }
}

impl Mixer for DynamicMaskAttention {
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
