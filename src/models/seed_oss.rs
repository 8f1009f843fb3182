//! Seed-OSS (ByteDance 2025): Llama whose biases are said for each kind of projection.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["seed_oss"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    // What it is by default differs between implementations, so that the tensors decide.
    let has_bias = w.at("model.layers.0.self_attn.q_proj").has("bias");
    let file = &file.with_defaults([("attention_bias", json!(has_bias))]);
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.attention.output_bias = file.flag("attention_out_bias")?;
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
