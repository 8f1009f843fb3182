//! Inclusion AI's Ling and Ring.

mod bailing_moe;
mod bailing_moe_linear;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] = architectures![bailing_moe, bailing_moe_linear];
