//! GPT-NeoX as ABEJA trained it on Japanese: no bias but one behind the attention of the last
//! layer, and blocks that follow each other.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, Attention, DecoderNames, FusedOrder, Norm, PlainMlp};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["gpt_neox_japanese"], build)
    .ignoring(|_, tensor| {
        tensor.ends_with(".attention.bias") || tensor.ends_with(".attention.masked_bias")
    });

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&[("rope_theta", "rotary_emb_base"), ("partial_rotary_factor", "rotary_pct")])
        .with_defaults([("tie_word_embeddings", json!(true))]);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: false, share: Some(1.0) };
    let mut decoder = file.decoder(&rope)?;
    decoder.norm = Norm::layer;
    decoder.names = DecoderNames {
        model: "gpt_neox_japanese",
        embedding: "embed_in",
        attention: "attention",
        norm: "final_layer_norm",
        head: "embed_out",
        ..DecoderNames::default()
    };
    decoder.attention.qkv = &["query_key_value"];
    decoder.attention.fused_order = FusedOrder::ByKeyHead;
    decoder.attention.output = "dense";
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::Gelu);
    let (dims, layers) = (decoder.attention.dims, decoder.layers.len());
    let field = "intermediate_multiple_size";
    let hidden = dims * file.bounded(field, file.optional(field)?.unwrap_or(4), 64)?;
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| {
            let w = w.at("attention");
            let mut parts = decoder.attention.parts(&w, decoder.layers[index].clone())?;
            if index + 1 == layers {
                parts.output = parts.output.with_bias(w.take("dense_bias", &[dims])?);
            }
            Ok(Box::new(Attention::new(&w, parts)))
        },
        |_, w| {
            let names = ["dense_h_to_4h", "dense_4h_to_h"];
            Ok(Box::new(PlainMlp::new(&w.at("mlp"), names, dims, hidden, false, activation)?))
        },
    )?))
}
