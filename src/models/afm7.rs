//! AFM 7 (Apple 2025, "Apple Intelligence Foundation Language Models"): keys and values that are
//! rounded to eight bits, and last layers that look at those of the last layer before them.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::Array;
use crate::nn::{
    Activation, Decoder, DecoderNames, Embedding, Mlp, Norm, QkNorm, Residual, SharedAttention,
    Step, StepRows,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["afm7"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&[
            ("hidden_size", "hidden_dim"),
            ("num_hidden_layers", "num_layers"),
            ("num_attention_heads", "num_heads"),
            ("num_key_value_heads", "num_kv_heads"),
        ])
        .with_defaults([("tie_word_embeddings", json!(true))]);
    let rope = RopeDefaults { base: Some(50_000.0), traditional: true, share: None };
    let mut decoder = file.decoder(&rope)?;
    let field = "num_kv_reuse_layers";
    let reused: usize = file.require(field)?;
    let own = file.layers()?.saturating_sub(reused);
    if own == 0 {
        return Err(file.error(format!("\"{field}\" leaves no layer with keys and values")));
    }
    decoder.names =
        DecoderNames { embedding: "embedding", norm: "output_norm", ..DecoderNames::default() };
    decoder.later_layers = Some((own, "kv_reuse_layers"));
    decoder.attention.qkv = &["qkv_proj"];
    decoder.attention.output = "out_proj";
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, 1e-5).after_rotation());
    decoder.attention.kv_steps = Some(["quant_key_scale", "quant_value_scale"]);
    let dims = decoder.attention.dims;
    let factor: f64 = file.optional("hidden_dim_scale_factor")?.unwrap_or(3.25);
    let hidden = (f64::from(dims) * factor) as i64;
    let hidden = file.bounded("hidden_dim_scale_factor", hidden, 1 << 24)?;
    let decoder = decoder.build_hybrid(
        w,
        |index, w| {
            if index < own {
                return decoder.attention(index, w);
            }
            let layer = decoder.layers[index].clone();
            Ok(Box::new(SharedAttention::new(&w.at("self_attn"), decoder.attention, layer)?))
        },
        |_, w| Ok(Box::new(Mlp::new(&w.at("mlp"), dims, hidden, false, Activation::Silu)?)),
    )?;
    Ok(Box::new(SharingDecoder { decoder, own }))
}

/// A decoder whose last layers have the cache of the last one of its `own`.
struct SharingDecoder {
    decoder: Decoder,
    own: usize,
}

impl LanguageModel for SharingDecoder {
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let mut stream = Residual::from(self.decoder.embed(step.tokens())?);
        let mut rows = StepRows::new(step, caches)?;
        for (index, layer) in self.decoder.layers.iter().enumerate() {
            stream = layer.forward(&stream, &mut rows.layer(index.min(self.own - 1))?)?;
        }
        self.decoder.logits(step, &stream)
    }

    fn make_caches(&self) -> Vec<Cache> {
        let own = &self.decoder.layers[..self.own];
        own.iter().map(|layer| layer.mixer.make_cache()).collect()
    }

    fn layers(&self) -> usize {
        self.decoder.layers.len()
    }

    fn embedding(&self) -> &Embedding {
        &self.decoder.embedding
    }
}
