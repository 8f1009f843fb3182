//! Gear (2026): Gemma 3's layers, some of which have gated convolutions in place of attention.

use serde::Deserialize;
use serde_json::json;

use super::config::{ConfigFile, RopeDefaults};
use super::{Architecture, LanguageModel};
use crate::error::Result;
use crate::nn::{Activation, GatedConv, Mlp, Norm, NormLayout, QkNorm};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["gear"], build)
    .with_eps(1e-6)
    .ignoring(|_, tensor| tensor.ends_with("embed_scale"));

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    FullAttention,
    SlidingAttention,
    ConvMixer,
}

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    file.refuse_looking_ahead()?;
    let file = &file.with_defaults([("tie_word_embeddings", json!(true))]);
    let mut decoder = file.decoder(&RopeDefaults::base(1_000_000.0))?;
    decoder.norm = Norm::rms_plus_one;
    decoder.layout = NormLayout::SANDWICH;
    decoder.embedding_scale = Some((decoder.attention.dims as f32).sqrt());
    // 0 stands for no bound.
    let cap =
        |field: &str| -> Result<_> { Ok(file.optional::<f32>(field)?.filter(|&cap| cap != 0.0)) };
    decoder.logit_cap = cap("final_logit_softcapping")?;
    decoder.attention.soft_cap = cap("attn_logit_softcapping")?;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms_plus_one, decoder.eps));
    let scalar: Option<f32> = file.optional("query_pre_attn_scalar")?;
    decoder.attention.scale = scalar.map(|scalar| scalar.sqrt().recip());
    let kinds = match file.layer_kinds::<Kind>()? {
        Some(kinds) => kinds,
        None => vec![Kind::FullAttention; file.layers()?],
    };
    let window = file.size_or("sliding_window", 512)?;
    let local = file.local_rope(decoder.attention.head_dim)?;
    for (layer, &kind) in decoder.layers.iter_mut().zip(&kinds) {
        if kind == Kind::SlidingAttention {
            layer.span = Some(window).into();
            layer.rope = Some(local.clone());
        }
    }
    let kernel = file.size_or("conv_L_cache", 3)?;
    let activation = file.optional("hidden_activation")?.unwrap_or(Activation::GeluTanh);
    let (dims, hidden) = (decoder.attention.dims, file.size("intermediate_size")?);
    Ok(Box::new(decoder.build_hybrid(
        w,
        |index, w| match kinds[index] {
            Kind::ConvMixer => {
                let layer = decoder.layers[index].clone();
                let mixer = w.at("local_mixer");
                Ok(Box::new(GatedConv::new(&mixer, &decoder.attention, layer, kernel)?))
            }
            Kind::FullAttention | Kind::SlidingAttention => decoder.attention(index, w),
        },
        |_, w| Ok(Box::new(Mlp::new(&w.at("mlp"), dims, hidden, false, activation)?)),
    )?))
}
