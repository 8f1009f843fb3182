//! Gemma 3 (Gemma Team 2025): Gemma 2 without bounds, with a norm over each query and key head, and
//! two rotations: one for layers within a window, one for every few layers that see all positions.
//! Of checkpoints that also see images, the language model.

use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{Activation, Mlp, NormKind, NormLayout, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture {
    name: "gemma3",
    model_types: &["gemma3_text", "gemma3"],
    build: |file, w| match file.model_type()?.as_str() {
        "gemma3" => {
            let text = file.text_part()?;
            let heads = [("num_attention_heads", json!(8)), ("num_key_value_heads", json!(4))];
            build(&text.with_defaults(heads), &w.at("language_model"))
        }
        _ => build(file, w),
    },
    ignores: |_, tensor| {
        tensor.starts_with("vision_tower.") || tensor.starts_with("multi_modal_projector.")
    },
};

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    file.refuse_looking_ahead()?;
    let file = &file.with_defaults([
        ("hidden_size", json!(1152)),
        ("num_hidden_layers", json!(26)),
        ("intermediate_size", json!(6912)),
        ("num_attention_heads", json!(4)),
        ("num_key_value_heads", json!(1)),
        ("head_dim", json!(256)),
        ("rms_norm_eps", json!(1e-6)),
        ("vocab_size", json!(262_144)),
    ]);
    let global = file.rope_parameters_of("full_attention");
    let mut decoder = global.as_ref().unwrap_or(file).decoder(&RopeDefaults::base(1_000_000.0))?;
    decoder.norm = NormKind::RmsPlusOne;
    decoder.layout = NormLayout::Sandwich;
    decoder.tied = None;
    decoder.attention.qk_norm = QkNorm::HeadPlusOne(decoder.eps);
    decoder.attention.soft_cap = file.optional("attn_logit_softcapping")?;
    decoder.logit_cap = file.optional("final_logit_softcapping")?;
    let scalar: f32 = file.optional("query_pre_attn_scalar")?.unwrap_or(256.0);
    decoder.attention.scale = Some(scalar.sqrt().recip());
    // The factor was rounded so when the models were trained.
    let scale = half::bf16::from_f32((decoder.attention.dims as f32).sqrt());
    decoder.embedding_scale = Some(scale.to_f32());
    let local = file.local_rope(decoder.attention.head_dim)?;
    for (layer, window) in decoder.layers.iter_mut().zip(file.windows(512, 6)?) {
        layer.window = window;
        layer.rope = if window.is_some() { Some(local.clone()) } else { layer.rope.take() };
    }
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    Ok(Box::new(decoder.build(w, |_, w| {
        Ok(Box::new(Mlp::new(&w.at("mlp"), dims, hidden, false, Activation::GeluTanh)?))
    })?))
}
