//! AFM 4.5B (Arcee 2025): Llama with a plain MLP.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Activation, PlainMlp};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["arcee"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    let (bias, names) = (file.flag("mlp_bias")?, ["up_proj", "down_proj"]);
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::ReluSquared);
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(PlainMlp::new(&w.at("mlp"), names, dims, hidden, bias, activation)?))
    })?))
}
