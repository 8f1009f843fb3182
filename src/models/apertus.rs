//! Apertus (Swiss AI 2025): norms over each query and key head, and a plain MLP whose activation is
//! trained, unless the configuration says otherwise.

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, plain_mlp};
use crate::nn::{Norm, NormLayout, QkNorm, XieluMlp};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["apertus"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(12_000_000.0))?;
    decoder.layout = NormLayout::pre(["attention_layernorm", "feedforward_layernorm"]);
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    let bias = file.flag("mlp_bias")?;
    let is_trained = match file.optional::<String>("hidden_act")? {
        Some(name) => name == "xielu",
        None => true,
    };
    if !is_trained {
        return Ok(Box::new(decoder.build(w, plain_mlp(file, dims)?)?));
    }
    Ok(Box::new(
        decoder.build(w, |_, w| Ok(Box::new(XieluMlp::new(&w.at("mlp"), dims, hidden, bias)?)))?,
    ))
}
