//! Qwen (Bai et al. 2023): Llama by other names, with biases on queries, keys and values.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, DecoderNames, Mlp, NormLayout};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["qwen"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&[("rope_theta", "rotary_emb_base")])
        .with_defaults([("tie_word_embeddings", json!(false))]);
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.layout = NormLayout::pre(["ln_1", "ln_2"]);
    decoder.names = DecoderNames::GPT2;
    let bias = !file.flag_on("no_bias")?;
    decoder.attention.qkv = &["c_attn"];
    decoder.attention.qkv_bias = true;
    decoder.attention.output = "c_proj";
    decoder.attention.output_bias = bias;
    // Both halves of what the two projections give together.
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")? / 2);
    Ok(Box::new(decoder.build(w, |_, w| {
        let (w, names) = (w.at("mlp"), ["w2", "w1", "c_proj"]);
        Ok(Box::new(Mlp::named(&w, names, dims, hidden, bias, Activation::Silu)?))
    })?))
}
