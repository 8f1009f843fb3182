//! OLMoE (Muennighoff et al. 2024): Llama with experts in every layer, and norms over all queries
//! and all keys.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{ExpertNames, Moe, MoeConfig, Norm, QkNorm, Routing};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["olmoe"], build);

/// The experts of every layer.
pub(super) fn experts(file: &ConfigFile, dims: i32) -> Result<MoeConfig> {
    let experts = file.size("num_experts")?;
    Ok(MoeConfig {
        dims,
        hidden: file.size("intermediate_size")?,
        experts,
        active: file.active_experts(experts, None)?,
        activation: file.activation()?,
        routing: Routing::softmax(file.flag("norm_topk_prob")?),
    })
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.attention.qk_norm = Some(QkNorm::all_heads(Norm::rms, decoder.eps));
    decoder.attention.clip_qkv = file.optional("clip_qkv")?;
    let config = experts(file, decoder.attention.dims)?;
    Ok(Box::new(
        decoder.build(w, |_, w| {
            Ok(Box::new(Moe::new(&w.at("mlp"), config, ExpertNames::default())?))
        })?,
    ))
}
