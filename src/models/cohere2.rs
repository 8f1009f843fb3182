//! Command R7B (Cohere 2024): parallel blocks after one layer norm; every few layers attend to all
//! positions without looking at them, the others within a window.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::{Norm, NormLayout};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["cohere2"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let rope = RopeDefaults { base: Some(10_000.0), traditional: true, share: None };
    let mut decoder = file.decoder(&rope)?;
    decoder.norm = Norm::layer;
    decoder.layout = NormLayout::PARALLEL;
    decoder.tied = Some(true);
    decoder.logit_scale = Some(file.optional("logit_scale")?.unwrap_or(0.0625));
    for (layer, window) in decoder.layers.iter_mut().zip(file.windows(4096, 4)?) {
        layer.span = window.into();
        layer.rope = layer.rope.take().filter(|_| window.is_some());
    }
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
