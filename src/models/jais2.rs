//! Jais 2 (Inception 2025): Llama with layer norms, biases and a plain MLP.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, plain_mlp};
use crate::error::Result;
use crate::nn::Norm;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["jais2"], build).with_eps(1e-5);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([("mlp_bias", json!(true))]);
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.norm = Norm::layer;
    Ok(Box::new(decoder.build(w, plain_mlp(file, decoder.attention.dims)?)?))
}
