//! DeepSeek's models.

mod deepseek;
mod deepseek_v2;
pub(super) mod deepseek_v3;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] =
    architectures![deepseek, deepseek_v2, deepseek_v3];
