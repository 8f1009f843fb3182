//! Models of the GPT family.

mod codegen;
mod ctrl;
mod gpt2;
mod gpt_bigcode;
mod gpt_neo;
mod gpt_neox;
mod gpt_neox_japanese;
mod gpt_oss;
mod gptj;
mod openai_gpt;

use super::Architecture;

pub(super) const ARCHITECTURES: &[Architecture] = architectures![
    codegen,
    ctrl,
    gpt2,
    gpt_bigcode,
    gpt_neo,
    gpt_neox,
    gpt_neox_japanese,
    gpt_oss,
    gptj,
    openai_gpt
];

/// GPT-2's names of fields, behind those that they have elsewhere.
const FIELDS: [(&str, &str); 6] = [
    ("hidden_size", "n_embd"),
    ("num_hidden_layers", "n_layer"),
    ("num_attention_heads", "n_head"),
    ("max_position_embeddings", "n_positions"),
    ("intermediate_size", "n_inner"),
    ("hidden_act", "activation_function"),
];
