//! The measures of multi-head latent attention, as DeepSeek's configurations name them.

use serde_json::json;

use super::{ConfigFile, RopeDefaults};
use crate::error::Result;
use crate::nn::{
    Chosen, Decoder, FeedForward, Indexer, IndexerConfig, Mixer, Mla, MlaConfig, QueryTemperature,
    Rope, StandardDecoder,
};
use crate::weights::Weights;

/// A decoder with multi-head latent attention in every layer.
pub(in crate::models) struct LatentDecoder {
    pub(in crate::models) decoder: StandardDecoder,
    pub(in crate::models) attention: MlaConfig,
    /// How queries grow with their position.
    pub(in crate::models) temperature: Option<QueryTemperature>,
    /// What chooses the positions that layers look at.
    pub(in crate::models) indexer: Option<SparseLatent>,
    /// The rotation; `None` does not look at positions.
    pub(in crate::models) rope: Option<Rope>,
}

/// Attention to the positions that an indexer chooses.
pub(in crate::models) struct SparseLatent {
    config: IndexerConfig,
    /// Whether a layer has an indexer of its own, and does not look where the layer before looks.
    own: Vec<bool>,
}

impl LatentDecoder {
    /// As [`StandardDecoder::build`].
    pub(in crate::models) fn build(
        &self,
        w: &Weights,
        feed_forward: impl Fn(usize, &Weights) -> Result<Box<dyn FeedForward>>,
    ) -> Result<Decoder> {
        let chosen = Chosen::default();
        let mla = |index: usize, w: &Weights| {
            let Some(SparseLatent { config, own }) = &self.indexer else {
                return self.attention(w);
            };
            let w = w.at("self_attn");
            let mla = self.mla(&w)?;
            let indexer = match self.attention.q_lora_rank.filter(|_| own[index]) {
                Some(rank) => {
                    let (w, dims) = (w.at("indexer"), self.attention.dims);
                    Some(Indexer::new(&w, config.clone(), dims, rank)?)
                }
                None => None,
            };
            Ok(Box::new(mla.sparse(indexer, chosen.clone())) as _)
        };
        self.decoder.build_hybrid(w, mla, feed_forward)
    }

    /// Takes the attention of a layer, to all positions.
    pub(in crate::models) fn attention(&self, layer: &Weights) -> Result<Box<dyn Mixer>> {
        self.attention_of(&layer.at("self_attn"))
    }

    /// The same of the attention's own view.
    pub(in crate::models) fn attention_of(&self, w: &Weights) -> Result<Box<dyn Mixer>> {
        Ok(Box::new(self.mla(w)?))
    }

    fn mla(&self, w: &Weights) -> Result<Mla> {
        let mla = Mla::new(w, self.attention, self.rope.clone())?;
        Ok(mla.with_temperature(self.temperature))
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
        Ok(LatentDecoder { decoder, attention, temperature: None, indexer: None, rope: Some(rope) })
    }

    /// The same with indexers in the layers that have one of their `own`; `interleaved` says
    /// whether these rotate neighbouring features where `indexer_rope_interleave` does not.
    pub(in crate::models) fn sparse_latent_decoder(
        &self,
        base: f32,
        interleaved: bool,
        own: Vec<bool>,
    ) -> Result<LatentDecoder> {
        if own.first() != Some(&true) {
            return Err(self.error("the first layer has no indexer"));
        }
        let mut decoder = self.latent_decoder(base, true)?;
        if decoder.attention.q_lora_rank.is_none() {
            return Err(self.error("\"q_lora_rank\" is missing"));
        }
        let dims = decoder.attention.qk_rope_head_dim;
        let head_dim = self.optional("index_head_dim")?.unwrap_or(128);
        let head_dim = self.bounded("index_head_dim", head_dim, 1 << 14)?;
        if head_dim < dims {
            let message = format!("\"index_head_dim\" {head_dim} is below \"qk_rope_head_dim\"");
            return Err(self.error(message));
        }
        let interleaved = self.optional("indexer_rope_interleave")?.unwrap_or(interleaved);
        let config = IndexerConfig {
            heads: self.bounded("index_n_heads", self.require("index_n_heads")?, 1 << 14)?,
            head_dim,
            top_k: self.size_or("index_topk", 2048)?,
            rope: self.rope(dims, Some(base), interleaved)?,
        };
        decoder.indexer = Some(SparseLatent { config, own });
        Ok(decoder)
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
            norm_scales: [1.0; 2],
            eps: MlaConfig::EPS,
            output: "o_proj",
            output_gate: None,
        })
    }
}
