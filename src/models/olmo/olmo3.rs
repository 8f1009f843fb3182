//! OLMo 3 (Ai2 2025): OLMo 2 of which most layers see a window, and extend their rotation by
//! nothing.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::{Norm, NormLayout, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["olmo3"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let rope = RopeDefaults::base(500_000.0);
    let global = file.rope_parameters_of("full_attention");
    let mut decoder = global.as_ref().unwrap_or(file).decoder(&rope)?;
    decoder.layout = NormLayout::POST;
    decoder.attention.qk_norm = Some(QkNorm::all_heads(Norm::rms, decoder.eps));
    let local = file.rope_parameters_of("sliding_attention");
    let local = local.unwrap_or_else(|| file.without_rope_scaling());
    let local = local.rope(decoder.attention.head_dim, rope.base, false)?;
    for (layer, window) in decoder.layers.iter_mut().zip(file.windows(4096, 4)?) {
        layer.span = window.into();
        layer.rope = if window.is_some() { Some(local.clone()) } else { layer.rope.take() };
    }
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
