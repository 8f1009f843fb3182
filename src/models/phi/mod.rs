//! Microsoft's Phi.

mod phi;
mod phi3;
mod phi3small;
mod phimoe;
mod phixtral;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] =
    architectures![phi, phi3, phi3small, phimoe, phixtral];
