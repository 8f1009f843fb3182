//! BLOOM (BigScience 2022): scores by distance in place of rotations, layer norms, and biases
//! everywhere.

use serde_json::json;

use super::config::ConfigFile;
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{Activation, AlibiConfig, DecoderNames, FusedOrder, Norm, PlainMlp, Sums};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["bloom"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    // The first configurations have another name for it.
    let first = file.optional::<i64>("n_embed")?.is_some();
    let names: &[_] = if first { &NAMES } else { &NAMES[..2] };
    let file = &file.renamed(names).with_defaults([
        ("hidden_size", json!(64)),
        ("num_hidden_layers", json!(2)),
        ("num_attention_heads", json!(8)),
        ("vocab_size", json!(250_880)),
        ("attention_bias", json!(true)),
        ("tie_word_embeddings", json!(true)),
    ]);
    let mut decoder = file.unrotated_decoder()?;
    decoder.norm = Norm::layer;
    if file.flag("apply_residual_connection_post_layernorm")? {
        decoder.layout.sums = Sums::Norms;
    }
    decoder.embedding_norm = Some("word_embeddings_layernorm");
    // The first checkpoints have no name for the whole.
    let bare = w.at("word_embeddings").has("weight");
    decoder.names = DecoderNames {
        model: if bare { "" } else { "transformer" },
        embedding: "word_embeddings",
        layers: "h",
        attention: "self_attention",
        norm: "ln_f",
        head: "lm_head",
    };
    decoder.attention.alibi = Some(AlibiConfig::PLAIN);
    decoder.attention.qkv = &["query_key_value"];
    decoder.attention.fused_order = FusedOrder::ByKeyHead;
    decoder.attention.output = "dense";
    let dims = decoder.attention.dims;
    let (hidden, names) = (dims.saturating_mul(4), ["dense_h_to_4h", "dense_4h_to_h"]);
    Ok(Box::new(decoder.build(w, |_, w| {
        let w = w.at("mlp");
        Ok(Box::new(PlainMlp::new(&w, names, dims, hidden, true, Activation::GeluTanh)?))
    })?))
}

/// Fields and what they are called here; the last in the first configurations alone.
const NAMES: [(&str, &str); 3] = [
    ("num_hidden_layers", "n_layer"),
    ("num_attention_heads", "n_head"),
    ("hidden_size", "n_embed"),
];
