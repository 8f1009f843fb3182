//! Lille (Nikity 2025): Llama by other names, with the norms in the blocks.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, DecoderNames, Mlp, NormLayout};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["lille-130m"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.renamed(&[
        ("hidden_size", "n_embd"),
        ("num_hidden_layers", "n_layer"),
        ("num_attention_heads", "n_head"),
        ("num_key_value_heads", "n_kv_heads"),
        ("max_position_embeddings", "block_size"),
    ]);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: true, share: None };
    let mut decoder = file.decoder(&rope)?;
    decoder.layout = NormLayout::pre(["attention.norm", "feed_forward.norm"]);
    decoder.names = DecoderNames {
        model: "transformer",
        embedding: "tok_embeddings",
        attention: "attention",
        ..DecoderNames::default()
    };
    decoder.tied = Some(true);
    decoder.attention.qkv = &["qkv_proj"];
    decoder.attention.output = "out_proj";
    let dims = decoder.attention.dims;
    // Eight thirds, to the nearest multiple of 256.
    let hidden = 256 * (f64::from(8 * dims / 3) / 256.0).round_ties_even() as i32;
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(Mlp::new(&w.at("feed_forward"), dims, hidden, false, Activation::Silu)?))
    })?))
}
