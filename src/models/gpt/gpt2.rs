//! GPT-2 (Radford et al. 2019): layer norms, embeddings of positions, biases everywhere, a plain
//! MLP, and matrices that are published with their inputs before their outputs.

use serde_json::json;

use super::FIELDS;
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    Activation, DecoderNames, Linear, Norm, NormLayout, PlainMlp, PositionTable, StandardDecoder,
    TakeLinear,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["gpt2"], build)
    .ignoring(|_, tensor| tensor.ends_with(".attn.bias") || tensor.ends_with(".attn.masked_bias"));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.renamed(&FIELDS).with_defaults([("tie_word_embeddings", json!(true))]);
    for (field, expected) in
        [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false)]
    {
        if file.optional(field)?.unwrap_or(expected) != expected {
            return Err(file.error(format!("\"{field}\" is {}, which is not supported", !expected)));
        }
    }
    let mut decoder = file.unrotated_decoder()?;
    decoder.names = DecoderNames::GPT2;
    decoder.layout = NormLayout::pre(["ln_1", "ln_2"]);
    let positions = file.size_or("max_position_embeddings", 1024)?;
    decoder.positions = Some(PositionTable { name: "wpe", positions, first: 0 });
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::GeluTanh);
    build_with(file, w, decoder, activation)
}

/// The model that a decoder describes all but the attention and the MLP of.
pub(super) fn build_with(
    file: &ConfigFile,
    w: &Weights,
    mut decoder: StandardDecoder,
    activation: Activation,
) -> Result<Box<dyn LanguageModel>> {
    decoder.norm = Norm::layer;
    // The first checkpoints have no name for the whole, and those that were converted another.
    let (names, embedding) = (["", "transformer", "model"], decoder.names.embedding);
    let model = names.into_iter().find(|name| root(w, name).at(embedding).has("weight"));
    let model = model.unwrap_or("transformer");
    decoder.names = DecoderNames { model, embedding, ..DecoderNames::GPT2 };
    let dims = decoder.attention.dims;
    let first = root(w, decoder.names.model).at("h.0.attn.c_attn");
    let published = first.shape("weight") == Some(&[dims, 3 * dims]);
    let linear: TakeLinear = if published { Linear::transposed } else { Linear::new };
    decoder.attention.linear = linear;
    decoder.attention.qkv = &["c_attn"];
    decoder.attention.qkv_bias = true;
    decoder.attention.output = "c_proj";
    decoder.attention.output_bias = true;
    let hidden = file.size_or("intermediate_size", 4 * dims)?;
    Ok(Box::new(decoder.build(w, |_, w| {
        let w = w.at("mlp");
        let input = linear(&w.at("c_fc"), dims, hidden, true)?;
        let output = linear(&w.at("c_proj"), hidden, dims, true)?;
        Ok(Box::new(PlainMlp::of(input, output, activation)))
    })?))
}

fn root<'a>(w: &Weights<'a>, model: &str) -> Weights<'a> {
    if model.is_empty() { w.clone() } else { w.at(model) }
}
