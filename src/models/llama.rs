//! Llama (Touvron et al. 2023), and Mistral, which has the same layers. Of checkpoints that also
//! see images, the language model.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(
    &[
        "llama",
        "mistral",
        "ministral",
        "iquestcoder",
        "xverse",
        "telechat3",
        "mistral3",
        "llava",
        "pixtral",
    ],
    build,
)
.with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let model_type = file.model_type()?;
    let is_mistral = ["mistral", "ministral"].contains(&model_type.as_str());
    let file = &if file.is_part() { with_defaults(file, is_mistral) } else { file.clone() };
    let file = &match model_type.as_str() {
        "iquestcoder" => file.with_default_eps(1e-5),
        _ if is_mistral => file.with_defaults([("sliding_window", json!(4096))]),
        _ => file.clone(),
    };
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    file.set_windows(&mut decoder, is_mistral)?;
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}

/// What checkpoints of several parts leave out: all that is as in the first 7B models.
fn with_defaults(file: &ConfigFile, is_mistral: bool) -> ConfigFile {
    let hidden = if is_mistral { 14_336 } else { 11_008 };
    file.with_defaults([
        ("hidden_size", json!(4096)),
        ("intermediate_size", json!(hidden)),
        ("num_hidden_layers", json!(32)),
        ("num_attention_heads", json!(32)),
        ("vocab_size", json!(32_000)),
    ])
}
