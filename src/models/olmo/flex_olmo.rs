//! FlexOlmo (Shi et al. 2025): OLMo 2 with OLMoE's experts, each of which was trained by itself.

use super::olmoe::experts;
use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{ExpertNames, Moe, Norm, NormLayout, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["flex_olmo"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(500_000.0))?;
    decoder.layout = NormLayout::POST;
    decoder.attention.qk_norm = Some(QkNorm::all_heads(Norm::rms, decoder.eps));
    let config = experts(file, decoder.attention.dims)?;
    Ok(Box::new(
        decoder.build(w, |_, w| {
            Ok(Box::new(Moe::new(&w.at("mlp"), config, ExpertNames::default())?))
        })?,
    ))
}
