//! SmolLM 3 (Hugging Face 2025): Llama of which some layers do not look at positions.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["smollm3"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(2_000_000.0))?;
    let rotated = file.rotated_layers()?;
    for (layer, &rotated) in decoder.layers.iter_mut().zip(&rotated) {
        layer.rope = layer.rope.take().filter(|_| rotated);
    }
    decoder.set_windows(file.windows_if_used(None, |layer| !rotated[layer])?);
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
