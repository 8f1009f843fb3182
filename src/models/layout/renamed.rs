//! Published tensors by mlx-lm's names.

use super::super::config::ConfigFile;
use super::tensors::Tensors;
use crate::error::Result;
use crate::mlx::ops;

/// GPT-J.
pub(super) fn gptj(tensors: &mut Tensors) {
    tensors.rename(|name| match name.strip_prefix("transformer.") {
        Some(rest) => format!("model.{rest}"),
        None => name,
    });
}

/// nanochat.
pub(super) fn nanochat(tensors: &mut Tensors) {
    const NAMES: [(&str, &str); 8] = [
        ("model.embed_tokens.", "transformer.wte."),
        ("model.layers.", "transformer.h."),
        (".self_attn.q_proj.", ".attn.c_q."),
        (".self_attn.k_proj.", ".attn.c_k."),
        (".self_attn.v_proj.", ".attn.c_v."),
        (".self_attn.o_proj.", ".attn.c_proj."),
        (".mlp.fc1.", ".mlp.c_fc."),
        (".mlp.fc2.", ".mlp.c_proj."),
    ];
    tensors.rename(|name| NAMES.iter().fold(name, |name, (old, new)| name.replace(old, new)));
}

/// GPT NeoX.
pub(super) fn gpt_neox(tensors: &mut Tensors) {
    tensors.rename(|name| {
        let name = if name.starts_with("model.") { name } else { format!("model.{name}") };
        name.replace(".gpt_neox.layers.", ".h.").replace(".gpt_neox.", ".")
    });
}

/// Laguna's router.
pub(super) fn laguna(tensors: &mut Tensors) {
    const CORRECTION: &str = ".e_score_correction_bias";
    tensors.rename(|name| {
        let name = name.replace(".mlp.gate.weight", ".mlp.gate.proj.weight");
        name.replace(&format!(".experts{CORRECTION}"), &format!(".gate{CORRECTION}"))
    });
}

/// The router of Ling.
pub(super) fn bailing_router(tensors: &mut Tensors) {
    tensors.rename(|name| {
        let name = name.replace(".mlp.gate.weight", ".mlp.gate.gate_proj.weight");
        name.replace(".mlp.gate.bias", ".mlp.gate.gate_proj.bias")
    });
}

/// The token embeddings under another name.
pub(super) fn embedding(tensors: &mut Tensors, path: &str) {
    tensors.rename(|name| match name.strip_prefix("model.embed_tokens.") {
        Some(leaf) => format!("{path}.{leaf}"),
        None => name,
    });
}

/// DeepSeek V4.1, whose first output projection is a matrix for each group of heads.
pub(super) fn deepseek_v41(tensors: &mut Tensors, config: &ConfigFile) -> Result<()> {
    const NAMES: [(&str, &str); 23] = [
        (".attn.", ".self_attn."),
        (".ffn.switch_mlp.", ".mlp.experts.switch_mlp."),
        (".ffn.", ".mlp."),
        (".attn_norm.", ".input_layernorm."),
        (".ffn_norm.", ".post_attention_layernorm."),
        (".hc_attn_", ".attn_hc."),
        (".hc_ffn_", ".ffn_hc."),
        (".attn_sink", ".sinks"),
        (".wq_a.", ".q_a_proj."),
        (".wq_b.", ".q_b_proj."),
        (".wkv.", ".kv_proj."),
        (".wgate.", ".gate_proj."),
        (".wo_a.", ".o_a_proj."),
        (".wo_b.", ".o_b_proj."),
        (".q_norm.", ".q_a_norm."),
        (".compressor.norm.", ".compressor.kv_norm."),
        (".indexer.wk.", ".indexer.k_proj."),
        (".gate.bias", ".gate.e_score_correction_bias"),
        (".shared_experts.w1.", ".shared_experts.gate_proj."),
        (".shared_experts.w2.", ".shared_experts.down_proj."),
        (".shared_experts.w3.", ".shared_experts.up_proj."),
        ("model.embed.", "model.embed_tokens."),
        ("model.head.", "lm_head."),
    ];
    if !tensors.names(|name| name.starts_with("model.")).is_empty() {
        return Ok(());
    }
    tensors.rename(|name| {
        let name = format!("model.{name}");
        NAMES.iter().fold(name, |name, (published, own)| name.replace(published, own))
    });
    let groups = config.size("o_groups")?;
    tensors.change(
        |name| name.contains(".o_a_proj."),
        |_, array| match *array.shape() {
            [rows, columns] => ops::reshape(array, &[groups, rows / groups, columns]),
            _ => Ok(array.clone()),
        },
    )
}
