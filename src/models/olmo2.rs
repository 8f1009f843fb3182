//! OLMo 2 (Walsh et al. 2025): norms after the blocks, and over all queries and all keys.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::{NormLayout, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "olmo2",
    model_types: &["olmo2"],
    build,
    ignores: super::rotary_frequencies,
};

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.layout = NormLayout::Post;
    decoder.attention.qk_norm = QkNorm::Whole(decoder.eps);
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
