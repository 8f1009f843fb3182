//! OLMo 2 (Walsh et al. 2025): norms after the blocks, and over all queries and all keys.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::{Norm, NormLayout, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["olmo2"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.layout = NormLayout::POST;
    decoder.attention.qk_norm = Some(QkNorm::all_heads(Norm::rms, decoder.eps));
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
