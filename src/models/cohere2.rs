//! Command R7B (Cohere 2024): parallel blocks after one layer norm; every few layers attend to all
//! positions without looking at them, the others within a window.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::{NormKind, NormLayout};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "cohere2",
    model_types: &["cohere2"],
    build,
    ignores: super::rotary_frequencies,
};

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let rope = RopeDefaults { base: Some(50_000.0), traditional: true, share: None };
    let mut decoder = file.decoder(&rope)?;
    decoder.norm = NormKind::Layer;
    decoder.layout = NormLayout::Parallel;
    decoder.tied = Some(true);
    decoder.logit_scale = Some(file.optional("logit_scale")?.unwrap_or(0.0625));
    for (layer, window) in decoder.layers.iter_mut().zip(file.windows(4096, 4)?) {
        layer.window = window;
        layer.rope = layer.rope.take().filter(|_| window.is_some());
    }
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
