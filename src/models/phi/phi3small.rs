//! Phi 3 Small (Abdin et al. 2024): layer norms and biases everywhere, factors as µP has them (Yang
//! et al. 2022), a gated MLP of bounded halves, and most layers with block-sparse attention.

use serde_json::json;

use super::phimoe::with_attention_factor;
use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    Activation, AttentionSpan, BlockPattern, Combine, FusedOrder, Mlp, Norm, clipped_swiglu,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["phi3small"], build);

/// The field that says which layers attend to all positions.
const DENSE: &str = "dense_attention_every_n_layers";

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = file
        .renamed(&[
            ("intermediate_size", "ff_intermediate_size"),
            ("rope_theta", "rope_embedding_base"),
        ])
        .with_defaults([
            ("vocab_size", json!(100_352)),
            ("hidden_size", json!(4096)),
            ("num_hidden_layers", json!(32)),
            ("num_attention_heads", json!(32)),
            ("num_key_value_heads", json!(8)),
            ("intermediate_size", json!(14_336)),
            ("max_position_embeddings", json!(8192)),
            (DENSE, json!(2)),
        ]);
    let mut file = with_attention_factor(&file, "rope_scaling")?;
    let position_scale: f32 = file.optional("rope_position_scale")?.unwrap_or(1.0);
    if position_scale != 1.0 {
        let scaling = json!({"rope_type": "linear", "factor": position_scale.recip()});
        file = file.with([("rope_scaling", scaling)]);
    }
    let file = &file;
    let factor = |field: &str, default: f32| -> Result<_> {
        Ok(file.unless_null(field, default)?.filter(|&factor: &f32| factor > 0.0))
    };
    let mut decoder = file.decoder(&RopeDefaults::base(1_000_000.0))?;
    decoder.norm = Norm::layer;
    decoder.names.norm = "final_layernorm";
    decoder.attention.qkv = &["query_key_value"];
    decoder.attention.fused_order = FusedOrder::ByKeyHead;
    decoder.attention.qkv_bias = true;
    decoder.attention.output = "dense";
    decoder.attention.output_bias = true;
    if file.flag_on("mup_use_scaling")? {
        let multiplier = factor("mup_attn_multiplier", 1.0)?.unwrap_or(1.0);
        decoder.attention.scale = Some(multiplier / decoder.attention.head_dim as f32);
    }
    decoder.embedding_scale = factor("mup_embedding_multiplier", 10.0)?;
    decoder.logit_scale = factor("mup_width_multiplier", 8.0)?.map(f32::recip);
    decoder.tied = Some(file.optional("tie_word_embeddings")?.unwrap_or(true));
    decoder.unwritten = unwritten();
    let pattern = pattern(file, decoder.attention.heads)?;
    let dense = match file.optional::<i64>(DENSE)? {
        Some(0) | None => None,
        Some(_) => Some(file.size(DENSE)?.unsigned_abs() as usize),
    };
    for (index, layer) in decoder.layers.iter_mut().enumerate() {
        if !dense.is_some_and(|every| (index + 1).is_multiple_of(every)) {
            layer.span = AttentionSpan::BlockSparse(pattern);
        }
    }
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    let limit = file.unless_null("gegelu_limit", 20.0)?.unwrap_or(f32::INFINITY);
    let combine = Combine { function: clipped_swiglu, numbers: [limit, 1.702] };
    Ok(Box::new(decoder.build(w, |_, w| {
        let (w, names) = (w.at("mlp"), ["up_proj", "down_proj"]);
        let mlp = Mlp::fused_by_turns(&w, names, dims, hidden, true, Activation::Silu)?;
        Ok(Box::new(mlp.combined(combine)))
    })?))
}

/// The blocks that layers see which do not attend to all positions.
fn pattern(file: &ConfigFile, heads: i32) -> Result<BlockPattern> {
    let stride = file.size_or("blocksparse_vert_stride", 8)?;
    let alike = file.flag("blocksparse_homo_head_pattern")?;
    Ok(BlockPattern {
        size: file.size_or("blocksparse_block_size", 64)?,
        local: file.size_or("blocksparse_num_local_blocks", 16)?,
        stride,
        step: if alike { 0 } else { (stride / heads).max(1) },
        heads,
    })
}

/// The ids of the tokenizer that stand for nothing.
fn unwritten() -> Vec<u32> {
    [100_256, 100_264, 100_265]
        .into_iter()
        .chain(100_258..=100_260)
        .chain(100_267..100_352)
        .collect()
}
