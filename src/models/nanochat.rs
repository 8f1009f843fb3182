//! nanochat (Karpathy 2025): norms without weights everywhere, also behind the embedding and over
//! each query and key head, a rotation the other way round, a plain MLP, and bounded logits.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, DecoderNames, Norm, PlainMlp, QkNorm, Rope};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["nanochat"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    // Those that were converted have names of their own, and another epsilon.
    let converted = w.at("transformer.wte").has("weight");
    let file = &file.with_defaults([
        ("rms_norm_eps", json!(if converted { 1e-5 } else { 1e-6 })),
        ("tie_word_embeddings", json!(false)),
    ]);
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.norm = Norm::unweighted;
    decoder.embedding_norm = Some("norm");
    // The norms take back what a stretched rotation multiplies.
    let norm = QkNorm::each_head(Norm::unweighted, decoder.eps).after_rotation();
    decoder.attention.qk_norm = Some(norm);
    for layer in &mut decoder.layers {
        layer.rope = layer.rope.take().map(Rope::reversed);
    }
    decoder.logit_cap = file.unless_null("final_logit_softcapping", 15.0)?;
    let mut names = ["fc1", "fc2"];
    if converted {
        decoder.names = DecoderNames {
            model: "transformer",
            embedding: "wte",
            layers: "h",
            attention: "attn",
            ..DecoderNames::default()
        };
        decoder.attention.qkv = &["c_q", "c_k", "c_v"];
        decoder.attention.output = "c_proj";
        names = ["c_fc", "c_proj"];
    }
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::ReluSquared);
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(&w.at("mlp"), names, dims, hidden, false, activation)?))
    })?))
}
