//! Youtu-LLM (Tencent 2025): Llama with DeepSeek's latent attention.

use serde_json::json;

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel, mlp};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["youtu_llm", "youtu"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([("q_lora_rank", json!(1536))]);
    let latent = file.latent_decoder(10_000.0, true)?;
    Ok(Box::new(latent.build(w, mlp(file, latent.attention.dims)?)?))
}
