//! Ministral 3 (Mistral AI 2025): Mistral with queries that grow with their position. Of
//! checkpoints that also see images, see Llama.

use serde::Deserialize;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::QueryTemperature;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["ministral3"], build);

/// What `rope_parameters` say beside the rotation.
#[derive(Deserialize)]
struct Growth {
    llama_4_scaling_beta: f32,
    original_max_position_embeddings: f32,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let rotation = file.without_rope_parameter("llama_4_scaling_beta");
    let mut decoder = rotation.decoder(&RopeDefaults::base(10_000.0))?;
    file.set_windows(&mut decoder, true)?;
    let temperature = Some(temperature(file)?);
    decoder.layers.iter_mut().for_each(|layer| layer.temperature = temperature);
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}

/// How queries grow: what `rope_parameters` say beside the rotation.
pub(super) fn temperature(file: &ConfigFile) -> Result<QueryTemperature> {
    let growth: Growth = file.require("rope_parameters")?;
    Ok(QueryTemperature {
        scale: growth.llama_4_scaling_beta,
        floor: growth.original_max_position_embeddings,
        first: 0,
    })
}
