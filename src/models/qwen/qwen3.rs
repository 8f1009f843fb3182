//! Qwen 3 (Yang et al. 2025): Llama with a norm over each query and key head. Of
//! checkpoints that also see images, the language model.

use super::base;
use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::{Norm, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["qwen3", "qwen3_vl"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let rope = RopeDefaults::base(base(&file.model_type()?));
    let mut decoder = file.decoder(&rope)?;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    let first = file.max_window_layers()?;
    decoder.set_windows(file.windows_if_used(Some(4096), |layer| layer >= first)?);
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
