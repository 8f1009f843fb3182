//! The measures of multi-head latent attention, as DeepSeek's configurations name them.

use serde_json::json;

use super::{ConfigFile, RopeDefaults};
use crate::error::Result;
use crate::nn::{Decoder, FeedForward, Mla, MlaConfig, QueryTemperature, Rope, StandardDecoder};
use crate::weights::Weights;

/// A decoder with multi-head latent attention in every layer.
pub(in crate::models) struct LatentDecoder {
    pub(in crate::models) decoder: StandardDecoder,
    pub(in crate::models) attention: MlaConfig,
    /// How queries grow with their position.
    pub(in crate::models) temperature: Option<QueryTemperature>,
    rope: Rope,
}

impl LatentDecoder {
    /// As [`StandardDecoder::build`].
    pub(in crate::models) fn build(
        &self,
        w: &Weights,
        feed_forward: impl Fn(usize, &Weights) -> Result<Box<dyn FeedForward>>,
    ) -> Result<Decoder> {
        let mla = |w: &Weights| {
            let mla = Mla::new(&w.at("self_attn"), self.attention, self.rope.clone())?;
            Ok(Box::new(mla.with_temperature(self.temperature)) as _)
        };
        self.decoder.build_hybrid(w, |_, w| mla(w), feed_forward)
    }
}

impl ConfigFile {
    /// The decoder that DeepSeek's fields describe. `interleaved` says whether neighbouring
    /// features are rotated where `rope_interleave` does not.
    pub(in crate::models) fn latent_decoder(
        &self,
        base: f32,
        interleaved: bool,
    ) -> Result<LatentDecoder> {
        let heads = self.size("num_attention_heads")?;
        let rotated = self.size("qk_rope_head_dim")?;
        // Heads are what the fields of latent attention say.
        let own = [("head_dim", json!(rotated)), ("num_key_value_heads", json!(heads))];
        let decoder = self.with(own).decoder(&RopeDefaults::base(base))?;
        let attention = self.latent_attention(decoder.attention.dims)?;
        let interleaved = self.optional("rope_interleave")?.unwrap_or(interleaved);
        let rope = self.rope(attention.qk_rope_head_dim, Some(base), interleaved)?;
        Ok(LatentDecoder { decoder, attention, temperature: None, rope })
    }

    /// Multi-head latent attention between `dims` features.
    pub(in crate::models) fn latent_attention(&self, dims: i32) -> Result<MlaConfig> {
        let head = |field: &str| self.bounded(field, self.require(field)?, 1 << 14);
        let (nope, rope) = (head("qk_nope_head_dim")?, head("qk_rope_head_dim")?);
        let q_lora_rank = match self.optional::<i64>("q_lora_rank")? {
            Some(_) => Some(self.size("q_lora_rank")?),
            None => None,
        };
        let factor = self.rope_scaling()?.map_or(1.0, |scaling| scaling.score_factor());
        Ok(MlaConfig {
            dims,
            heads: head("num_attention_heads")?,
            q_lora_rank,
            kv_lora_rank: self.size("kv_lora_rank")?,
            qk_nope_head_dim: nope,
            qk_rope_head_dim: rope,
            v_head_dim: head("v_head_dim")?,
            bias: self.flag("attention_bias")?,
            scale: factor / ((nope + rope) as f32).sqrt(),
        })
    }
}
