//! ModernBERT as a decoder (Weller et al. 2025, "Ettin"): a norm behind the embeddings and none in
//! front of the first layer's attention, gated MLPs, and BERT's head.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{
    Activation, AttentionSpan, DecoderNames, HeadTransform, Linear, Mlp, Norm, NormLayout,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["modernbert-decoder"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([("tie_word_embeddings", json!(true))]);
    // The rotations differ between kinds of layers.
    let plain = file.without("rope_parameters").without_rope_scaling();
    let mut decoder = plain.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.norm = Norm::layer;
    decoder.names = DecoderNames {
        embedding: "embeddings.tok_embeddings",
        attention: "attn",
        norm: "final_norm",
        head: "decoder",
        ..DecoderNames::default()
    };
    decoder.embedding_norm = Some("embeddings.norm");
    decoder.layout = NormLayout::pre(["attn_norm", "mlp_norm"]);
    decoder.layouts = vec![decoder.layout; decoder.layers.len()];
    // The embeddings have just been normalized.
    decoder.layouts[0].mixer = [None; 2];
    // The field counts positions on both sides, as in the encoder.
    let window = file.size_or("local_attention", 128)? / 2;
    if window == 0 {
        return Err(file.error("\"local_attention\" is 1, and a token sees itself at least"));
    }
    let spans = [AttentionSpan::Full, AttentionSpan::SlidingWindow(window)];
    decoder.layers = file.modernbert_layers(decoder.attention.head_dim, spans)?;
    decoder.attention.output = "Wo";
    let activation = file.optional("hidden_activation")?.unwrap_or(Activation::Gelu);
    let (hidden, bias) = (file.size("intermediate_size")?, file.flag("mlp_bias")?);
    let (dims, eps) = (decoder.attention.dims, decoder.eps);
    let mut decoder = decoder.build(w, |_, w| {
        let names = ["Wi", "Wo"];
        Ok(Box::new(Mlp::fused(&w.at("mlp"), names, dims, hidden, bias, activation)?))
    })?;
    let (w, bias) = (w.at("lm_head"), file.flag("classifier_bias")?);
    decoder.before_head = Some(HeadTransform {
        dense: Linear::new(&w.at("dense"), dims, dims, bias)?,
        activation: file.optional("classifier_activation")?.unwrap_or(Activation::Gelu),
        norm: Norm::layer(&w.at("norm"), dims, eps)?,
    });
    Ok(Box::new(decoder))
}
