//! Alibaba's Qwen.

mod qwen;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_5;
mod qwen3_moe;
mod qwen3_next;

use super::Architecture;
pub(super) use qwen3_moe::{experts, sparse_layers};

pub(super) const ARCHITECTURES: &[Architecture] =
    architectures![qwen, qwen2, qwen2_moe, qwen3, qwen3_5, qwen3_moe, qwen3_next];

/// The base of the rotation, where the configuration of a model of this type does not say.
fn base(model_type: &str) -> f32 {
    match model_type {
        it if it.starts_with("qwen3_vl") => 500_000.0,
        it if it.starts_with("qwen2_vl") || it.starts_with("qwen2_5_vl") => 1_000_000.0,
        _ => 10_000.0,
    }
}
