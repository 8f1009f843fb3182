//! Qwen 1.5 and 2 MoE (Yang et al. 2024): Qwen 2 with experts, one of which sees every token.

use super::qwen3_moe::{experts, sparse_layers};
use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::{ExpertNames, Moe};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["qwen2_moe"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.attention.qkv_bias = file.flag_on("qkv_bias")?;
    let end = file.max_window_layers()?;
    decoder.set_windows(
        file.windows_if_used(Some(4096), |layer| layer.is_multiple_of(2) && layer < end)?,
    );
    let dims = decoder.attention.dims;
    let shared = file.size("shared_expert_intermediate_size")?;
    let config = experts(file, dims)?;
    let (sparse, dense) = (sparse_layers(file)?, mlp(file, dims)?);
    Ok(Box::new(decoder.build(w, |index, layer| {
        if !sparse(index) {
            return dense(index, layer);
        }
        let w = layer.at("mlp");
        Ok(Box::new(Moe::new(&w, config, ExpertNames::default())?.with_shared_expert(&w, shared)?))
    })?))
}
