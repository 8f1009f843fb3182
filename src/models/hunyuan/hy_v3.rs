//! Hy 3 (Tencent 2026): Llama with norms over each query and key head, and experts as DeepSeek V3's
//! in all layers but the first.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, is_prediction_layer};
use crate::nn::{Norm, PredictionConfig, PredictionNames, QkNorm, Routing};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["hy_v3"], build).with_eps(1e-5).ignoring(is_prediction_layer);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([("first_k_dense_replace", json!(1))]);
    let mut decoder = file.decoder(&RopeDefaults::base(11_158_840.0))?;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    let names = PredictionNames::FINAL_NORM;
    decoder.prediction =
        Some(PredictionConfig { names, ..PredictionConfig::next_layer(file.layers()?) });
    let mut layers = file.sparse_layers(decoder.attention.dims)?;
    layers.bias = file.flag("mlp_bias")?;
    layers.names.router = "router.gate";
    layers.names.correction = &["expert_bias"];
    layers.shared_name = "shared_mlp";
    if let Some(config) = &mut layers.experts
        && let Routing::ScoresThenTop { scale, .. } = &mut config.routing
    {
        *scale = file.optional("router_scaling_factor")?.unwrap_or(2.826);
    }
    Ok(Box::new(decoder.build(w, |index, w| layers.build(index, w))?))
}
