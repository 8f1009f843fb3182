//! AFM 4.5B (Arcee 2025): Llama with a plain MLP.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, plain_mlp};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["arcee"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    Ok(Box::new(decoder.build(w, plain_mlp(file, decoder.attention.dims)?)?))
}
