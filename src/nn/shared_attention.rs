//! Attention to the keys and values of an earlier layer (Brandon et al. 2024).

use super::attention_config::{AttentionConfig, LayerConfig};
use super::linear::Linear;
use super::masks::AttentionSpan;
use super::mixer::Mixer;
use super::norm::Norm;
use super::residual::Input;
use super::rope::Rope;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::fused::Device;
use crate::fused::attention::{Scores, cached_attention, join_heads, split_heads};
use crate::fused::rope::rope;
use crate::mlx::{Array, DeviceKind, async_eval};
use crate::weights::Weights;

/// An attention block that has queries of its own only. It is handed the cache of the layer that it
/// shares, after that layer, and leaves it as it is.
#[derive(Debug)]
pub struct SharedAttention {
    config: AttentionConfig,
    queries: Linear,
    norm: Option<Norm>,
    output: Linear,
    rope: Option<Rope>,
    /// How far back a token sees, as in the layer that is shared.
    span: AttentionSpan,
    device: Device,
}

impl SharedAttention {
    /// Takes `q_proj`, `q_norm` where configured, and the output projection.
    pub fn new(w: &Weights, config: AttentionConfig, layer: LayerConfig) -> Result<Self> {
        let AttentionConfig { dims, heads, head_dim, qkv_bias, output_bias, .. } = config;
        Ok(Self {
            queries: Linear::new(&w.at("q_proj"), dims, heads * head_dim, qkv_bias)?,
            norm: config.q_norm(w)?,
            output: Linear::new(&w.at(config.output), heads * head_dim, dims, output_bias)?,
            rope: layer.rope,
            span: layer.span,
            config,
            device: w.device(),
        })
    }

    /// The attention of a sequence's new positions, `[batch, length, heads · head_dim]`.
    fn attend(&self, queries: &Array, row: Row) -> Result<Array> {
        let Row { length, masks, cache } = row;
        let AttentionConfig { heads, .. } = self.config;
        if self.device.kind == DeviceKind::Gpu {
            // What the other layer's kernel wrote must be on its way before it is read here: MLX
            // does not know that it is written.
            async_eval(&cache.arrays())?;
        }
        let Some((keys, values)) = cache.last()? else {
            let message = "the layer whose keys and values are shared has not run";
            return Err(Error::argument("caches", message));
        };
        let mut queries = split_heads(queries, heads)?;
        let normed = |x: Array| match &self.norm {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        };
        let rotate_first = self.config.qk_norm.is_some_and(|norm| norm.rotates_first());
        if !rotate_first {
            queries = normed(queries)?;
        }
        if let Some(params) = &self.rope {
            let params = params.at(cache.offset() - length, length);
            queries = rope(self.device, &queries, &params)?;
        }
        if rotate_first {
            queries = normed(queries)?;
        }
        // The mask that the other layer asked for, before the cache took the new positions.
        let mask = masks.get(length, self.span, cache)?;
        let scores = Scores::scaled(self.config.scale());
        join_heads(&cached_attention(self.device, &queries, &keys, &values, mask, &scores)?)
    }
}

impl Mixer for SharedAttention {
    fn forward(&self, x: &Input, rows: &mut Rows) -> Result<Array> {
        let queries = self.queries.forward(x.array()?)?;
        let attended = rows.mix([&queries], |[queries], row| self.attend(queries, row))?;
        self.output.forward(&attended)
    }

    fn make_cache(&self) -> Cache {
        self.span.make_cache()
    }
}

/// For each layer the number of its cache: its own of the first `own` layers, and of the others
/// that of the last of these which sees as much. `None` if there is none for a layer.
pub fn shared_caches(windows: &[Option<i32>], own: usize) -> Option<Vec<usize>> {
    let lender = |(index, window): (usize, &Option<i32>)| {
        if index < own { Some(index) } else { windows[..own].iter().rposition(|w| w == window) }
    };
    windows.iter().enumerate().map(lender).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_share_the_last_cache_of_their_kind() {
        let (full, near) = (None, Some(8));
        let layers = [near, full, near, near, full, near, full];
        assert_eq!(shared_caches(&layers, 4), Some(vec![0, 1, 2, 3, 1, 3, 1]));
        assert_eq!(shared_caches(&layers, 7), Some(vec![0, 1, 2, 3, 4, 5, 6]));
        assert_eq!(shared_caches(&layers, 1), None);
    }
}
