//! LFM2 with experts (Liquid AI 2025).

use serde_json::json;

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel, lfm2};
use crate::nn::{ExpertNames, Moe, MoeConfig, Routing, Score};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["lfm2_moe"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([("conv_L_cache", json!(3)), ("num_dense_layers", json!(2))]);
    let dims = file.size("hidden_size")?;
    let experts = file.size("num_experts")?;
    let config = MoeConfig {
        dims,
        hidden: file.size("moe_intermediate_size")?,
        experts,
        active: file.active_experts(experts, Some(4))?,
        activation: file.activation()?,
        routing: Routing::ScoresThenTop {
            score: Score::Sigmoid,
            groups: None,
            normalize: file.flag_on("norm_topk_prob")?,
            scale: file.optional("routed_scaling_factor")?.unwrap_or(1.0),
        },
    };
    let corrected = file.flag_on("use_expert_bias")?;
    let correction: &[&str] = if corrected { &["expert_bias"] } else { &[] };
    let single = ["w1", "w3", "w2"];
    let (dense, hidden) = (file.size("num_dense_layers")?, file.size("intermediate_size")?);
    lfm2::build_hybrid(file, w, |index, w| {
        if index < dense.unsigned_abs() as usize {
            return Ok(Box::new(lfm2::mlp(w, dims, hidden)?));
        }
        let mut names = ExpertNames { correction, ..ExpertNames::default() };
        if w.at("experts.0.w1").has("weight") {
            names.single = single;
        }
        Ok(Box::new(Moe::new(w, config, names)?))
    })
}
