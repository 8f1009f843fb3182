//! Command R (Cohere 2024): parallel blocks after one layer norm, neighbouring features rotated,
//! logits scaled, and in the larger model a norm of its own for each query and key head.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::{Norm, NormLayout, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["cohere"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let rope = RopeDefaults { base: Some(500_000.0), traditional: true, share: None };
    let mut decoder = file.decoder(&rope)?;
    decoder.norm = Norm::layer;
    decoder.layout = NormLayout::PARALLEL;
    decoder.tied = Some(true);
    decoder.logit_scale = Some(file.optional("logit_scale")?.unwrap_or(0.0625));
    if file.flag("use_qk_norm")? {
        decoder.attention.qk_norm =
            Some(QkNorm::each_head_apart(Norm::layer_per_head, decoder.eps));
    }
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
