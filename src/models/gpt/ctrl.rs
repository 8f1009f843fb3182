//! CTRL (Keskar et al. 2019): layer norms, biases everywhere, a plain MLP, and waves of positions
//! behind scaled embeddings.

use serde_json::json;

use super::FIELDS;
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, DecoderNames, Norm, NormLayout, PlainMlp, Positions};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["ctrl"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&FIELDS)
        .with_defaults([("tie_word_embeddings", json!(true)), ("attention_bias", json!(true))]);
    let mut decoder = file.unrotated_decoder()?;
    let dims = decoder.attention.dims;
    decoder.norm = norm;
    decoder.layout = NormLayout::pre(["layernorm1", "layernorm2"]);
    decoder.names = DecoderNames {
        embedding: "w",
        attention: "multi_head_attention",
        norm: "layernorm",
        ..DecoderNames::GPT2
    };
    decoder.embedding_scale = Some((dims as f32).sqrt());
    decoder.attention.qkv = &["Wq", "Wk", "Wv"];
    decoder.attention.output = "dense";
    let (hidden, names) = (file.size_or("dff", 8192)?, ["ffn.0", "ffn.2"]);
    let mut decoder = decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(w, names, dims, hidden, true, Activation::Relu)?))
    })?;
    decoder.positions = Some(Positions::waves_in_steps(dims, dims / 2, 0));
    Ok(Box::new(decoder))
}

/// Takes a norm: those of layers have an epsilon that no configuration changes.
fn norm(w: &Weights, dims: i32, eps: f32) -> Result<Norm> {
    let is_last = w.prefix().ends_with("transformer.layernorm");
    Norm::layer(w, dims, if is_last { eps } else { 1e-6 })
}
