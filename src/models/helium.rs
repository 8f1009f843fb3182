//! Helium (Kyutai 2025): Llama with neighbouring features rotated.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["helium"], build).with_eps(1e-8);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let rope = RopeDefaults { base: Some(100_000.0), traditional: true, share: None };
    let mut decoder = file.decoder(&rope)?;
    decoder.attention.output_bias = false;
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
