//! OLMo 3 (Ai2 2025): OLMo 2 of which most layers see a window, and extend their rotation by
//! nothing.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::{NormLayout, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "olmo3",
    model_types: &["olmo3"],
    build,
    ignores: super::rotary_frequencies,
};

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let rope = RopeDefaults::base(500_000.0);
    let global = file.rope_parameters_of("full_attention");
    let mut decoder = global.as_ref().unwrap_or(file).decoder(&rope)?;
    decoder.layout = NormLayout::Post;
    decoder.attention.qk_norm = QkNorm::Whole(decoder.eps);
    let local = file.rope_parameters_of("sliding_attention");
    let local = local.unwrap_or_else(|| file.without_rope_scaling());
    let local = local.rope(decoder.attention.head_dim, rope.base, false)?;
    for (layer, window) in decoder.layers.iter_mut().zip(file.windows(4096, 4)?) {
        layer.window = window;
        layer.rope = if window.is_some() { Some(local.clone()) } else { layer.rope.take() };
    }
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
