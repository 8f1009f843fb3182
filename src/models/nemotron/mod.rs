//! NVIDIA's Nemotron.

mod nemotron;
mod nemotron_h;
mod nemotron_nas;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] =
    architectures![nemotron, nemotron_h, nemotron_nas];
