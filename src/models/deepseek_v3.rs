//! DeepSeek V3 (DeepSeek-AI 2024): multi-head latent attention, and experts in all layers but the
//! first few.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::Mla;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["deepseek_v3", "kimi_k2", "joyai_llm_flash"], build)
        .ignoring(super::is_prediction_layer);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let decoder = file.decoder(&RopeDefaults::base(10_000.0))?;
    let attention = file.latent_attention(decoder.attention.dims)?;
    let interleaved = file.optional("rope_interleave")?.unwrap_or(true);
    let rope = file.rope(attention.qk_rope_head_dim, Some(10_000.0), interleaved)?;
    let layers = file.sparse_layers(attention.dims)?;
    Ok(Box::new(decoder.build_hybrid(
        w,
        |_, w| Ok(Box::new(Mla::new(&w.at("self_attn"), attention, rope.clone())?)),
        |index, w| layers.build(index, w),
    )?))
}
