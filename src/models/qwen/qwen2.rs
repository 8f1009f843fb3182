//! Qwen 2 and 2.5 (Yang et al. 2024), and MiMo: Llama with biases on queries, keys and values.
//! Of checkpoints that also see images, the language model.

use serde_json::json;

use super::base;
use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::{PredictionConfig, PredictionNames, PredictionPlace};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["qwen2", "qwen2_vl", "qwen2_5_vl", "mimo"], build)
        .with_eps(1e-6)
        .ignoring(|_, tensor| tensor.starts_with("model.mtp_layers."));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let model_type = file.model_type()?;
    let is_mimo = model_type == "mimo";
    let sees = ["qwen2_vl", "qwen2_5_vl"].iter().any(|it| model_type.starts_with(it));
    let file = &match sees {
        true => file.with_default_eps(1e-5).with_defaults([("max_window_layers", json!(80))]),
        false => file.clone(),
    };
    let mut decoder = file.decoder(&RopeDefaults::base(base(&model_type)))?;
    decoder.attention.qkv_bias = true;
    let (place, names) = (PredictionPlace::BesideLayers("mtp_layers.0"), PredictionNames::MIMO);
    decoder.prediction = is_mimo.then_some(PredictionConfig { place, names, like: 0 });
    let first = file.max_window_layers()?;
    decoder.set_windows(file.windows_if_used(Some(4096), |layer| layer >= first)?);
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
