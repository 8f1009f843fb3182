//! StarCoder (Li et al. 2023): GPT-2 whose query heads mostly share one head of keys and values.

use serde_json::json;

use super::FIELDS;
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, DecoderNames, FusedOrder, Norm, NormLayout, PlainMlp, PositionTable};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["gpt_bigcode"], build).ignoring(|_, tensor| tensor.ends_with(".attn.bias"));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&FIELDS)
        .with_defaults([("tie_word_embeddings", json!(true)), ("attention_bias", json!(true))]);
    let shared = file.flag_on("multi_query")?;
    let heads = file.size("num_attention_heads")?;
    let kv_heads = if shared { 1 } else { heads };
    let own = file.with([("num_key_value_heads", json!(kv_heads))]);
    let mut decoder = own.unrotated_decoder()?;
    decoder.norm = Norm::layer;
    decoder.layout = NormLayout::pre(["ln_1", "ln_2"]);
    decoder.names = DecoderNames::GPT2;
    let positions = file.size_or("max_position_embeddings", 1024)?;
    decoder.positions = Some(PositionTable { name: "wpe", positions, first: 0 });
    decoder.attention.qkv = &["c_attn"];
    if !shared {
        decoder.attention.fused_order = FusedOrder::ByKeyHead;
    }
    decoder.attention.output = "c_proj";
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::GeluTanh);
    let (dims, bias) = (decoder.attention.dims, file.flag_on("mlp_bias")?);
    let (hidden, names) = (file.size_or("intermediate_size", 4 * dims)?, ["c_fc", "c_proj"]);
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(&w.at("mlp"), names, dims, hidden, bias, activation)?))
    })?))
}
