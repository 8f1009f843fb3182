//! Qwen 3 (Yang et al. 2025): Llama with a norm over each query and key head. Of
//! checkpoints that also see images, the language model.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::QkNorm;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "qwen3",
    model_types: &["qwen3", "qwen3_vl"],
    build: |file, w| build(&file.text_part_or_whole()?, &super::language_part(w)),
    ignores: super::vision,
};

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let rope = RopeDefaults { base: None, traditional: false, share: None };
    let mut decoder = file.decoder(&rope)?;
    decoder.attention.qk_norm = QkNorm::Head(decoder.eps);
    let first = file.max_window_layers()?;
    decoder.set_windows(file.windows_if_used(|layer| layer >= first)?);
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
