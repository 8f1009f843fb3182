//! DeepSeek V3 (DeepSeek-AI 2024): multi-head latent attention, and experts in all layers but the
//! first few.

use serde_json::json;

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel, is_prediction_layer};
use crate::nn::PredictionConfig;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&MODEL_TYPES, build).with_eps(1e-6).ignoring(is_prediction_layer);

const MODEL_TYPES: [&str; 6] =
    ["deepseek_v3", "kimi_k2", "joyai_llm_flash", "kimi_vl", "kimi_k25", "sarvam_mla"];

pub(in crate::models) fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([("routed_scaling_factor", json!(2.5))]);
    let mut latent = file.latent_decoder(10_000.0, true)?;
    latent.decoder.prediction = Some(PredictionConfig::next_layer(file.layers()?));
    let layers = file.sparse_layers(latent.attention.dims)?;
    Ok(Box::new(latent.build(w, |index, w| layers.build(index, w))?))
}
