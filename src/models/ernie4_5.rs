//! ERNIE 4.5 (Baidu 2025): Llama with neighbouring features rotated, and biases everywhere or
//! nowhere.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::Mlp;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["ernie4_5"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let rope = RopeDefaults { base: Some(500_000.0), traditional: true, share: None };
    let mut decoder = file.decoder(&rope)?;
    let bias = file.flag("use_bias")?;
    decoder.attention.qkv_bias = bias;
    decoder.attention.output_bias = bias;
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    let activation = file.activation()?;
    Ok(Box::new(
        decoder.build(w, |_, w| {
            Ok(Box::new(Mlp::new(&w.at("mlp"), dims, hidden, bias, activation)?))
        })?,
    ))
}
