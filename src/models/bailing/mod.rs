//! Inclusion AI's Ling and Ring.

mod bailing_hybrid;
mod bailing_moe;
mod bailing_moe_linear;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] =
    architectures![bailing_hybrid, bailing_moe, bailing_moe_linear];
