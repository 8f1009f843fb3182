//! LG AI Research's EXAONE.

mod exaone;
mod exaone4;
mod exaone_moe;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] = architectures![exaone, exaone4, exaone_moe];
