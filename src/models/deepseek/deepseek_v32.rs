//! DeepSeek V3.2 (DeepSeek-AI 2025): DeepSeek V3 that looks at the positions which an indexer
//! chooses.

use serde_json::json;

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel, is_prediction_layer};
use crate::nn::PredictionConfig;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["deepseek_v32"], build).with_eps(1e-6).ignoring(is_prediction_layer);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([
        ("q_lora_rank", json!(1536)),
        ("index_n_heads", json!(64)),
        ("routed_scaling_factor", json!(2.5)),
    ]);
    let mut latent = file.sparse_latent_decoder(10_000.0, false, vec![true; file.layers()?])?;
    latent.decoder.prediction = Some(PredictionConfig::next_layer(file.layers()?));
    let layers = file.sparse_layers(latent.attention.dims)?;
    Ok(Box::new(latent.build(w, |index, w| layers.build(index, w))?))
}
