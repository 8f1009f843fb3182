//! Stable LM (Stability AI 2024): layer norms, a rotation of the first part of each head, and in
//! the larger models parallel blocks and a norm of its own for each query and key head.

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel, mlp};
use crate::error::Result;
use crate::nn::{Norm, NormLayout, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["stablelm"], build);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let share = Some(0.25);
    let rope = RopeDefaults { base: Some(10_000.0), traditional: false, share };
    let mut decoder = file.decoder(&rope)?;
    decoder.norm = Norm::layer;
    decoder.attention.qkv_bias = file.flag("use_qkv_bias")?;
    if file.flag("use_parallel_residual")? {
        decoder.layout = NormLayout::PARALLEL;
    }
    if file.flag("qk_layernorm")? {
        decoder.attention.qk_norm = Some(
            QkNorm::each_head_apart(Norm::layer_per_head, decoder.eps)
                .named(["q_layernorm", "k_layernorm"]),
        );
    }
    Ok(Box::new(decoder.build(w, mlp(file, decoder.attention.dims)?)?))
}
