//! GPT-J (Wang and Komatsuzaki 2021): parallel blocks after one layer norm, and neighbouring
//! features of the first part of each head rotated.

use serde_json::json;

use super::FIELDS;
use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, DecoderNames, Norm, NormLayout, PlainMlp};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["gptj"], build)
    .ignoring(|_, tensor| tensor.ends_with(".attn.bias") || tensor.ends_with(".attn.masked_bias"));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&FIELDS)
        .with_defaults([("rotary_dim", json!(64)), ("tie_word_embeddings", json!(false))]);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: true, share: Some(1.0) };
    let mut decoder = file.decoder(&rope)?;
    decoder.norm = Norm::layer;
    decoder.layout = NormLayout::parallel("ln_1");
    // Those that were converted have another name for most of it.
    let converted = w.at("model.wte").has("weight");
    decoder.names = DecoderNames {
        model: if converted { "model" } else { "transformer" },
        ..DecoderNames::GPT2
    };
    decoder.attention.output = "out_proj";
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::GeluTanh);
    let dims = decoder.attention.dims;
    let (hidden, names) = (file.size_or("intermediate_size", 4 * dims)?, ["fc_in", "fc_out"]);
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(&w.at("mlp"), names, dims, hidden, true, activation)?))
    })?))
}
