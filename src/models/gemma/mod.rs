//! Google's Gemma.

mod gemma;
mod gemma2;
mod gemma3;
mod gemma3n;
mod gemma4;
mod vaultgemma;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] =
    architectures![gemma, gemma2, gemma3, gemma3n, gemma4, vaultgemma];
