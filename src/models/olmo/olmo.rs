//! OLMo (Groeneveld et al. 2024): Llama with layer norms that have no weights.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::Norm;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["olmo"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    decoder.norm = Norm::layer_unweighted;
    decoder.attention.clip_qkv = file.optional("clip_qkv")?;
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
