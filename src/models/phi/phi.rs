//! Phi 1, 1.5 and 2 (Gunasekar et al. 2023): parallel blocks after one layer norm, biases
//! everywhere, a plain MLP, and a rotation of the first part of each head.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, Norm, NormLayout, PlainMlp, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["phi"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let share = Some(0.5);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: false, share };
    let mut decoder = file.decoder(&rope)?;
    decoder.norm = Norm::layer;
    decoder.layout = NormLayout::PARALLEL;
    decoder.names.norm = "final_layernorm";
    decoder.attention.output = "dense";
    decoder.attention.qkv_bias = true;
    decoder.attention.output_bias = true;
    if file.flag("qk_layernorm")? {
        let norm = QkNorm::each_head(Norm::layer, decoder.eps);
        decoder.attention.qk_norm = Some(norm.named(["q_layernorm", "k_layernorm"]));
    }
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::GeluTanh);
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    Ok(Box::new(decoder.build(w, |_, w| {
        let (w, names) = (w.at("mlp"), ["fc1", "fc2"]);
        Ok(Box::new(PlainMlp::new(&w, names, dims, hidden, true, activation)?))
    })?))
}
