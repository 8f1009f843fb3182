//! Gemma 3 (Gemma Team 2025): Gemma 2 without bounds, with a norm over each query and key head, and
//! two rotations: one for layers within a window, one for every few layers that see all positions.
//! Of checkpoints that also see images, the language model. EmbeddingGemma is one whose tokens see
//! the whole text.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, RopeDefaults};
use crate::models::{Architecture, LanguageModel, WholeDecoder};
use crate::nn::{AttentionSpan, Mlp, Norm, NormLayout, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["gemma3"], build).with_eps(1e-6);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let sees_whole = file.flag("use_bidirectional_attention")?;
    // Beside other parts they are those of a larger model.
    let (heads, kv_heads) = if file.is_part() { (8, 4) } else { (4, 1) };
    let file = &file.with_defaults([
        ("hidden_size", json!(1152)),
        ("num_hidden_layers", json!(26)),
        ("intermediate_size", json!(6912)),
        ("num_attention_heads", json!(heads)),
        ("num_key_value_heads", json!(kv_heads)),
        ("head_dim", json!(256)),
        ("vocab_size", json!(262_144)),
    ]);
    let global = file.rope_parameters_of("full_attention");
    let mut decoder = global.as_ref().unwrap_or(file).decoder(&RopeDefaults::base(1_000_000.0))?;
    decoder.norm = Norm::rms_plus_one;
    decoder.layout = NormLayout::SANDWICH;
    decoder.tied = None;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms_plus_one, decoder.eps));
    decoder.attention.soft_cap = file.optional("attn_logit_softcapping")?;
    decoder.logit_cap = file.optional("final_logit_softcapping")?;
    let scalar: f32 = file.optional("query_pre_attn_scalar")?.unwrap_or(256.0);
    decoder.attention.scale = Some(scalar.sqrt().recip());
    // The factor was rounded so when the models were trained.
    let scale = half::bf16::from_f32((decoder.attention.dims as f32).sqrt());
    decoder.embedding_scale = Some(scale.to_f32());
    let local = file.local_rope(decoder.attention.head_dim)?;
    for (layer, window) in decoder.layers.iter_mut().zip(file.windows(4096, 6)?) {
        layer.span = match (sees_whole, window) {
            (false, window) => window.into(),
            (true, None) => AttentionSpan::Whole,
            // The window is what a token sees to both sides.
            (true, Some(window)) => AttentionSpan::Around(window / 2),
        };
        layer.rope = if window.is_some() { Some(local.clone()) } else { layer.rope.take() };
    }
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    let activation = file.hidden_activation()?;
    let decoder = decoder
        .build(w, |_, w| Ok(Box::new(Mlp::new(&w.at("mlp"), dims, hidden, false, activation)?)))?;
    Ok(if sees_whole { Box::new(WholeDecoder(decoder)) } else { Box::new(decoder) })
}
