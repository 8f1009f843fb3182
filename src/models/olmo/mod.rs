//! Ai2's OLMo.

mod flex_olmo;
mod olmo;
mod olmo2;
mod olmo3;
mod olmo_hybrid;
mod olmoe;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] =
    architectures![flex_olmo, olmo, olmo2, olmo3, olmo_hybrid, olmoe];
