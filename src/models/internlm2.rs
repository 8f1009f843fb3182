//! InternLM 2 (Cai et al. 2024): Llama by other names, with the projections of each key head beside
//! each other.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, DecoderNames, FusedOrder, Mlp, NormLayout};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["internlm2"], build)
    .ignoring(|_, tensor| tensor.ends_with("attention.rope.inv_freq"));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.layout = NormLayout::pre(["attention_norm", "ffn_norm"]);
    decoder.names = DecoderNames {
        embedding: "tok_embeddings",
        attention: "attention",
        head: "output",
        ..DecoderNames::default()
    };
    decoder.attention.qkv = &["wqkv"];
    decoder.attention.fused_order = FusedOrder::ByKeyHead;
    decoder.attention.output = "wo";
    let bias = file.flag_on("bias")?;
    decoder.attention.qkv_bias = bias;
    decoder.attention.output_bias = bias;
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    Ok(Box::new(decoder.build(w, |_, w| {
        let (w, names) = (w.at("feed_forward"), ["w1", "w3", "w2"]);
        Ok(Box::new(Mlp::named(&w, names, dims, hidden, false, Activation::Silu)?))
    })?))
}
