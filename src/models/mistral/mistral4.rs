//! Mistral Small 4 (Mistral AI 2026): DeepSeek's latent attention with queries that grow with their
//! position, and experts chosen by a soft-max.

use serde_json::json;

use super::ministral3::temperature;
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Routing, Score};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["mistral4"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([("q_lora_rank", json!(1024))]);
    let rotation = file.without_rope_parameter("llama_4_scaling_beta");
    // The share of a head that is rotated is what the fields of latent attention say.
    let rotation = rotation.without_rope_parameter("partial_rotary_factor");
    let mut decoder = rotation.latent_decoder(10_000.0, true)?;
    decoder.temperature = Some(temperature(file)?);
    let mut layers = file.sparse_layers(decoder.attention.dims)?;
    layers.names.correction = &[];
    if let Some(config) = &mut layers.experts {
        config.routing = Routing::ScoresThenTop {
            score: Score::Softmax,
            groups: file.expert_groups(config.experts, 2)?,
            normalize: file.flag_on("norm_topk_prob")?,
            scale: file.optional("routed_scaling_factor")?.unwrap_or(1.0),
        };
    }
    Ok(Box::new(decoder.build(w, |index, w| layers.build(index, w))?))
}
