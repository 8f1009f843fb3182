//! StarCoder 2 (Lozhkov et al. 2024): layer norms, a plain MLP and biases everywhere.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{Activation, Norm, PlainMlp};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["starcoder2"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    let bias = file.flag_on("use_bias")?;
    decoder.norm = Norm::layer;
    decoder.attention.qkv_bias = bias;
    decoder.attention.output_bias = bias;
    decoder.set_windows(vec![file.window_if_given()?; decoder.layers.len()]);
    let activation = file.optional("hidden_act")?.unwrap_or(Activation::GeluTanh);
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    Ok(Box::new(decoder.build(w, |_, w| {
        let names = ["c_fc", "c_proj"];
        Ok(Box::new(PlainMlp::new(&w.at("mlp"), names, dims, hidden, bias, activation)?))
    })?))
}
