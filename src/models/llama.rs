//! Llama (Touvron et al. 2023), and Mistral, which has the same layers. Of checkpoints that also
//! see images, the language model.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, ministral3, mlp};
use crate::error::{Error, Result};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "llama",
    model_types: &["llama", "mistral", "iquestcoder", "xverse", "mistral3", "llava", "pixtral"],
    build: |file, w| {
        let mut text = file.text_part_or_whole()?;
        if file.model_type()? == "pixtral" {
            text = text.with_defaults([("num_attention_heads", json!(32))]);
        }
        let w = &super::language_part(w);
        match text.model_type()?.as_str() {
            "ministral3" => ministral3::build(&text, w),
            "mistral4" => Err(Error::UnknownArchitecture { model_type: "mistral4".to_owned() }),
            _ => build(&text, w),
        }
    },
    ignores: super::vision,
};

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let mut decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    file.set_windows(&mut decoder, file.model_type()? == "mistral")?;
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
