//! Qwen 3.5 (Qwen Team 2026), dense and with experts: the layers of Qwen 3 Next with other
//! projections. Of checkpoints that also see images, the language model; and those of two bits whose
//! inputs are rotated (Prism).

use serde_json::json;

use super::qwen3_next::{build_hybrid, experts_and_shared};
use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, mlp};
use crate::nn::DeltaProjections;
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["qwen3_5", "qwen3_5_moe", "prism_hadamard_qwen35"], build)
        .with_eps(1e-6)
        .ignoring(|_, tensor| tensor.starts_with("mtp."));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([
        ("hidden_size", json!(4096)),
        ("intermediate_size", json!(14336)),
        ("num_hidden_layers", json!(32)),
        ("num_attention_heads", json!(32)),
        ("num_key_value_heads", json!(8)),
        ("vocab_size", json!(151_936)),
        ("linear_num_value_heads", json!(64)),
        ("linear_num_key_heads", json!(16)),
        ("linear_key_head_dim", json!(192)),
        ("linear_value_head_dim", json!(128)),
        ("linear_conv_kernel_dim", json!(4)),
        ("norm_topk_prob", json!(true)),
    ]);
    let file = &file.with_head_dim_of(w)?;
    let share = Some(0.25);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: false, share };
    let decoder = file.decoder(&rope)?;
    let dims = decoder.attention.dims;
    let projections = DeltaProjections::Separate;
    if file.optional::<i32>("num_experts")?.is_some_and(|experts| experts > 0) {
        let experts = experts_and_shared(file, dims)?;
        build_hybrid(file, w, decoder, projections, |_, w| experts(w))
    } else {
        build_hybrid(file, w, decoder, projections, mlp(file, dims)?)
    }
}
