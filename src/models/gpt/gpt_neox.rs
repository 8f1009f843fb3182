//! GPT-NeoX and Pythia (Black et al. 2022): layer norms, blocks that mostly stand beside each
//! other, biases everywhere, a plain MLP, and a rotation of the first part of each head.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, DecoderNames, FusedOrder, Norm, PlainMlp, Sums};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["gpt_neox"], build).ignoring(|_, tensor| {
        tensor.ends_with(".attention.bias") || tensor.ends_with(".attention.masked_bias")
    });

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&[("rope_theta", "rotary_emb_base"), ("partial_rotary_factor", "rotary_pct")])
        .with_defaults([("attention_bias", json!(true)), ("tie_word_embeddings", json!(false))]);
    let share = Some(0.25);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: false, share };
    let mut decoder = file.decoder(&rope)?;
    decoder.norm = Norm::layer;
    if file.flag_on("use_parallel_residual")? {
        decoder.layout.sums = Sums::Parallel;
    }
    // Those that were converted have another name for most of it.
    let converted = w.at("model.embed_in").has("weight");
    decoder.names = DecoderNames {
        model: if converted { "model" } else { "gpt_neox" },
        embedding: "embed_in",
        layers: if converted { "h" } else { "layers" },
        attention: "attention",
        norm: "final_layer_norm",
        head: if converted { "model.embed_out" } else { "embed_out" },
    };
    decoder.attention.qkv = &["query_key_value"];
    decoder.attention.fused_order = FusedOrder::ByKeyHead;
    decoder.attention.output = "dense";
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::Gelu);
    let dims = decoder.attention.dims;
    let (hidden, names) =
        (file.size_or("intermediate_size", 4 * dims)?, ["dense_h_to_4h", "dense_4h_to_h"]);
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(&w.at("mlp"), names, dims, hidden, true, activation)?))
    })?))
}
