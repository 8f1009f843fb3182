//! Persimmon (Adept 2023): layer norms, also over each query and key head, a plain MLP, and a
//! rotation of the first part of each head.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, FusedOrder, Norm, PlainMlp, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["persimmon"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([("tie_word_embeddings", json!(false))]);
    let share = Some(0.5);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: false, share };
    let mut decoder = file.decoder(&rope)?;
    decoder.norm = Norm::layer;
    decoder.names.norm = "final_layernorm";
    decoder.attention.qkv = &["query_key_value"];
    decoder.attention.fused_order = FusedOrder::ByKeyHead;
    decoder.attention.qkv_bias = true;
    decoder.attention.output = "dense";
    decoder.attention.output_bias = true;
    if file.flag_on("qk_layernorm")? {
        let norm = QkNorm::each_head(Norm::layer, decoder.eps);
        decoder.attention.qk_norm = Some(norm.named(["q_layernorm", "k_layernorm"]));
    }
    let names = ["dense_h_to_4h", "dense_4h_to_h"];
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::ReluSquared);
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(&w.at("mlp"), names, dims, hidden, true, activation)?))
    })?))
}
