//! Ministral 3 (Mistral AI 2025): Mistral with queries that grow with their position. Of
//! checkpoints that also see images, see Llama.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::QueryTemperature;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["ministral3"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let rotation = file.without_rope_parameter("llama_4_scaling_beta");
    let mut decoder = rotation.decoder(&RopeDefaults::base(10_000.0))?;
    file.set_windows(&mut decoder, true)?;
    let temperature = Some(temperature(file)?);
    decoder.layers.iter_mut().for_each(|layer| layer.temperature = temperature);
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}

/// How queries grow: what `rope_parameters`, or `rope_scaling`, say beside the rotation.
pub(super) fn temperature(file: &ConfigFile) -> Result<QueryTemperature> {
    let said = |field: &str| -> Result<f32> {
        let missing = || file.error(format!("\"rope_parameters\" have no \"{field}\""));
        file.rope_field(field)?.ok_or_else(missing)
    };
    Ok(QueryTemperature {
        scale: said("llama_4_scaling_beta")?,
        floor: said("original_max_position_embeddings")?,
        first: 0,
    })
}
