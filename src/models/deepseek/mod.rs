//! DeepSeek's models.

mod deepseek;
mod deepseek_v2;
pub(super) mod deepseek_v3;
mod deepseek_v32;
mod deepseek_v41;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] =
    architectures![deepseek, deepseek_v2, deepseek_v3, deepseek_v32, deepseek_v41];
