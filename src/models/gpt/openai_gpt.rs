//! The first GPT (Radford et al. 2018): as GPT-2, with the norms behind the sums of the residual
//! stream and what the blocks give, and none behind the last layer.

use serde_json::json;

use super::gpt2;
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, NormLayout, PositionTable};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["openai-gpt"], build).ignoring(|_, tensor| tensor.ends_with(".attn.bias"));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.renamed(&FIELDS).with_defaults([("tie_word_embeddings", json!(true))]);
    let mut decoder = file.unrotated_decoder()?;
    decoder.layout = NormLayout::after_sums(["ln_1", "ln_2"]);
    decoder.last_norm = false;
    decoder.names.embedding = "tokens_embed";
    let positions = file.size_or("max_position_embeddings", 512)?;
    decoder.positions = Some(PositionTable { name: "positions_embed", positions, first: 0 });
    let activation = match file.optional("hidden_act")? {
        // The name of its approximation here.
        None | Some(Activation::Gelu) => Activation::GeluTanh,
        Some(other) => other,
    };
    gpt2::build_with(file, w, decoder, activation)
}

/// Fields and what they are called here.
const FIELDS: [(&str, &str); 5] = [
    ("hidden_size", "n_embd"),
    ("num_hidden_layers", "n_layer"),
    ("num_attention_heads", "n_head"),
    ("max_position_embeddings", "n_positions"),
    ("hidden_act", "afn"),
];
