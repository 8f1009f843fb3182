//! How far the layers of a decoder see.

use super::{ConfigFile, LayerType};
use crate::error::Result;
use crate::nn::{AttentionSpan, LayerConfig, StandardDecoder};

impl ConfigFile {
    /// How far the layers see. Mistral's first release says it `for_all` of them; Llama's never
    /// look at it.
    pub(in crate::models) fn set_windows(
        &self,
        decoder: &mut StandardDecoder,
        for_all: bool,
    ) -> Result<()> {
        let windows = match self.layer_types()? {
            Some(types) => {
                let near = types.contains(&LayerType::SlidingAttention);
                let window = if near { Some(self.window()?) } else { None };
                let kinds = types.iter();
                kinds.map(|kind| window.filter(|_| *kind == LayerType::SlidingAttention)).collect()
            }
            None if for_all => vec![self.window_if_given()?; decoder.layers.len()],
            None => return Ok(()),
        };
        decoder.set_windows(windows);
        Ok(())
    }

    /// `sliding_window`, or `None` where it is absent or null.
    pub(in crate::models) fn window_if_given(&self) -> Result<Option<i32>> {
        match self.optional::<i64>("sliding_window")? {
            Some(_) => Ok(Some(self.window()?)),
            None => Ok(None),
        }
    }

    /// The layers of ModernBERT (Warner et al. 2024), each of which has the rotation of its kind:
    /// those of `layer_types`, or without it the first and every `global_attn_every_n_layers`-th
    /// from there, see as far as the first of `spans`, and the others as far as the second.
    pub(in crate::models) fn modernbert_layers(
        &self,
        head_dim: i32,
        spans: [AttentionSpan; 2],
    ) -> Result<Vec<LayerConfig>> {
        let kind = |layers: &str, field: &str, base: f32, span| -> Result<_> {
            let base = self.optional(field)?.unwrap_or(base);
            let own = self.rope_parameters_of(layers);
            let rope = own.as_ref().unwrap_or(self).rope(head_dim, Some(base), false)?;
            Ok(LayerConfig { span, rope: Some(rope), temperature: None })
        };
        let far = kind("full_attention", "global_rope_theta", 160_000.0, spans[0])?;
        let near = kind("sliding_attention", "local_rope_theta", 10_000.0, spans[1])?;
        let sees_all: Vec<bool> = match self.layer_types()? {
            Some(kinds) => kinds.iter().map(|kind| *kind == LayerType::FullAttention).collect(),
            None => {
                let every = self.size_or("global_attn_every_n_layers", 3)?.unsigned_abs() as usize;
                (0..self.layers()?).map(|layer| layer.is_multiple_of(every)).collect()
            }
        };
        Ok(sees_all.into_iter().map(|all| if all { far.clone() } else { near.clone() }).collect())
    }
}
