//! Mellum 2 (JetBrains 2026): Qwen 3 MoE with a rotation for layers within a window, and one for
//! those that see all positions.

use serde_json::json;

use crate::error::Result;
use crate::models::config::{ConfigFile, LayerType, RopeDefaults};
use crate::models::qwen::experts;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{
    AttentionSpan, ExpertNames, Moe, Norm, PredictionConfig, PredictionNames, PredictionPlace,
    QkNorm,
};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture = Architecture::new(&["mellum"], build)
    .with_eps(1e-6)
    .ignoring(|_, tensor| tensor.starts_with("mtp."));

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &file.with_defaults([
        ("norm_topk_prob", json!(true)),
        ("num_experts_per_tok", json!(8)),
        ("sliding_window_pattern", json!(1)),
    ]);
    let global = file.rope_parameters_of("full_attention");
    let rope = RopeDefaults::base(500_000.0);
    let mut decoder = global.as_ref().unwrap_or(file).decoder(&rope)?;
    decoder.attention.qk_norm = Some(QkNorm::each_head(Norm::rms, decoder.eps));
    let local = file.local_rope(decoder.attention.head_dim)?;
    for (layer, window) in decoder.layers.iter_mut().zip(file.windows(1024, 1)?) {
        layer.span = window.into();
        layer.rope = if window.is_some() { Some(local.clone()) } else { layer.rope.take() };
    }
    // The layer of the prediction head looks at a window where nothing else is said.
    let kinds: Option<Vec<LayerType>> = file.optional("mtp_layer_types")?;
    let is_near = kinds.is_none_or(|kinds| kinds.first() != Some(&LayerType::FullAttention));
    let like =
        decoder.layers.iter().rposition(|layer| (layer.span != AttentionSpan::Full) == is_near);
    let (place, names) = (PredictionPlace::BesideHead("mtp"), PredictionNames::QWEN);
    decoder.prediction = like.map(|like| PredictionConfig { place, names, like });
    let config = experts(file, decoder.attention.dims)?;
    let names = ExpertNames::default();
    Ok(Box::new(decoder.build(w, |_, w| Ok(Box::new(Moe::new(&w.at("mlp"), config, names)?)))?))
}
