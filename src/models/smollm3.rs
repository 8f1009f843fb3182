//! SmolLM 3 (Hugging Face 2025): Llama of which some layers do not look at positions.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "smollm3",
    model_types: &["smollm3"],
    build,
    ignores: super::rotary_or_tied_head,
};

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    for (layer, rotated) in decoder.layers.iter_mut().zip(file.rotated_layers()?) {
        layer.rope = layer.rope.take().filter(|_| rotated);
    }
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
