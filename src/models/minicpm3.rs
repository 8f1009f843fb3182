//! MiniCPM 3 (OpenBMB 2024): MiniCPM with DeepSeek's latent attention.

use serde_json::json;

use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::minicpm::set_factors;
use crate::models::{Architecture, LanguageModel, mlp};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["minicpm3"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let (hidden, heads) = (file.size("hidden_size")?, file.size("num_attention_heads")?);
    let file =
        &file.with_defaults([("q_lora_rank", json!(768)), ("v_head_dim", json!(hidden / heads))]);
    let mut latent = file.latent_decoder(10_000.0, false)?;
    set_factors(file, &mut latent.decoder)?;
    Ok(Box::new(latent.build(w, mlp(file, hidden)?)?))
}
