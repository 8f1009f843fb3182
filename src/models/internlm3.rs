//! InternLM 3 (Shanghai AI Laboratory 2025): Llama whose biases have names of their own.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["internlm3"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file
        .renamed(&[("attention_bias", "qkv_bias"), ("mlp_bias", "bias")])
        .with_defaults([("rms_norm_eps", json!(1e-5))])
        .with_head_dim_of(w)?;
    let decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
