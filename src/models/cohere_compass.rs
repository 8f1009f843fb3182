//! Compass (Cohere 2026): Command R7B's parallel blocks, with the halves of heads rotated and a
//! rotation, or none, for each kind of layers. Of checkpoints that also see, the language model.

use serde_json::{Value, json};

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::{Norm, NormLayout, Rope};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["cohere_compass"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    // Heads are always parts of the features, and windows are those that each layer names.
    let file = &file
        .without("head_dim")
        .without("sliding_window_pattern")
        .with_defaults([("tie_word_embeddings", json!(true))]);
    let mut decoder = file.without("rope_parameters").decoder(&RopeDefaults::base(10_000.0))?;
    decoder.norm = Norm::layer;
    decoder.layout = NormLayout::PARALLEL;
    decoder.logit_scale = file.optional("logit_scale")?;
    let head_dim = decoder.attention.head_dim;
    for (layer, window) in decoder.layers.iter_mut().zip(file.windows(4096, 1)?) {
        layer.span = window.into();
        let kind = if window.is_some() { "sliding_attention" } else { "full_attention" };
        layer.rope = rope(file, kind, head_dim)?;
    }
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}

/// The rotation of a kind of layers; `None` where its parameters are null.
fn rope(file: &ConfigFile, kind: &str, head_dim: i32) -> Result<Option<Rope>> {
    let own = file.rope_parameters_of(kind);
    if let Some(own) = &own
        && own.optional::<Value>("rope_parameters")?.is_none()
    {
        return Ok(None);
    }
    own.as_ref().unwrap_or(file).rope(head_dim, Some(10_000.0), false).map(Some)
}
