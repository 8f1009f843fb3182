//! DeepSeek V2 (DeepSeek-AI 2024): multi-head latent attention, and experts that are chosen by a
//! soft-max, perhaps within the groups of the best ones.

use serde_json::json;

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Routing, Score};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["deepseek_v2"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([("q_lora_rank", json!(1536))]);
    let decoder = file.latent_decoder(10_000.0, true)?;
    let mut layers = file.sparse_layers(decoder.attention.dims)?;
    layers.names.correction = &[];
    if let Some(config) = &mut layers.experts {
        let method: Option<String> = file.optional("topk_method")?;
        let groups = match method.as_deref() {
            Some("group_limited_greedy") => file.expert_groups(config.experts, 1)?,
            _ => None,
        };
        let scale = file.optional("routed_scaling_factor")?.unwrap_or(1.0);
        let (score, normalize) = (Score::Softmax, false);
        config.routing = Routing::ScoresThenTop { score, groups, normalize, scale };
    }
    Ok(Box::new(decoder.build(w, |index, w| layers.build(index, w))?))
}
