//! Microsoft's Phi.

mod phi;
mod phi3;
mod phimoe;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] = architectures![phi, phi3, phimoe];
