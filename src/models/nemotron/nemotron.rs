//! Nemotron and Minitron (NVIDIA 2024): layer norms stored less 1, a plain MLP, and a rotation of
//! the first part of each head.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, Norm, PlainMlp};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["nemotron"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let share = Some(0.5);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: false, share };
    let mut decoder = file.decoder(&rope)?;
    decoder.norm = Norm::layer_plus_one;
    let (bias, names) = (file.flag("mlp_bias")?, ["up_proj", "down_proj"]);
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::ReluSquared);
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(&w.at("mlp"), names, dims, hidden, bias, activation)?))
    })?))
}
