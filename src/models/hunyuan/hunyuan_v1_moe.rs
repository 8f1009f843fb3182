//! Hunyuan A13B (Tencent 2025): Hunyuan Large whose chosen experts' weights sum up to 1.

use super::hunyuan::decoder;
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["hunyuan_v1_moe"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    Ok(Box::new(decoder(file, w, true)?))
}
