//! Alibaba's Qwen.

mod qwen;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_5;
mod qwen3_moe;
mod qwen3_next;

use super::Architecture;
use super::config::ConfigFile;
use crate::error::Result;
pub(super) use qwen3_moe::{experts, sparse_layers};

pub(super) const ARCHITECTURES: &[Architecture] =
    architectures![qwen, qwen2, qwen2_moe, qwen3, qwen3_5, qwen3_moe, qwen3_next];

/// The base of Qwen 3's rotation, where its configuration does not say.
fn base(file: &ConfigFile) -> Result<f32> {
    Ok(if file.model_type()?.starts_with("qwen3_vl") { 500_000.0 } else { 10_000.0 })
}
