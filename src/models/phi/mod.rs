//! Microsoft's Phi.

mod phi;
mod phi3;
mod phimoe;
mod phixtral;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] = architectures![phi, phi3, phimoe, phixtral];
