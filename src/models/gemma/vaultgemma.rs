//! VaultGemma (Google 2025): Gemma 2 without norms behind the blocks.

use super::gemma2;
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::NormLayout;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["vaultgemma"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let layout = NormLayout::pre(["input_layernorm", "pre_feedforward_layernorm"]);
    gemma2::build_with(file, w, layout)
}
