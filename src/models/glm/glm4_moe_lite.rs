//! GLM 4.7 Flash (Z.ai 2026): GLM 4.5's experts behind DeepSeek's latent attention.

use serde_json::json;

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::deepseek::deepseek_v3;
use crate::models::{Architecture, LanguageModel, is_prediction_layer};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["glm4_moe_lite"], build).ignoring(is_prediction_layer);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = file.with_defaults([
        ("q_lora_rank", json!(768)),
        ("first_k_dense_replace", json!(1)),
        ("routed_scaling_factor", json!(1.8)),
    ]);
    deepseek_v3::build(&file, w)
}
