//! Mistral AI's models that are not Llama.

mod ministral3;
mod mistral4;
mod mixtral;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] = architectures![ministral3, mistral4, mixtral];
