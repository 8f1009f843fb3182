//! Nemotron and Minitron (NVIDIA 2024): layer norms stored less 1, a plain MLP, and a rotation of
//! the first part of each head.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, plain_mlp};
use crate::nn::Norm;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["nemotron"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let share = Some(0.5);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: false, share };
    let mut decoder = file.decoder(&rope)?;
    decoder.norm = Norm::layer_plus_one;
    Ok(Box::new(decoder.build(w, plain_mlp(file, decoder.attention.dims)?)?))
}
