//! Models of the GPT family.

mod gpt2;
mod gpt_bigcode;
mod gpt_neo;
mod gpt_neox;
mod gpt_oss;
mod gptj;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] =
    architectures![gpt2, gpt_bigcode, gpt_neo, gpt_neox, gpt_oss, gptj];
