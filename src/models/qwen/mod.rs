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
