//! GPT-J (Wang and Komatsuzaki 2021): parallel blocks after one layer norm, and neighbouring
//! features of the first part of each head rotated.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, DecoderNames, Norm, NormLayout, PlainMlp};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["gptj"], build)
    .ignoring(|_, tensor| tensor.ends_with(".attn.bias") || tensor.ends_with(".attn.masked_bias"));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&[
            ("hidden_size", "n_embd"),
            ("num_hidden_layers", "n_layer"),
            ("num_attention_heads", "n_head"),
            ("max_position_embeddings", "n_positions"),
            ("intermediate_size", "n_inner"),
            ("hidden_act", "activation_function"),
        ])
        .with_defaults([("rotary_dim", json!(64)), ("tie_word_embeddings", json!(false))]);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: true, share: Some(1.0) };
    let mut decoder = file.decoder(&rope)?;
    decoder.norm = Norm::layer;
    decoder.layout = NormLayout::parallel("ln_1");
    // Those that were converted have another name for most of it.
    let converted = w.at("model.wte").has("weight");
    decoder.names = DecoderNames {
        model: if converted { "model" } else { "transformer" },
        embedding: "wte",
        layers: "h",
        attention: "attn",
        norm: "ln_f",
        head: "lm_head",
    };
    decoder.attention.output = "out_proj";
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::GeluTanh);
    let dims = decoder.attention.dims;
    let (hidden, names) = (file.size_or("intermediate_size", 4 * dims)?, ["fc_in", "fc_out"]);
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(&w.at("mlp"), names, dims, hidden, true, activation)?))
    })?))
}
