//! Z.ai's GLM.

mod glm4;
mod glm4_moe;
mod glm4_moe_lite;
mod glm_moe_dsa;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] =
    architectures![glm4, glm4_moe, glm4_moe_lite, glm_moe_dsa];
