//! Code World Model (Meta 2025): Llama most of whose layers see a window.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["cwm"], build).with_eps(1e-5);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let rotation = json!({
        "rope_type": "llama3",
        "factor": 16.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let kinds: Vec<_> = (0..file.layers()?)
        .map(|layer| if layer.is_multiple_of(4) { "full_attention" } else { "sliding_attention" })
        .collect();
    let file =
        &file.with_defaults([("sliding_window", json!(8192)), ("layer_types", json!(kinds))]);
    let file = &match ["rope_scaling", "rope_parameters"].into_iter().any(|it| file.says(it)) {
        true => file.clone(),
        false => file.with([("rope_scaling", rotation)]),
    };
    let mut decoder = file.decoder(&RopeDefaults::base(1_000_000.0))?;
    file.set_windows(&mut decoder, false)?;
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
